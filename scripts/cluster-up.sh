#!/usr/bin/env bash
# Starts one real Kubernetes node: API server, etcd, controllers, scheduler, kubelet, kube-proxy, containerd with runc
# and CNI, cluster DNS. Without Docker, kind or a registry: Go modules and Debian packages.
# In:  nothing; SLUICE_CACHE as in build-kube.sh; SLUICE_CLUSTER_SECONDS, the deadline to become ready (default 180).
# Out: SLUICE_CACHE/cluster/kubeconfig (cluster-admin; the API server is https://10.200.0.1:6443, NodePorts are at
#      10.200.0.1 too, both from this machine only), logs in SLUICE_CACHE/cluster/logs. The last line of output is
#      KUBECONFIG=…. Run again it finds the cluster and is done. Exit 77 where it cannot be: not root, not Linux.
#      cluster-down.sh ends it.
set -euo pipefail

scripts=$(cd "$(dirname "$0")" && pwd)
. "$scripts/cluster-node.sh"
. "$scripts/kube-keys.sh"
. "$scripts/apt.sh"

seconds=${SLUICE_CLUSTER_SECONDS:-180}
say() { echo "cluster: $* (after $SECONDS s)"; }

require() {
  [ "$(uname -s)" = Linux ] || node_skip "a node needs Linux"
  [ "$(id -u)" = 0 ] || node_skip "only root can make a node (kind or k3s can be used instead: KUBECONFIG=… make e2e)"
  unshare --net --mount --pid --fork true 2>/dev/null || node_skip "this machine refuses namespaces"
  [ -n "$(node_cgroup_roots)" ] || node_skip "no cgroups are mounted at /sys/fs/cgroup"
  case $node_dir/ in
    /run/* | /var/lib/* | /var/log/*) node_fail "$node_dir is where the node has files of its own; set SLUICE_CACHE" ;;
    *[[:space:]]*) node_fail "the path '$node_dir' holds a blank; set SLUICE_CACHE" ;;
  esac
  install_packages
  "$scripts/need.sh" kubectl openssl
  PATH=$PATH:$node_bin
}

install_packages() {
  local missing=()
  command -v containerd >/dev/null || missing+=(containerd)
  command -v runc >/dev/null || missing+=(runc)
  [ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
  command -v iptables >/dev/null || missing+=(iptables)
  command -v conntrack >/dev/null || missing+=(conntrack)
  command -v ip >/dev/null || missing+=(iproute2)
  command -v nsenter >/dev/null || missing+=(util-linux)
  command -v gcc >/dev/null || missing+=(gcc libc6-dev)
  [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}" ||
    node_skip "missing: ${missing[*]} (Debian's packages; could not be installed)"
}

ctl() { kubectl --kubeconfig "$node_dir/kubeconfig" "$@"; }

is_up() {
  node_init >/dev/null && [ "$(ctl get --raw /readyz --request-timeout=5s 2>/dev/null)" = ok ] &&
    ctl wait --for=condition=Ready "node/$node_name" --timeout=5s >/dev/null 2>&1
}

make_folder() {
  mkdir -p "$node_dir"
  : >"$node_dir/$node_mark"
  chmod 700 "$node_dir" # keys
  (cd "$node_dir" && mkdir -p certs logs pids lib log cni)
}

kubeconfig_of() { # USER-NAME: with the certificate certs/USER-NAME
  cat <<YAML
apiVersion: v1
kind: Config
clusters:
- name: sluice
  cluster: {server: "https://$node_ip:6443", certificate-authority-data: $(base64 -w0 <ca.crt)}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 <"$1.crt"), client-key-data: $(base64 -w0 <"$1.key")}
contexts:
- name: sluice
  context: {cluster: sluice, user: $1}
current-context: sluice
YAML
}

make_keys() (
  cd "$node_dir/certs"
  exec 2>openssl.log
  client="extendedKeyUsage=clientAuth"
  kube_make_ca sluice-cluster-ca
  names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
  kube_sign apiserver /CN=kube-apiserver \
    "subjectAltName=IP:127.0.0.1,IP:$node_ip,IP:$node_service_ip,$names"$'\nextendedKeyUsage=serverAuth'
  kube_sign kubelet-server "/O=system:nodes/CN=system:node:$node_name" \
    "subjectAltName=IP:$node_ip,DNS:$node_name"$'\nextendedKeyUsage=serverAuth'
  kube_sign admin /O=system:masters/CN=admin "$client"
  kube_sign controller-manager /CN=system:kube-controller-manager "$client"
  kube_sign scheduler /CN=system:kube-scheduler "$client"
  kube_sign kubelet "/O=system:nodes/CN=system:node:$node_name" "$client"
  kube_sign proxy /CN=system:kube-proxy "$client"
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out service-account.key
  for user in controller-manager scheduler kubelet proxy; do kubeconfig_of $user >$user.kubeconfig; done
  kubeconfig_of admin >../kubeconfig
  chmod 600 ../kubeconfig ./*.key
) || { cat "$node_dir/certs/openssl.log" >&2; node_fail "openssl could not make the keys"; }

# restrict_oom_score_adj: where root lacks CAP_SYS_RESOURCE every pod would die at its start. A node inside a container
# has a root file system on which overlayfs cannot stand.
write_containerd() {
  local snapshotter=overlayfs
  [ "$(stat --file-system --format=%T "$node_dir")" != overlayfs ] || snapshotter=native
  cat >"$node_dir/containerd.toml" <<TOML
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/sluice/pause:test"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$snapshotter"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$node_dir/cni"
TOML
  cat >"$node_dir/cni/10-sluice.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "sluice", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$node_pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
}

write_kubelet() {
  cat >"$node_dir/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $node_dir/certs/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $node_dir/certs/kubelet-server.crt
tlsPrivateKeyFile: $node_dir/certs/kubelet-server.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [$node_dns_ip]
clusterDomain: cluster.local
cgroupDriver: cgroupfs
cgroupRoot: /$node_name
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
resolvConf: /dev/null
volumePluginDir: /var/lib/kubelet/volume-plugins
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
maxPods: 200
serializeImagePulls: false
YAML
  cat >"$node_dir/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: $node_pods
clientConnection: {kubeconfig: certs/proxy.kubeconfig}
conntrack: {maxPerCore: 0}
iptables: {minSyncPeriod: 100ms}
YAML
}

# The cpuset controller of v1 lets nobody into a group that names no processors.
make_cgroups() {
  local root file controller
  for root in $(node_cgroup_roots); do
    mkdir -p "$root/$node_name"
    for file in cpuset.mems cpuset.cpus; do
      if [ -e "$root/$file" ] && [ -e "$root/$node_name/$file" ]; then cat "$root/$file" >"$root/$node_name/$file"; fi
    done
    # A controller that cannot be had here is not needed.
    for controller in $(cat "$root/cgroup.controllers" 2>/dev/null); do
      echo "+$controller" >"$root/cgroup.subtree_control" || true
      echo "+$controller" >"$root/$node_name/cgroup.subtree_control" || true
    done 2>/dev/null
  done
}

# The init process is found as the child of unshare, which waits for it, without our lock.
make_node() {
  setsid unshare --net --mount --pid --fork --kill-child -- "$scripts/cluster-init.sh" "$node_dir" \
    </dev/null >"$node_dir/logs/init.log" 2>&1 9>&- &
  local outer=$! init
  disown "$outer"
  until [ -e "$node_dir/ready" ]; do
    kill -0 "$outer" 2>/dev/null || { cat "$node_dir/logs/init.log" >&2; node_fail "the node's namespaces cannot be made"; }
    sleep 0.02
  done
  init=$(cat "/proc/$outer/task/$outer/children")
  echo "${init% } $(node_start_of "${init% }")" >"$node_dir/init"
  ip link add "$node_name" type veth peer name eth0 netns "${init% }"
  ip address add "$node_host_ip/24" dev "$node_name"
  ip link set "$node_name" up
  node_run ip address add "$node_ip/24" dev eth0
  node_run ip link set eth0 up
  # Without a default route the addresses of Services could not be reached.
  node_run ip route add default via "$node_host_ip"
}

make_images() {
  local work
  work=$(mktemp -d)
  mkdir "$work/pause" "$work/coredns"
  gcc -Os -static -o "$work/pause/pause" "$scripts/../tests/kube/node/pause.c"
  cp "$node_bin/coredns" "$work/coredns/coredns"
  "$scripts/oci-image.sh" "$node_dir/pause.tar" docker.io/sluice/pause:test "$work/pause" 65535:65535 /pause >/dev/null
  "$scripts/oci-image.sh" "$node_dir/coredns.tar" docker.io/sluice/coredns:test "$work/coredns" 0:0 /coredns >/dev/null
  rm -rf "$work"
}

# wait_for WHAT PROGRAM COMMAND…: until the command succeeds; PROGRAM's log is what to read when it does not.
wait_for() {
  local what=$1 program=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    node_alive "$program" || fail_with_log "$program" "$program stopped"
    [ "$SECONDS" -lt "$seconds" ] || fail_with_log "$program" "$what: not after $seconds s"
    sleep 0.1
  done
}

fail_with_log() {
  echo "cluster: the end of $node_dir/logs/$1.log:" >&2
  tail -n 20 "$node_dir/logs/$1.log" >&2
  node_fail "$2"
}

end_on_failure() {
  local status=$?
  [ "$status" = 0 ] || SLUICE_KEEP_LOGS=1 "$scripts/cluster-down.sh"
}

start_node() {
  make_cgroups
  make_node
  for program in containerd etcd; do node_start_program $program; done
  wait_for "etcd" etcd node_run bash -c 'exec 3<>/dev/tcp/127.0.0.1/2379'
  node_start_program kube-apiserver
  make_images
  wait_for "containerd" containerd node_run ctr version
  node_run ctr --namespace k8s.io images import "$node_dir/pause.tar" >/dev/null
  node_run ctr --namespace k8s.io images import "$node_dir/coredns.tar" >/dev/null
  rm "$node_dir/pause.tar" "$node_dir/coredns.tar"
  wait_for "the API server" kube-apiserver ctl get --raw /readyz
  say "the API server answers"
  for program in kube-controller-manager kube-scheduler kubelet kube-proxy; do node_start_program $program; done
  wait_for "cluster DNS" kube-apiserver ctl apply -f "$scripts/../tests/kube/node/coredns.yaml"
  wait_for "the node" kubelet ctl wait --for=condition=Ready "node/$node_name" --timeout=1s
  say "the node is ready"
  wait_for "cluster DNS" kubelet ctl --namespace kube-system wait --for=condition=Available deployment/coredns --timeout=1s
  say "cluster DNS answers"
}

require
exec 9>"$node_cache/.cluster.lock"
flock -n 9 || { echo "cluster: another run starts or ends it; waiting"; flock 9; }
if is_up; then
  echo "cluster: it is up"
else
  "$scripts/build-kube.sh" etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy coredns
  SLUICE_LOCKED=1 "$scripts/cluster-down.sh"
  SECONDS=0
  trap end_on_failure EXIT
  trap 'exit 130' INT TERM HUP
  export SLUICE_LOCKED=1
  make_folder
  make_keys
  write_containerd
  write_kubelet
  start_node
fi
echo "KUBECONFIG=$node_dir/kubeconfig"
