#!/usr/bin/env bash
# Ends the test cluster that kube-up.sh started in DIR: exactly its processes, then the folder.
# In:  DIR. Out: 0 also when there is nothing to end; 1 when DIR is a folder that kube-up.sh did not make.
set -euo pipefail

. "$(dirname "$0")/kube-processes.sh"

[ $# = 1 ] || { echo "usage: kube-down.sh DIR" >&2; exit 1; }
[ -d "$1" ] || exit 0
[ -e "$1/$kube_mark" ] || { echo "kube-down: $1 was not made by kube-up" >&2; exit 1; }
kube_end_all "$1"
rm -rf "$1"
