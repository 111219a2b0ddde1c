# shellcheck shell=bash
# Starts and ends the processes of one test cluster by their own ids; sourced by kube-up.sh and kube-down.sh.
# In:  the folder of a cluster. Out: FOLDER/pids, one line `NAME PID START` for each process, START being the
#      kernel's start time of it: a process id that has since been given to a stranger is never signalled.

# The folder's mark: kube-down removes no folder without it, whatever it is told.
# shellcheck disable=SC2034 # used by those who source this
kube_mark=.sluice-kube

kube_stop_seconds=5

# Field 22 of /proc/PID/stat, counted after the command's closing bracket because a command may hold blanks.
kube_start_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

kube_is_running() {
  [ "$(kube_start_of "$1")" = "$2" ] && [ "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c1)" != Z ]
}

# kube_start FOLDER NAME COMMAND…: writes the line before it becomes the command, so that no moment exists at which
# a killed caller leaves a process that the file does not name. Returns when the line is there. The process keeps none
# of the caller's files open: it would hold the caller's locks after the caller's death.
kube_start() {
  local folder=$1 name=$2
  shift 2
  # shellcheck disable=SC2016 # expanded by the inner shell
  (cd "$folder" && exec setsid bash -c '
    name=$1; shift
    echo "$name $$ $(sed "s/.*) //" /proc/$$/stat | cut -d" " -f20)" >>pids
    for fd in /proc/$$/fd/*; do
      fd=${fd##*/}
      [ "$fd" -le 2 ] || eval "exec $fd>&-"
    done
    exec "$@"' kube_start "$name" "$@" </dev/null >"logs/$name.log" 2>&1) &
  local pid=$!
  disown "$pid" # it outlives this script, and bash need not report its end
  until grep -q "^$name $pid " "$folder/pids" 2>/dev/null; do
    kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.02
  done
}

# kube_alive FOLDER NAME: true while the newest process of that name runs.
kube_alive() {
  local pid start
  read -r pid start < <(sed -n "s/^$2 //p" "$1/pids" 2>/dev/null | tail -n 1) || return 1
  kube_is_running "$pid" "$start"
}

# Ends every process of the folder, newest first. Killed and not asked: a polite API server spends seconds on its
# watches and a polite etcd on its clients, and what they would save is thrown away.
kube_end_all() {
  local pids=$1/pids name pid start deadline=$((SECONDS + kube_stop_seconds))
  [ -f "$pids" ] || return 0
  while read -r name pid start; do
    if kube_is_running "$pid" "$start"; then kill -KILL "$pid" 2>/dev/null || true; fi
  done < <(tac "$pids")
  while read -r name pid start; do
    while kube_is_running "$pid" "$start"; do
      [ "$SECONDS" -lt "$deadline" ] || { echo "kube: $name ($pid) does not end" >&2; return 1; }
      sleep 0.02
    done
  done <"$pids"
  rm -f "$pids"
}
