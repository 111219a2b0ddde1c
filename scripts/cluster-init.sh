#!/usr/bin/env bash
# The first process of the node of `make cluster`, in namespaces of its own: see cluster-node.sh.
# In:  the node's folder. Out: FOLDER/ready when the node's files are laid out; then it reaps what is left to it.
set -euo pipefail

dir=$1
# What it opens later must not keep its caller's files: a lock would be held for the cluster's life.
for fd in /proc/self/fd/*; do
  fd=${fd##*/}
  [ "$fd" -le 2 ] || eval "exec $fd>&-"
done
# The machine sees nothing of what is mounted here, and the node's parts see each other's mounts.
mount --make-rslave /
mount --make-rshared /
mount -t proc proc /proc
mount --bind "$dir/lib" /var/lib
mount --bind "$dir/log" /var/log
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
: >"$dir/ready"
# bash reaps every child that ends while it waits.
trap : TERM INT HUP
while :; do
  sleep 3600 &
  wait $! || true
done
