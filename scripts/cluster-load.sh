#!/usr/bin/env bash
# Loads images into the node of `make cluster`.
# In:  image tars (default: those of `make image`, target/images/*.tar).
# Out: the names that the node now knows.
set -euo pipefail

scripts=$(cd "$(dirname "$0")" && pwd)
. "$scripts/cluster-node.sh"

[ $# -gt 0 ] || set -- "$scripts"/../target/images/*.tar
for tar in "$@"; do
  # The path is the same on the node, but for the folders that are its own.
  node_run ctr --namespace k8s.io images import - <"$tar"
done
