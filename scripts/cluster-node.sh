# shellcheck shell=bash
# The one Kubernetes node of `make cluster`: where it is and what it runs; sourced by cluster-*.sh.
# It lives in a network, a mount and a pid namespace of its own, whose first process is cluster-init.sh. So it changes
# nothing of the machine, and when that one process ends the kernel ends every process, mount, socket and rule of the
# node, pods too. Two things are outside and are removed by name: one cable, and one group of cgroups.
# In:  SLUICE_CACHE (default: .cache in the repository).
# shellcheck disable=SC2034 # used by those who source this

# Not below /usr/sbin on every user's PATH: ip, iptables, runc.
PATH=$PATH:/usr/sbin:/sbin
node_cache=${SLUICE_CACHE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.cache}
mkdir -p "$node_cache"
node_cache=$(cd -P "$node_cache" && pwd)
node_dir=$node_cache/cluster
node_mark=.sluice-cluster
# At most 15 bytes: it is also the cable's name on the machine.
node_name=sluice-node
node_ip=10.200.0.1
node_host_ip=10.200.0.254
node_pods=10.244.0.0/16
node_services=10.96.0.0/16
node_service_ip=10.96.0.1
node_dns_ip=10.96.0.10

# Says why and ends with the code that runners count as skipped.
node_skip() { echo "cluster: skipped: $*" >&2; exit 77; }

node_fail() { echo "cluster: $*" >&2; exit 1; }

node_start_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# The first process of the node, as `PID START`: a process id that was given to a stranger since is nobody.
node_init() {
  local pid start
  read -r pid start 2>/dev/null <"$node_dir/init" || return 1
  [ "$(node_start_of "$pid")" = "$start" ] && echo "$pid"
}

# Runs a command on the node as its root.
node_run() {
  local init
  init=$(node_init) || node_fail "there is no cluster: make cluster"
  nsenter --target "$init" --net --mount --pid -- "$@"
}

# node_start NAME COMMAND…: a process of the node; its log is $node_dir/logs/NAME.log, its id, as the node sees it, in
# $node_dir/pids/NAME. None of the caller's files stay open in it.
node_start() {
  local name=$1
  shift
  rm -f "$node_dir/pids/$name"
  # shellcheck disable=SC2016 # expanded by the inner shell
  node_run setsid --fork bash -c '
    dir=$1 name=$2; shift 2
    cd "$dir"
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      [ "$fd" -le 2 ] || eval "exec $fd>&-"
    done
    echo $$ >"pids/$name.new" && mv "pids/$name.new" "pids/$name"
    exec "$@"' node_start "$node_dir" "$name" "$@" </dev/null >>"$node_dir/logs/$name.log" 2>&1
  until [ -e "$node_dir/pids/$name" ]; do sleep 0.02; done
}

node_alive() { node_run test -d "/proc/$(cat "$node_dir/pids/$1" 2>/dev/null || echo none)"; }

# node_kill NAME: at once, and it is gone when this returns. The ids are of the node's own namespace: no stranger's.
node_kill() {
  local pid
  pid=$(cat "$node_dir/pids/$1")
  node_run kill -KILL "$pid" || true
  while node_run test -d "/proc/$pid"; do sleep 0.02; done
  rm -f "$node_dir/pids/$1"
}

# Where cgroups are: one folder per controller (v1), or one for all (v2), or both.
node_cgroup_roots() {
  if [ "$(stat --file-system --format=%T /sys/fs/cgroup)" = cgroup2fs ]; then
    echo /sys/fs/cgroup
  else
    awk '$3 ~ /^cgroup2?$/ {print $2}' /proc/mounts
  fi
}

node_program() {
  case $1 in
    etcd)
      echo "$node_bin/etcd" --data-dir=etcd --unsafe-no-fsync --log-level=warn \
        --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
        --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
        --initial-cluster=default=http://127.0.0.1:2380 ;;
    kube-apiserver)
      echo "$node_bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
        --advertise-address=$node_ip --secure-port=6443 --service-cluster-ip-range=$node_services \
        --tls-cert-file=certs/apiserver.crt --tls-private-key-file=certs/apiserver.key --client-ca-file=certs/ca.crt \
        --kubelet-client-certificate=certs/admin.crt --kubelet-client-key=certs/admin.key \
        --kubelet-preferred-address-types=InternalIP --authorization-mode=Node,RBAC --allow-privileged \
        --enable-admission-plugins=NodeRestriction --profiling=false --event-ttl=1h \
        --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-account-key-file=certs/service-account.key \
        --service-account-signing-key-file=certs/service-account.key ;;
    kube-controller-manager)
      echo "$node_bin/kube-controller-manager" --kubeconfig=certs/controller-manager.kubeconfig --leader-elect=false \
        --service-account-private-key-file=certs/service-account.key --root-ca-file=certs/ca.crt \
        --use-service-account-credentials --bind-address=127.0.0.1 --profiling=false ;;
    kube-scheduler)
      echo "$node_bin/kube-scheduler" --kubeconfig=certs/scheduler.kubeconfig --leader-elect=false \
        --bind-address=127.0.0.1 --profiling=false ;;
    kubelet)
      echo "$node_bin/kubelet" --kubeconfig=certs/kubelet.kubeconfig --config=kubelet.yaml --root-dir=/var/lib/kubelet \
        --node-ip=$node_ip --hostname-override=$node_name ;;
    kube-proxy) echo "$node_bin/kube-proxy" --config=kube-proxy.yaml --hostname-override=$node_name ;;
    containerd) echo containerd --config containerd.toml ;;
    *) node_fail "there is no program called $1" ;;
  esac
}
node_bin=$node_cache/kube/bin

# No argument holds a blank; a path that does is refused by cluster-up.sh.
# shellcheck disable=SC2046
node_start_program() { node_start "$1" $(node_program "$1"); }
