#!/usr/bin/env bash
# The whole in a real cluster: images, Helm's release with two replicas and the gateway, Bookinfo with sidecars, the
# tutorials by kubectl, and restarts of everything under load; then upgrade and uninstall.
# In:  full (default) or smoke, which leaves out what takes minutes;
#      KUBECONFIG, a cluster of yours (the suite's namespaces are sluice-e2e-* and istio-system, which must not exist;
#      load the images first, as docs/cluster.md says); without it the node of cluster-up.sh is made, and ended;
#      SLUICE_E2E_KEEP=1 leaves cluster and release as they are, to look at them;
#      SLUICE_E2E_ONLY, some of strict,bookinfo,shop,availability; SLUICE_IMAGE_PROFILE as in image.sh; SLUICE_CACHE.
# Out: what each step took, the counts of requests; 0, or 1 with what went wrong; 77 where no cluster can be made.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
. scripts/need.sh
cache=${SLUICE_CACHE:-$root/.cache}
mode=${1:-full}
case $mode in full | smoke) ;; *) echo "e2e.sh: unknown mode $mode" >&2; exit 2 ;; esac

chart=deploy/helm/sluice
release=(--namespace istio-system --values "$chart/profiles/kind.yaml" --values tests/kube/e2e-values.yaml)
forwards=()
ours=

say() { printf '\ne2e: %6d s  == %s\n' "$SECONDS" "$*"; }

fail() { echo "e2e: FAILED: $*" >&2; exit 1; }

helm() { "$cache/helm/helm" "$@"; }

use_cluster() {
  if [ -n "${KUBECONFIG:-}" ]; then
    kubectl get namespace istio-system >/dev/null 2>&1 && [ -z "${SLUICE_E2E_KEEP:-}" ] &&
      fail "istio-system exists: this cluster holds a mesh, the suite wants one without"
    return 0
  fi
  scripts/cluster-up.sh || exit $? # 77: it cannot be here
  ours=1
  export KUBECONFIG=$cache/cluster/kubeconfig SLUICE_E2E_NODE=1
}

make_images() {
  [ -n "$ours" ] || return 0 # loaded already, as docs/cluster.md says
  scripts/image.sh sluiced proxy bookinfo shop
  tests/image.sh
  scripts/cluster-load.sh >/dev/null
}

install() {
  kubectl create namespace istio-system --dry-run=client --output=yaml | kubectl apply -f - >/dev/null
  helm upgrade --install sluice "$chart" "${release[@]}" --timeout 120s >/dev/null
  kubectl --namespace istio-system rollout status deployment/sluiced --timeout=120s
  kubectl --namespace istio-system rollout status deployment/istio-ingressgateway --timeout=120s
}

# Our node's NodePorts are reached from here; a stranger's cluster by the API server.
find_gateway() {
  if [ -n "$ours" ]; then
    export SLUICE_E2E_GATEWAY=10.200.0.1:30080 SLUICE_E2E_GATEWAY_TLS=10.200.0.1:30443
    return
  fi
  forward 18080 80 && forward 18443 443
  export SLUICE_E2E_GATEWAY=127.0.0.1:18080 SLUICE_E2E_GATEWAY_TLS=127.0.0.1:18443
}

forward() { # HERE THERE: again whenever it breaks, as it does when the API server goes away
  (
    trap 'kill "$one" 2>/dev/null; exit 0' TERM
    while :; do
      kubectl --namespace istio-system port-forward service/istio-ingressgateway "$1:$2" >/dev/null 2>&1 &
      one=$!
      wait "$one" || true
      sleep 0.5
    done
  ) &
  forwards+=($!)
}

# The program that is in the image, when it was built here.
sluicectl() {
  local programs=(target/image/*/*/sluicectl)
  if [ -x "${programs[0]}" ]; then
    "$(ls -t "${programs[@]}" | head -n 1)" "$@"
  else
    cargo run --quiet --bin sluicectl -- "$@"
  fi
}

# Its pages it gets over forwarded ports; what it cannot see is no failure to `check`, but is one here.
check() {
  sluicectl check --wait 60
  sluicectl proxy-status | grep istio-ingressgateway >/dev/null || fail "sluicectl proxy-status does not show the gateway"
}

upgrade() {
  helm upgrade sluice "$chart" "${release[@]}" --set controlPlane.logLevel=debug --timeout 120s >/dev/null
  kubectl --namespace istio-system rollout status deployment/sluiced --timeout=120s
}

# What docs/install.md says stays, and what the node itself has, is none.
leftovers() {
  {
    kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings --output=name
    kubectl get deployments,daemonsets,jobs,pods,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets \
      --all-namespaces --output=name
    kubectl get configmaps,leases,secrets --all-namespaces --output=name
  } | grep -Ei 'sluice|istio' | grep -vE 'sluice-test:kube-proxy|/sluice-node$|^secret/istio-ca-secret$' || true
}

# Definitions stay by policy (deleting them would delete every user's rules); all else must be gone.
uninstall() {
  local left
  kubectl delete namespace sluice-e2e-bookinfo sluice-e2e-shop sluice-e2e-outside --ignore-not-found >/dev/null
  helm uninstall sluice --namespace istio-system --wait --timeout 120s >/dev/null
  # The garbage collector takes a moment for what the control plane wrote while it ran.
  for _ in $(seq 60); do
    left=$(leftovers)
    [ -n "$left" ] || break
    sleep 1
  done
  [ -z "$left" ] || fail "left after helm uninstall: $left"
  kubectl delete namespace istio-system >/dev/null
  echo "definitions that stay by policy: $(kubectl get crds --output=name | grep -cE 'istio.io|sluice.dev')"
}

end() {
  local status=$?
  for pid in "${forwards[@]}"; do kill "$pid" 2>/dev/null || true; done
  if [ "$status" != 0 ] && [ "$status" != 77 ]; then
    kubectl get pods --all-namespaces 2>/dev/null || true
  fi
  [ -z "$ours" ] || [ -n "${SLUICE_E2E_KEEP:-}" ] || scripts/cluster-down.sh
  echo "e2e: $mode took $SECONDS s, exit status $status"
}

SECONDS=0
need rust kubectl python openssl
say "a cluster"
use_cluster
trap end EXIT
trap 'exit 130' INT TERM HUP
say "images"
make_images
scripts/fetch-helm.sh
say "helm install: two replicas of the control plane, the gateway"
install
find_gateway
say "sluicectl check"
check
say "the tutorials and the restarts"
SLUICE_E2E_MODE=$mode cargo test --quiet --workspace --test e2e -- --nocapture
say "helm upgrade"
upgrade
say "sluicectl check, with everything running"
check
if [ -z "${SLUICE_E2E_KEEP:-}" ]; then
  say "helm uninstall"
  uninstall
fi
say "done"
