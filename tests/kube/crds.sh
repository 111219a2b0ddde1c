#!/usr/bin/env bash
# Proves with a real API server that our CRDs take what people type and refuse what Istio's refuse.
# In:  crds/, tests/seeds/ (the tutorials' objects, in their order); optionally the kubeconfig file of a cluster whose
#      Istio CRDs may be replaced. Never $KUBECONFIG: it may be a cluster with a mesh at work. Without the argument a
#      server of its own in $SLUICE_CACHE/kube/run/crds, ended at the end.
# Out: one line for each broken expectation, then the counts; 1 when there was any. About 15 s.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
cache=$(realpath -m "${SLUICE_CACHE:-$root/.cache}")
namespace=sluice-crds-$$ # a server without controllers never gets rid of a deleted namespace
checked=0
broken=0

if [ $# -gt 0 ]; then
  KUBECONFIG=$(realpath "$1")
  export KUBECONFIG
else
  cluster=$cache/kube/run/crds
  mkdir -p "$cache/kube/run"
  exec 8>"$cluster.lock"
  flock 8 # one folder, one run
  trap '"$root/scripts/kube-down.sh" "$cluster"' EXIT
  "$root/scripts/kube-up.sh" "$cluster"
  export KUBECONFIG=$cluster/kubeconfig
fi
PATH=$PATH:$cache/kube/bin
cd "$root"

kube() { kubectl --namespace "$namespace" --request-timeout=10s "$@"; }

# expect WORDS COMMAND…: the command succeeds.
expect() {
  local words=$1 said
  shift
  checked=$((checked + 1))
  said=$("$@" 2>&1) && return
  broken=$((broken + 1))
  printf 'BROKEN %s\n%s\n' "$words" "$said"
}

# says PATTERN COMMAND…: the command's output, failed or not, has the pattern.
says() {
  local pattern=$1 said
  shift
  said=$("$@" 2>&1) || true
  grep -q -- "$pattern" <<<"$said" || { echo "no '$pattern' in: $said"; return 1; }
}

apply() { kube apply --validate=strict -f "$@"; }

# An object on standard input is refused, and the refusal has the pattern.
refuses() {
  local words=$1 pattern=$2 object
  object=$(cat)
  expect "$words" says "$pattern" apply - <<<"$object"
}

virtual_service() {
  printf 'apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: refused}\nspec:\n'
  printf '  hosts: [reviews]\n  http:\n  - %s\n    route: [{destination: {host: reviews}}]\n' "$1"
}

destination_rule() {
  printf 'apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: refused}\nspec: %s\n' "$1"
}

expect "the CRDs are applied" kubectl apply -f crds/
expect "each is established" kubectl wait --for=condition=Established --timeout=30s -f crds/
kubectl create namespace "$namespace" >/dev/null

for object in tests/seeds/*.yaml; do expect "$object is accepted" apply "$object"; done
expect "an object applied again changes nothing" says unchanged apply tests/seeds/39-003-VirtualService-ratings.yaml

refuses "an unknown field" 'unknown field "spec.http\[0\].retry"' < <(virtual_service 'retry: {attempts: 3}')
refuses "two ways to match a path" 'spec.http\[0\].match\[0\].uri' < <(virtual_service 'match: [{uri: {exact: /a, prefix: /b}}]')
refuses "a timeout without a unit" 'spec.http\[0\].timeout' < <(virtual_service 'timeout: "3"')
refuses "a fraction of the integer mirror_percent" 'mirror_percent.*must be of type integer' \
  < <(virtual_service 'mirror_percent: 12.5')
refuses "a simple and a hashing load balancer" 'loadBalancer' \
  < <(destination_rule '{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}}')
refuses "a DestinationRule without a host" 'spec.host: Required' < <(destination_rule '{}')

expect "explain reaches a path's match" says 'prefix.*<string>' kubectl explain vs.spec.http.match.uri
expect "get shows a VirtualService's columns" says '^NAME *GATEWAYS *HOSTS *AGE$' kube get vs
expect "get shows a DestinationRule's columns" says '^NAME *HOST *AGE$' kube get dr
expect "get finds gateways by gw" says '^ecommerce-gateway ' kube get gw
for version in v1alpha3 v1beta1 v1; do
  expect "an old object is served as $version" says "apiVersion: networking.istio.io/$version\$" \
    kube get "virtualservices.$version.networking.istio.io" reviews -o yaml
done
expect "status is a subresource" kube patch vs reviews --subresource=status --type=merge \
  -p '{"status": {"observedGeneration": 1, "conditions": [{"type": "Reconciled", "status": "True"}]}}'

kubectl delete namespace "$namespace" --wait=false >/dev/null
echo "crds: $checked expectations, $broken broken"
[ "$broken" = 0 ]
