#!/usr/bin/env bash
# The images that `make image` writes are what they promise: the same bytes each time, no root, no shell, and programs
# that run with nothing else around them.
# In:  target/images/*.tar. Out: one line each; 1 at the first that does not hold.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "image: FAILED: $*" >&2; exit 1; }

entry() { tar --extract --to-stdout --file "$1" "$2"; }

digest_of() { entry "$1" index.json | jq --raw-output '.manifests[0].digest'; }

unpack() { # NAME: its layer and its configuration
  local tar=target/images/$1.tar manifest
  manifest=$(entry "$tar" "blobs/sha256/$(digest_of "$tar" | cut -d: -f2)")
  entry "$tar" "blobs/$(jq --raw-output .config.digest <<<"$manifest" | tr : /)" >"$work/$1.json"
  mkdir "$work/$1"
  entry "$tar" "blobs/$(jq --raw-output '.layers[0].digest' <<<"$manifest" | tr : /)" | tar --extract --directory "$work/$1"
}

# The same files with other times, another umask and in another order.
is_reproducible() {
  local digest entrypoint
  cp --recursive "$work/$1" "$work/again"
  chmod -R u+w,g+w "$work/again"
  entrypoint=$(jq --raw-output '.config.Entrypoint[0]' "$work/$1.json")
  digest=$(scripts/oci-image.sh "$work/again.tar" "docker.io/sluice/$1:dev" "$work/again" \
    "$(jq --raw-output .config.User "$work/$1.json")" "$entrypoint")
  rm -rf "$work/again"
  [ "$digest" = "$(digest_of "target/images/$1.tar")" ] || fail "$1: another digest for the same files"
}

has_no_shell() {
  local found
  found=$(find "$work/$1" \( -name sh -o -name bash -o -name dash -o -name busybox \) -print -quit)
  [ -z "$found" ] || fail "$1: there is a shell, $found"
  found=$(find "$work/$1" -perm /6000 -print -quit)
  [ -z "$found" ] || fail "$1: $found takes another user's rights"
}

runs_alone() { # NAME PROGRAM ARGUMENT…
  local name=$1
  shift
  if [ "$(id -u)" = 0 ]; then
    chroot --userspec=1337:1337 "$work/$name" "$@" >/dev/null || fail "$name: $1 does not run"
  else
    echo "SKIPPED image/$name/$1: only root can change the root folder"
  fi
}

for name in sluiced proxy bookinfo; do
  unpack "$name"
  user=$(jq --raw-output .config.User "$work/$name.json")
  [[ $user =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]] || fail "$name: the user is '$user'"
  is_reproducible "$name"
  has_no_shell "$name"
  runs_alone "$name" "$(jq --raw-output '.config.Entrypoint[0]' "$work/$name.json")" --version
  echo "image: $name: $(digest_of "target/images/$name.tar"), user $user, no shell, reproducible"
done
runs_alone sluiced /sluicectl --help
for program in iptables-restore ip6tables-restore nft; do runs_alone proxy "/usr/sbin/$program" --version; done
echo "image: all hold"
