#!/usr/bin/env bash
# A network of its own for tests of traffic capture: "pods" that are network namespaces on one bridge, which is itself
# in a namespace, so nothing of the machine's own network changes and many nets with the same addresses can exist.
# In:  netns.sh up NET POD…       NET and PODs are short names; pod number I, from 0, gets 10.77.0.(10+I)
#      netns.sh run NET POD COMMAND…   runs a command in the pod as the caller's user
#      netns.sh down NET          removes the net; also done by `up` when one of that name is left from a killed run
# Out: 0; 1 with a message; 77 ("skipped") when the machine cannot do it: not root, no ip or iptables.
# A process in a pod keeps the pod's namespace alive, so end what you started before `down`.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
prefix=sluice

fail() { echo "netns: $*" >&2; exit 1; }

skip() { echo "netns: skipped: $*" >&2; exit 77; }

require() {
  [ "$(id -u)" = 0 ] || skip "only root can make network namespaces"
  command -v ip >/dev/null || skip "ip is missing (install iproute2)"
  command -v iptables >/dev/null || skip "iptables is missing (install iptables)"
}

# Names become namespaces' names, never devices' names, which may have 15 bytes only.
check_name() { [[ $1 =~ ^[a-z0-9-]{1,40}$ ]] || fail "a name has 1 to 40 of a-z, 0-9 and -: '$1'"; }

net_of() { echo "$prefix.$1"; }

pod_of() { echo "$prefix.$1.$2"; }

namespaces_of() { ip netns list | cut -d' ' -f1 | grep -E "^$prefix\\.$1(\\.|\$)" || true; }

inside() { # NAMESPACE COMMAND…: not `ip netns exec`, which hides the cgroup mounts
  nsenter --net="/run/netns/$1" "${@:2}"
}

make_net() {
  local net
  net=$(net_of "$1")
  ip netns add "$net" 2>/dev/null || skip "this machine refuses network namespaces"
  inside "$net" ip link set lo up
  inside "$net" ip link add bridge0 type bridge
  inside "$net" ip address add 10.77.0.1/24 dev bridge0
  inside "$net" ip link set bridge0 up
}

# Both ends of the cable are born inside, so that no device of ours appears on the machine itself.
add_pod() {
  local net pod number=$3
  net=$(net_of "$1")
  pod=$(pod_of "$1" "$2")
  ip netns add "$pod"
  inside "$net" ip link add "pod$number" type veth peer name eth0 netns "$pod"
  inside "$net" ip link set "pod$number" master bridge0 up
  inside "$pod" ip link set lo up
  inside "$pod" ip address add "10.77.0.$((10 + number))/24" dev eth0
  inside "$pod" ip link set eth0 up
  # Addresses of Services have no host, but connect() needs a route to them before they can be redirected.
  inside "$pod" ip route add default via 10.77.0.1
}

up() {
  local net=$1 pod number=0
  shift
  [ $# -le 200 ] || fail "at most 200 pods"
  for pod in "$net" "$@"; do check_name "$pod"; done
  down "$net"
  make_net "$net"
  for pod in "$@"; do
    add_pod "$net" "$pod" "$number"
    number=$((number + 1))
  done
}

down() {
  local namespace
  check_name "$1"
  for namespace in $(namespaces_of "$1"); do ip netns delete "$namespace"; done
}

usage() { sed -n '4,7s/^# //p' "$0" >&2; exit 1; }

[ $# -ge 2 ] || usage
require
case $1 in
  up) up "${@:2}" ;;
  # In place of this shell: who ends the process that it started ends the program.
  run) [ $# -ge 4 ] || usage; exec nsenter --net="/run/netns/$(pod_of "$2" "$3")" "${@:4}" ;;
  down) down "$2" ;;
  *) usage ;;
esac
