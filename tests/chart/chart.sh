#!/usr/bin/env bash
# The chart: what it renders, what its schema refuses, and what a real API server says to it.
# In:  deploy/helm/sluice; the built programs (SLUICE_PROGRAMS, default target/debug); HELM, a helm to use, else
#      scripts/fetch-helm.sh gets one. UPDATE=1 writes the goldens anew.
# Out: one line for each broken expectation with the difference, then the counts; 1 when there was any. About 30 s.
#      A golden is the default render, or another's difference from it; and what the control plane's account may do.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=$(realpath -m "${SLUICE_CACHE:-$root/.cache}")
cluster=$cache/kube/run/chart
work=$(mktemp -d)
checked=0
broken=0
cd "$root"
. scripts/kube-processes.sh
chart=deploy/helm/sluice

programs=$(realpath "${SLUICE_PROGRAMS:-target/debug}")
sluicectl=$programs/sluicectl

find_helm() {
  if [ -n "${HELM:-}" ]; then echo "$HELM"; return; fi
  scripts/fetch-helm.sh >&2 && echo "$cache/helm/helm"
}

helm=$(find_helm) || { echo "SKIPPED the chart's tests: helm cannot be had"; exit 0; }
PATH=$PATH:$cache/kube/bin
trap 'rm -rf "$work"; scripts/kube-down.sh "$cluster"' EXIT

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
  grep -q -- "$pattern" <<<"$said" || { echo "no '$pattern' in: ${said:0:2000}"; return 1; }
}

# The version is said, or goldens would depend on the helm that renders them.
render() {
  "$helm" template sluice "$chart" --namespace istio-system --set-json 'crds.install="never"' --kube-version 1.36.0 "$@"
}

# A new kind changes crds/ and not every golden: kinds of a group are one word here.
without_kinds() {
  awk '/apiGroups: \[[a-z]+\.(istio\.io|sluice\.dev)\]/ {ours = 1}
    ours && /resources:/ {sub(/\[.*\/status\]/, "[status of its kinds]") || sub(/\[.*\]/, "[its kinds]"); ours = 0}
    {print}'
}

# is_golden NAME FILE: FILE is what is kept under that name.
is_golden() {
  if [ "${UPDATE:-}" = 1 ]; then cp "$2" "$here/golden/$1"; fi
  diff -u "$here/golden/$1" "$2"
}

# Only what differs from the default is worth reading.
is_golden_difference() {
  local name=$1
  shift
  render "$@" >"$work/$name.yaml" || return 1
  without_kinds <"$work/$name.yaml" >"$work/$name.golden"
  diff -U 2 "$work/default.golden" "$work/$name.golden" | tail -n +3 | sed "s/^@@.*/@@/" >"$work/$name.diff"
  is_golden "$name.diff" "$work/$name.diff"
}

rendered() {
  expect "the chart passes the linter" "$helm" lint --strict "$chart"
  render >"$work/default.yaml"
  without_kinds <"$work/default.yaml" >"$work/default.golden"
  expect "the default" is_golden default.yaml "$work/default.golden"
  expect "the profile demo" is_golden_difference demo -f $chart/profiles/demo.yaml
  expect "the profile kind" is_golden_difference kind -f $chart/profiles/kind.yaml
  expect "every option" is_golden_difference everything -f "$here/values/everything.yaml"
  expect "a revision" is_golden_difference revision -f "$here/values/revision.yaml"
  "$helm" template public $chart --namespace public -f $chart/profiles/gateway.yaml --set gateways.public.enabled=true \
    --kube-version 1.36.0 >"$work/gateway.yaml"
  expect "a release of one gateway alone" is_golden gateway.yaml "$work/gateway.yaml"
  expect "a dashboard is JSON" dashboard_is_json
}

dashboard_is_json() { python3 -m json.tool $chart/files/dashboards/sluice.json >"$work/json"; }

# knows PROGRAM FLAG…: a chart that says what its program does not know ends in a crash loop.
knows() {
  local program=$1 known flag
  shift
  known=$("$program" --help) || return 1
  for flag in "$@"; do grep -q -e "^ *\(-., \)\?$flag\b" <<<"$known" || { echo "no flag $flag"; return 1; }; done
}

# Flags of `- --flag=value` and of `- --flag`, of the Deployments after the image's name.
flags_of() {
  awk -v image="image: .*/$1:" '$0 ~ image {on = 1} /^ *env:/ {on = 0} on && /^ *- "?--/ {print}' "${@:2}" |
    sed -E 's/^ *- "?(--[a-z-]+).*/\1/' | sort -u
}

flags() {
  local renders=("$work/default.yaml" "$work/everything.yaml")
  # shellcheck disable=SC2046 # flags have no blanks
  expect "sluiced knows every flag" knows "$programs/sluiced" $(flags_of sluiced "${renders[@]}")
  # shellcheck disable=SC2046
  expect "the proxy knows every flag" knows "$programs/sluice-proxy" $(flags_of proxy "${renders[@]}")
}

refuses() { expect "refused: $2" says "$1" render --set-json "$2"; }

schema() {
  refuses 'Additional property foo is not allowed' 'foo=1'
  refuses 'Additional property enablePrometheusMerge is not allowed' 'meshConfig.enablePrometheusMerge=false'
  refuses 'Additional property servic is not allowed' 'gateways.edge={"servic": {}}'
  refuses 'must be one of' 'meshConfig.outboundTrafficPolicy.mode="SOMETIMES"'
  refuses 'must be one of' 'crds.install="maybe"'
  refuses 'Must be less than or equal to 30' 'injection.timeoutSeconds=60'
  refuses 'Must validate one and only one schema' 'meshConfig.extensionProviders=[{"name": "zipkin", "zipkin": {}}]'
  refuses 'Does not match pattern' 'gateways={"Not_A_Name": {}}'
  refuses 'Does not match pattern' 'proxy.excludeIPRanges="ten"'
  refuses 'Does not match pattern' 'proxy.excludeInboundPorts="*"'
  refuses 'Does not match pattern' 'proxy.includeOutboundPorts="80,http"'
  refuses 'Must be greater than or equal to 1' 'proxy.includeInboundPorts=0'
  refuses 'Does not match pattern' 'proxy.resources.limits.memory="1 GB"'
  refuses 'Does not match pattern' 'proxy.logLevel="loud"'
}

kube() { kubectl --request-timeout=10s "$@"; }

# pod NAMESPACE LABELS: the API server is asked, and its webhooks, but nothing is made.
pod() {
  printf '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "%s", "labels": {%s}},
    "spec": {"containers": [{"name": "x", "image": "x"}]}}' "$1" "$2" | kube create --dry-run=server -f -
}

# A Deployment's pod, as its controller would make it: Pod Security judges pods.
pod_of() {
  kube -n istio-system get deployment "$1" -o json | python3 -c '
import json, sys
template = json.load(sys.stdin)["spec"]["template"]
template["metadata"].update(name="x", namespace="istio-system")
print(json.dumps({"apiVersion": "v1", "kind": "Pod", **template}))' | kube create --dry-run=server -f -
}

# Verbs of several rules come in any order.
sorted_verbs() {
  python3 -c '
import re, sys
for line in sys.stdin:
    print(re.sub(r"\[([a-z ]*)\]$", lambda all: "[" + " ".join(sorted(all[1].split())) + "]", line.rstrip()))'
}

may() {
  kube auth can-i --list --as=system:serviceaccount:istio-system:sluiced --namespace "$1" |
    sed -E 's/ +/ /g; s/^[a-z]+\.([a-z]+\.(istio\.io|sluice\.dev))/*.\1/' |
    grep -v -e '^ ' -e selfsubject -e Verbs | sorted_verbs | LC_ALL=C sort -u >"$work/may-$1.txt"
  is_golden "may-$1.txt" "$work/may-$1.txt"
}

upgrade() { "$helm" upgrade --install sluice $chart --namespace istio-system "$@"; }

accepted() {
  for name in default everything kind revision; do
    [ -e "$work/$name.yaml" ] || continue
    expect "the API server takes: $name" dry_run "$work/$name.yaml"
  done
}

# Monitors are of an operator that is not there.
dry_run() {
  python3 - "$1" >"$work/known.yaml" <<'PY'
import sys
parts = open(sys.argv[1]).read().split("\n---\n")
print("\n---\n".join(part for part in parts if "monitoring.coreos.com" not in part))
PY
  kube apply --dry-run=server -f "$work/known.yaml"
}

webhooks() {
  kube create namespace shop >/dev/null
  kube label namespace shop istio-injection=enabled >/dev/null
  kube create namespace plain >/dev/null
  kube create namespace revised >/dev/null
  kube label namespace revised istio.io/rev=default >/dev/null
  kube label namespace kube-system istio-injection=enabled >/dev/null
  local calls='failed calling webhook'
  expect "a pod of a labelled namespace is injected" says "$calls \"namespace.sidecar" pod shop ''
  expect "one that does not want it is not" pod shop '"sidecar.istio.io/inject": "false"'
  expect "a pod of another namespace is not" pod plain ''
  expect "one that wants it is" says "$calls \"object.sidecar" pod plain '"sidecar.istio.io/inject": "true"'
  expect "a pod of a namespace with our revision is" says "$calls \"rev.namespace" pod revised ''
  expect "a pod with our revision is" says "$calls \"rev.object" pod plain '"istio.io/rev": "default"'
  expect "one with another revision is not" pod plain '"istio.io/rev": "other"'
  expect "kube-system never is" pod kube-system ''
  kube label namespace istio-system istio-injection=enabled >/dev/null
  expect "the mesh itself never waits for its webhook" pod_of sluiced
  kube label namespace istio-system istio-injection- >/dev/null
  expect "objects get in while the validator is not answering yet" \
    kube -n plain create -f tests/seeds/39-003-VirtualService-ratings.yaml
}

field() { kube get "$1" "$2" -o "jsonpath={.webhooks[*]['clientConfig.caBundle','failurePolicy']}"; }

# sluiced writes into webhooks; helm must leave that alone.
upgrades() {
  local bundle before
  bundle=$(base64 -w0 <"$cluster/certs/ca.crt")
  kube patch validatingwebhookconfiguration sluice-validator --type=json -p "[
    {\"op\": \"add\", \"path\": \"/webhooks/0/clientConfig/caBundle\", \"value\": \"$bundle\"},
    {\"op\": \"replace\", \"path\": \"/webhooks/0/failurePolicy\", \"value\": \"Fail\"}]" >/dev/null
  kube patch mutatingwebhookconfiguration sluice-sidecar-injector --type=json -p "[
    {\"op\": \"add\", \"path\": \"/webhooks/0/clientConfig/caBundle\", \"value\": \"$bundle\"}]" >/dev/null
  before=$(field validatingwebhookconfiguration sluice-validator; field mutatingwebhookconfiguration sluice-sidecar-injector)
  expect "an upgrade" upgrade --set controlPlane.logLevel=debug
  expect "an upgrade leaves what sluiced wrote into webhooks" \
    test "$before" = "$(field validatingwebhookconfiguration sluice-validator; field mutatingwebhookconfiguration sluice-sidecar-injector)"
}

rule=destinationrules.networking.istio.io
alias_path=/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/trafficPolicy/properties/circuitBreaker

# A cluster where nothing runs: what is there is good, what is not has a name.
checks() {
  expect "check sees what is installed" says '√ definitions are installed' "$sluicectl" check
  expect "check sees the account's rights" says '√ sluiced may lead' "$sluicectl" check
  expect "check sees that it may not read every Secret" says '√ sluiced may not read every Secret' "$sluicectl" check
  expect "check sees that no replica is ready" says '0 of 2 are' "$sluicectl" check -o short
  expect "check sees that nobody leads" says 'there is no Lease sluice-leader' "$sluicectl" check -o short
  expect "check sees that the injector does not answer" says 'failed calling webhook "object.sidecar' "$sluicectl" check -o short
  expect "check sees that the validator does not answer" says 'it let a wrong object pass' "$sluicectl" check -o short
  expect "check has JSON" python3 -c 'import json, sys; assert json.loads(sys.argv[1])["success"] is False' \
    "$("$sluicectl" check -o json || true)"
  checked=$((checked + 1))
  if "$sluicectl" check >/dev/null; then broken=$((broken + 1)); echo "BROKEN check exits with 1"; fi
}

# until COMMAND…: it succeeds within a time.
until_it() {
  local deadline=$((SECONDS + 20))
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || { "$@"; return; }
    sleep 0.2
  done
}

port_of_our_own() {
  local port
  while port=$((20000 + RANDOM % 10000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

# The webhooks lead here instead of to a Service; all else of them stays.
lead_webhook_to() {
  kube get "$2" -o json | python3 -c '
import json, sys
object = json.load(sys.stdin)
for one in object["webhooks"]:
    client = one["clientConfig"]
    path = client.pop("service", {}).get("path", "")
    one["clientConfig"] = {"url": sys.argv[1] + path, "caBundle": client.get("caBundle", "")}
json.dump(object, sys.stdout)' "https://127.0.0.1:$1" | kube replace -f -
}

lead_webhooks_to() {
  local kind
  for kind in mutatingwebhookconfiguration/sluice-sidecar-injector validatingwebhookconfiguration/sluice-validator; do
    # sluiced may have written in between.
    until_it lead_webhook_to "$1" "$kind" >/dev/null
  done
}

# The control plane with the chart's flags and no rights but those of its account.
runs_on_its_rights() {
  local pages webhook token
  pages=$(port_of_our_own)
  webhook=$(port_of_our_own)
  token=$(kube -n istio-system create token sluiced)
  sed -E "s|^  user: .*|  user: {token: $token}|" "$cluster/kubeconfig" >"$cluster/sluiced.kubeconfig"
  local given=()
  # What the pod would get, at addresses of our own.
  while read -r flag; do
    case $flag in --*-address=*) ;; *) given+=("$flag") ;; esac
  done < <(kube -n istio-system get deployment sluiced -o "jsonpath={range .spec.template.spec.containers[0].args[*]}{@}{'\n'}{end}")
  POD_NAME=sluiced-x POD_NAMESPACE=istio-system kube_start "$cluster" sluiced "$programs/sluiced" \
    --kubeconfig sluiced.kubeconfig "${given[@]}" --xds-address=off --secure-address="127.0.0.1:$(port_of_our_own)" \
    --http-address="127.0.0.1:$pages" --webhook-address="127.0.0.1:$webhook" --serving-name=127.0.0.1
  lead_webhooks_to "$webhook"
  expect "sluiced becomes ready with the rights of its account" until_it curl -fsS "http://127.0.0.1:$pages/healthz/ready"
  expect "it leads" until_it says '^sluiced-x$' kube -n istio-system get lease sluice-leader -o 'jsonpath={.spec.holderIdentity}'
  expect "it makes a certificate authority" until_it kube -n istio-system get secret istio-ca-secret
  expect "it publishes roots" until_it kube -n shop get configmap istio-ca-root-cert
  expect "it says what became of an object" until_it kube -n plain wait --for=condition=Accepted --timeout=1s vs/ratings
  expect "the injector answers" until_it says '√ the injector answers' "$sluicectl" check
  expect "the validator answers, and Fail is its policy" until_it says '√ the validator answers' "$sluicectl" check
  for sign in 'one replica leads' "the injector's caBundle is the mesh's root" "the validator's caBundle is the mesh's root" \
    "the mesh's root is valid for a month and longer" 'namespaces of the mesh have the same root'; do
    # It is no pod of the Deployment.
    expect "check: $sign" says "[√‼] $sign" "$sluicectl" check
  done
  expect "a wrong object is refused" says 'is not a host' kube create --dry-run=server -f "$here/wrong.yaml"
  expect "nothing was forbidden to it" fails_to_find forbidden "$cluster/logs/sluiced.log"
  kill "$(sed -n 's/^sluiced \([0-9]*\) .*/\1/p' "$cluster/pids")"
  until_it fails kube_alive "$cluster" sluiced
  # Helm cannot know about the other address.
  kube delete mutatingwebhookconfiguration/sluice-sidecar-injector validatingwebhookconfiguration/sluice-validator >/dev/null
  expect "helm puts back what was removed" upgrade
}

fails() { ! "$@"; }

fails_to_find() { fails grep -i -m 5 "$@"; }

# As after `istioctl install`: the definition is somebody else's, and its schema is Istio's.
definitions() {
  expect "an upgrade of our own definitions" says "$rule: updated" upgrade
  kube patch crd $rule --type=json -p '[{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/fromTheFuture", "value": {"type": "string"}}]' >/dev/null
  expect "a newer definition is not taken back" says "$rule: left alone: the one in the cluster has fields" upgrade
  expect "it still has its field" says fromTheFuture kube get crd $rule -o yaml
  kube patch crd $rule --type=json -p '[{"op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/fromTheFuture"}]' >/dev/null
  kube patch crd $rule --type=json -p "[{\"op\": \"remove\", \"path\": \"$alias_path\"}]" >/dev/null
  kube annotate crd $rule meta.helm.sh/release-name=istio-base --overwrite >/dev/null
  expect "check names what another's definition refuses" \
    says "$rule (of istio-base): spec.trafficPolicy.circuitBreaker" "$sluicectl" check -o short
  expect "another's definition is left alone, and what it refuses is said" \
    says 'refuses what Sluice takes: spec.trafficPolicy.circuitBreaker' upgrade
  expect "replacing it needs to be said twice" says 'invalid ownership metadata' upgrade --set crds.adopt=true
  expect "and then works" says "$rule: updated" upgrade --set crds.adopt=true --take-ownership
  expect "the field is back" says circuitBreaker kube get crd $rule -o "jsonpath={.spec.versions[0].schema}"
  expect "never is never" says 'none was installed' upgrade --set crds.install=never
  expect "and takes nothing away" kube get crd $rule
}

uninstall() {
  expect "helm uninstall" "$helm" uninstall sluice --namespace istio-system
  kube get clusterrole,clusterrolebinding,mutatingwebhookconfiguration,validatingwebhookconfiguration -o name |
    grep -e sluice >"$work/left" || true
  # This cluster has no garbage collector: what it would take goes by hand, if it is the release's.
  kube get configmap,lease -A -o json | python3 -c '
import json, sys
for one in json.load(sys.stdin)["items"]:
    owners = [(owner["kind"], owner["name"]) for owner in one["metadata"].get("ownerReferences", [])]
    if owners == [("ClusterRole", "sluiced")]:
        print(one["kind"], one["metadata"]["name"], "-n", one["metadata"]["namespace"])' >"$work/owned"
  expect "the leader's Lease and the roots are the release's" says 'Lease sluice-leader -n istio-system' cat "$work/owned"
  while read -r kind name option namespace; do
    kube delete "$kind" "$name" "$option" "$namespace" >/dev/null
  done <"$work/owned"
  # As docs/install.md says.
  kube delete secret istio-ca-secret -n istio-system >/dev/null
  kube get configmap,secret,lease -A -o name | grep -v -e kube -e apiserver >>"$work/left" || true
  kube -n istio-system get deploy,svc,sa,role,rolebinding,pdb,hpa,netpol -o name >>"$work/left"
  expect "nothing is left but the definitions" diff /dev/null "$work/left"
  expect "the definitions and the objects are kept" kube -n plain get vs ratings
  expect "and can be removed" kube delete -f crds/
}

on_a_real_api_server() {
  mkdir -p "$cache/kube/run"
  exec 8>"$cluster.lock"
  flock 8 # one folder, one run
  scripts/kube-up.sh "$cluster"
  export KUBECONFIG=$cluster/kubeconfig
  kube create namespace istio-system >/dev/null
  kube create namespace edge >/dev/null
  kube label namespace istio-system pod-security.kubernetes.io/enforce=restricted >/dev/null
  accepted
  expect "an empty cluster can be installed into" "$sluicectl" check --pre
  expect "helm install" upgrade
  # Without a status yet kubectl does not wait but fails.
  until_it kube wait --for=condition=Established --timeout=30s crd --all
  expect "every definition is there as in crds/" kube diff -f crds/
  for name in sluiced istio-ingressgateway; do expect "restricted Pod Security takes $name" pod_of $name; done
  for namespace in istio-system default; do expect "rights in $namespace" may $namespace; done
  checks
  webhooks
  runs_on_its_rights
  upgrades
  definitions
  uninstall
}

rendered
schema
flags
on_a_real_api_server
echo "chart: $checked expectations, $broken broken"
[ "$broken" = 0 ]
