#!/usr/bin/env bash
# Every test, from nothing: gets what it needs, builds, and runs. `make test` and `.ci/run` call it.
# In:  nothing, or `kube` for the suites on a real kube-apiserver only; SLUICE_CACHE as in build-kube.sh.
# Out: the runners' own summaries; at the end the number of tests that could not run, with their reasons.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
. scripts/need.sh
cache="${SLUICE_CACHE:-$root/.cache}"
out=$(mktemp)
trap 'rm -f "$out"' EXIT

say() { printf '\n== %s\n' "$*"; }

fetch() {
  say "programs that the tests need"
  need rust go kubectl python openssl
  need iptables || true
  scripts/fetch-envoy.sh
}

# Kubernetes takes minutes to build once: it does so beside cargo. So does the collector of the tests about spans.
start_kube_build() {
  mkdir -p "$cache"
  { scripts/build-otelcol.sh && scripts/build-kube.sh kube-apiserver etcd; } >"$cache/build-kube.log" 2>&1 &
  kube_build=$!
}

end_kube_build() {
  wait "$kube_build" || { cat "$cache/build-kube.log"; exit 1; }
}

# The tests of whole processes are in tests/; all others are units. Everything is built for the whole workspace, always
# with the same features: then it is built once.
of_processes() { basename --suffix=.rs tests/tests/*.rs && echo e2e; }

of_units() { basename --suffix=.rs crates/*/tests/*.rs tests/memory/tests/*.rs | sort --unique; }

run_units() {
  cargo test --workspace --lib --bins $(of_units | sed 's/^/--test /') --quiet 2>&1 | tee -a "$out"
}

run_processes() { # NAME…
  cargo test --workspace $(printf -- '--test %s ' "$@") -- --nocapture 2>&1 | tee -a "$out"
}

all() {
  fetch
  start_kube_build
  say "format"
  cargo fmt --all --check
  say "lints"
  cargo clippy --workspace --all-targets --quiet -- -D warnings
  say "programs and tests"
  cargo build --workspace --bins --tests --quiet
  say "units, properties, goldens"
  run_units
  end_kube_build
  say "corpus through our processes and through Envoy, live changes, spans, a real API server"
  run_processes $(of_processes)
  say "custom resource definitions on a real API server"
  tests/kube/crds.sh 2>&1 | tee -a "$out"
  say "the chart, on a real API server"
  tests/chart/chart.sh 2>&1 | tee -a "$out"
  say "make e2e, the whole in a real cluster, is a suite of its own: with the building of images it takes longer than the rest"
}

kube() {
  fetch
  start_kube_build
  cargo build --workspace --bins --tests --quiet
  end_kube_build
  run_processes kube status admission identity
  tests/kube/crds.sh
  tests/chart/chart.sh
}

case "${1:-all}" in
  all) all ;;
  kube) kube ;;
  *) echo "test.sh: unknown suite $1" >&2; exit 2 ;;
esac

say "summary"
passed=$(grep -E '^test result:' "$out" | sed -E 's/.* ([0-9]+) passed.*/\1/' | awk '{sum += $1} END {print sum + 0}')
failed=$(grep -E '^test result:' "$out" | sed -E 's/.* ([0-9]+) failed.*/\1/' | awk '{sum += $1} END {print sum + 0}')
skipped=$(grep -c '^SKIPPED ' "$out" || true)
grep '^SKIPPED ' "$out" || true
echo "$passed passed, $failed failed, $skipped skipped"
