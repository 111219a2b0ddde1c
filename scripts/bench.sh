#!/usr/bin/env bash
# Both benchmarks, on release builds: the data plane against its peers, the control plane on a real API server.
# In:  nothing; arguments go to neither. Out: Markdown tables on standard output.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
. scripts/need.sh
need rust go kubectl python openssl
scripts/fetch-envoy.sh
scripts/bench-peers.sh
scripts/build-kube.sh kube-apiserver etcd
cargo build --release --bins
echo "# Benchmarks"
echo
echo "$(nproc) processors, $(uname -r), $(rustc --version)"
target/release/sluice-bench data
target/release/sluice-bench features
if command -v valgrind >/dev/null; then target/release/sluice-bench instructions; fi
target/release/sluice-bench control
