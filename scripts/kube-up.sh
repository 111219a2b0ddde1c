#!/usr/bin/env bash
# Starts a Kubernetes API server with its etcd, for tests that need the real one: CRDs, CEL, status, webhooks by URL,
# Leases, watches, server-side apply. There is no controller manager, scheduler or node: nothing makes EndpointSlices,
# runs Pods or finishes the deletion of a namespace, so tests write those objects themselves.
# In:  DIR, a folder of this cluster's own (made here; what an earlier run left there is ended and removed first).
#      A fixed DIR per test is best: the next run then cleans up after one that was killed.
#      SLUICE_CACHE as in build-kube.sh; SLUICE_KUBE_SECONDS, the deadline to become ready (default 90).
# Out: DIR/kubeconfig (system:masters by a token of this run), DIR/pids, DIR/logs/, DIR/certs/ca.{crt,key}, with which
#      a test can sign more clients or a webhook's certificate; both listen on the loopback interface or a unix socket
#      only. The last line of output is KUBECONFIG=DIR/kubeconfig. On failure nothing is left running.
set -euo pipefail

scripts=$(cd "$(dirname "$0")" && pwd)
. "$scripts/kube-processes.sh"
. "$scripts/kube-keys.sh"

fail() { echo "kube-up: $*" >&2; exit 1; }

[ $# = 1 ] || fail "usage: kube-up.sh DIR"
bin=${SLUICE_CACHE:-$scripts/../.cache}/kube/bin
seconds=${SLUICE_KUBE_SECONDS:-90}
service_range=10.96.0.0/16
service_ip=10.96.0.1

make_folder() {
  if [ -d "$1" ]; then
    [ -e "$1/$kube_mark" ] || rmdir "$1" 2>/dev/null || fail "$1 is not empty and was not made by kube-up"
    "$scripts/kube-down.sh" "$1"
  fi
  mkdir -p "$1"
  chmod 700 "$1" # keys and tokens
  : >"$1/$kube_mark"
  mkdir "$1/certs" "$1/logs"
}

make_keys() (
  cd "$dir/certs"
  exec 2>openssl.log
  kube_make_ca sluice-test-ca
  kube_sign apiserver /CN=kube-apiserver \
    "subjectAltName=IP:127.0.0.1,IP:$service_ip,DNS:localhost,DNS:kubernetes.default.svc"$'\nextendedKeyUsage=serverAuth'
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out service-account.key
  echo "$(openssl rand -hex 16),admin,admin,system:masters" >tokens.csv
) || { cat "$dir/certs/openssl.log" >&2; fail "openssl could not make the keys"; }

# Below the range from which the kernel takes ports for outgoing connections. Another run may take the port before
# the API server does: then the server stops and start_api_server tries another.
free_port() {
  local port
  for _ in {1..50}; do
    port=$((20000 + RANDOM % 10000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
  fail "found no free port"
}

# Relative sockets, in the cluster's folder: a socket's path may have 107 bytes, a folder's may be longer. Their
# names have the form host:port, because etcd accepts no other.
start_etcd() {
  kube_start "$dir" etcd "$bin/etcd" --data-dir=etcd --unsafe-no-fsync --log-level=warn \
    --listen-client-urls=unix://client:1 --advertise-client-urls=unix://client:1 \
    --listen-peer-urls=unix://peer:1 --initial-advertise-peer-urls=unix://peer:1 --initial-cluster=default=unix://peer:1
}

# ServiceAccount admission would refuse every Pod: the default account of a namespace comes from a controller.
start_api_server() {
  kube_start "$dir" kube-apiserver "$bin/kube-apiserver" \
    --etcd-servers=unix://client:1 --bind-address=127.0.0.1 --secure-port="$1" \
    --advertise-address=127.0.0.1 --endpoint-reconciler-type=none --service-cluster-ip-range="$service_range" \
    --tls-cert-file=certs/apiserver.crt --tls-private-key-file=certs/apiserver.key --client-ca-file=certs/ca.crt \
    --token-auth-file=certs/tokens.csv --authorization-mode=RBAC --allow-privileged \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=certs/service-account.key \
    --service-account-signing-key-file=certs/service-account.key --disable-admission-plugins=ServiceAccount \
    --profiling=false
}

write_kubeconfig() {
  cat >"$dir/kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: sluice-test
  cluster: {server: "https://127.0.0.1:$1", certificate-authority-data: $(base64 -w0 <"$dir/certs/ca.crt")}
users:
- name: admin
  user: {token: $(cut -d, -f1 "$dir/certs/tokens.csv")}
contexts:
- name: sluice-test
  context: {cluster: sluice-test, user: admin, namespace: default}
current-context: sluice-test
YAML
}

kube() { kubectl --kubeconfig "$dir/kubeconfig" --request-timeout=5s "$@"; }

# Ready is when tests can write: the bootstrap roles are there, and the default namespace, which comes after /readyz.
is_ready() { kube get --raw /readyz && kube get namespace default; } >/dev/null 2>&1

# 0 when ready, 1 when the port was taken by another; everything else is the end.
wait_until_ready() {
  until is_ready; do
    sleep 0.1
    kube_alive "$dir" etcd || fail_with_log etcd "etcd stopped"
    if ! kube_alive "$dir" kube-apiserver; then
      grep -q 'address already in use' "$dir/logs/kube-apiserver.log" && return 1
      fail_with_log kube-apiserver "kube-apiserver stopped"
    fi
    [ "$SECONDS" -lt "$seconds" ] || fail_with_log kube-apiserver "not ready after $seconds s"
  done
}

fail_with_log() {
  echo "kube-up: the end of $dir/logs/$1.log:" >&2
  tail -n 20 "$dir/logs/$1.log" >&2
  fail "$2"
}

# shellcheck disable=SC2317 # called by the trap
end_on_failure() {
  local status=$?
  [ "$status" = 0 ] || kube_end_all "$dir" # the logs stay
}

"$scripts/build-kube.sh" kube-apiserver etcd
"$scripts/need.sh" kubectl openssl
bin=$(cd "$bin" && pwd)
PATH=$PATH:$bin # the kubectl that need.sh may have built
SECONDS=0
make_folder "$1"
dir=$(cd "$1" && pwd)
trap end_on_failure EXIT
trap 'exit 130' INT TERM HUP
make_keys
start_etcd
for _ in {1..5}; do
  port=$(free_port)
  write_kubeconfig "$port"
  start_api_server "$port"
  if wait_until_ready; then
    echo "kube-up: ready on 127.0.0.1:$port after $SECONDS s"
    echo "KUBECONFIG=$dir/kubeconfig"
    exit 0
  fi
done
fail "five ports in a row were taken"
