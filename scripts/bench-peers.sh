#!/usr/bin/env bash
# Makes sure that the proxies and the load generator that `make bench` compares with are on PATH.
# In:  nothing. Out: 0, or 1 after a message that names the missing packages.
# Installs haproxy, nginx-light and wrk with apt-get when root; their services stay off, the benchmark starts its own.
set -euo pipefail

. "$(dirname "$0")/apt.sh"
PATH=$PATH:/usr/sbin # Debian keeps haproxy and nginx there

package_of() { case $1 in nginx) echo nginx-light ;; *) echo "$1" ;; esac; }

# Debian starts a daemon on port 80 as it installs it; nobody asked for that.
keep_off() {
  if [ -d /run/systemd/system ]; then systemctl disable --now "$1" || true; fi
}

missing=()
for program in haproxy nginx wrk; do
  command -v "$program" >/dev/null || missing+=("$program")
done
[ ${#missing[@]} -gt 0 ] || { echo "bench-peers: haproxy, nginx and wrk are here"; exit 0; }

packages=()
for program in "${missing[@]}"; do packages+=("$(package_of "$program")"); done
apt_install "${packages[@]}" || {
  echo "bench-peers: install these packages first: ${packages[*]}" >&2
  exit 1
}
for program in "${missing[@]}"; do
  [ "$program" = wrk ] || keep_off "$program"
  command -v "$program" >/dev/null || { echo "bench-peers: $program is still missing" >&2; exit 1; }
done
echo "bench-peers: installed ${packages[*]}"
