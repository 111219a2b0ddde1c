#!/usr/bin/env bash
# What tests do to the node of `make cluster`.
# In:  cluster-do.sh run COMMAND…            a command on the node as its root
#      cluster-do.sh stop PROGRAM            kills a program of the node (kube-apiserver, kubelet, …)
#      cluster-do.sh start PROGRAM           starts it again
#      cluster-do.sh kill NAMESPACE POD CONTAINER    kill -9 of a container's first process, as a crash would
# Out: 0; 1 with a message.
set -euo pipefail

. "$(dirname "$0")/cluster-node.sh"

usage() { sed -n '3,7s/^# //p' "$0" >&2; exit 1; }

# containerd knows a container by labels that the kubelet gave it; the newest is the one that runs.
kill_container() {
  local id pid
  id=$(node_run ctr --namespace k8s.io containers list --quiet \
    "labels.\"io.kubernetes.pod.namespace\"==$1,labels.\"io.kubernetes.pod.name\"==$2,labels.\"io.kubernetes.container.name\"==$3")
  [ -n "$id" ] || node_fail "no container $3 of $1/$2"
  for id in $id; do
    pid=$(node_run ctr --namespace k8s.io tasks list | awk -v id="$id" '$1 == id && $3 == "RUNNING" {print $2}')
    [ -n "$pid" ] || continue
    node_run kill -KILL "$pid"
    echo "killed $3 of $1/$2"
    return
  done
  node_fail "container $3 of $1/$2 does not run"
}

[ $# -ge 2 ] || usage
case $1 in
  run) node_run "${@:2}" ;;
  stop) node_kill "$2" ;;
  start) node_start_program "$2" ;;
  kill) [ $# = 4 ] || usage; kill_container "${@:2}" ;;
  *) usage ;;
esac
