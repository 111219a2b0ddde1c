#!/usr/bin/env bash
# Ends the node that cluster-up.sh started, and removes what it left: its first process and with it every other one,
# every mount, rule and address; then the cable, the cgroups, the folder.
# In:  nothing; SLUICE_CACHE as in build-kube.sh; SLUICE_KEEP_LOGS=1 leaves the folder's logs.
# Out: 0, also when there is nothing.
set -euo pipefail

scripts=$(cd "$(dirname "$0")" && pwd)
. "$scripts/cluster-node.sh"

stop_seconds=20

end_processes() {
  local init start deadline=$((SECONDS + stop_seconds))
  init=$(node_init) || return 0
  start=$(node_start_of "$init")
  kill -KILL "$init"
  while [ "$(node_start_of "$init")" = "$start" ]; do
    [ "$SECONDS" -lt "$deadline" ] || node_fail "the node's first process ($init) does not end"
    sleep 0.02
  done
}

# The kernel takes the cable away with the namespace that holds its other end, a moment later.
remove_cable() {
  ip link show "$node_name" >/dev/null 2>&1 || return 0
  ip link delete "$node_name" 2>/dev/null || true
}

# From the leaves to the root; a group is busy until the last of its processes is gone.
remove_cgroups() {
  local root deadline=$((SECONDS + stop_seconds))
  for root in $(node_cgroup_roots); do
    while [ -d "$root/$node_name" ]; do
      find "$root/$node_name" -depth -type d -exec rmdir {} \; 2>/dev/null || true
      [ ! -d "$root/$node_name" ] || [ "$SECONDS" -lt "$deadline" ] || node_fail "$root/$node_name is still in use"
      [ ! -d "$root/$node_name" ] || sleep 0.05
    done
  done
}

remove_folder() {
  [ -e "$node_dir/$node_mark" ] || node_fail "$node_dir was not made by cluster-up"
  if grep -q " $node_dir/" /proc/self/mountinfo; then node_fail "something is still mounted below $node_dir"; fi
  if [ -n "${SLUICE_KEEP_LOGS:-}" ]; then
    find "$node_dir" -mindepth 1 -maxdepth 1 ! -name logs ! -name "$node_mark" -exec rm -rf {} +
  else
    rm -rf "$node_dir"
  fi
}

if [ -z "${SLUICE_LOCKED:-}" ]; then
  exec 9>"$node_cache/.cluster.lock"
  flock 9
fi
[ -d "$node_dir" ] || exit 0
end_processes
remove_cable
remove_cgroups
remove_folder
