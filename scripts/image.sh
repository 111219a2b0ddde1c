#!/usr/bin/env bash
# Writes the images of Sluice as tars, without a daemon: static programs, a user that is not root, no shell.
# In:  names of images (default: sluiced proxy bookinfo; there is also shop, what a tutorial deploys);
#      SLUICE_IMAGE_PROFILE, a profile of Cargo (default release; dev builds faster and runs slower);
#      SLUICE_IMAGE_REGISTRY (default docker.io/sluice) and SLUICE_IMAGE_TAG (default dev).
# Out: target/images/NAME.tar for `ctr images import`, `kind load image-archive`, `podman load`; one line each with
#      its name and digest. The same sources give the same digest.
#      The proxy's image also holds iptables-restore, ip6tables-restore and nft with what they load, from this
#      machine's packages. Nothing outside target/ changes.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
. scripts/need.sh

profile=${SLUICE_IMAGE_PROFILE:-release}
registry=${SLUICE_IMAGE_REGISTRY:-docker.io/sluice}
tag=${SLUICE_IMAGE_TAG:-dev}

fail() { echo "image: $*" >&2; exit 1; }

# A folder of its own: other flags, so cargo's debug tree stays as it is. Paths of this machine are no input.
build() {
  local host programs=()
  host=$(rustc --version --verbose | sed -n 's/^host: //p')
  for name in "${names[@]}"; do
    case $name in
      sluiced) programs+=(--bin sluiced --bin sluicectl) ;;
      proxy) programs+=(--bin sluice-proxy) ;;
      bookinfo | shop) programs+=(--bin bookinfo) ;;
    esac
  done
  RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$root=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo CARGO_PROFILE_DEV_STRIP=debuginfo \
    cargo build --quiet --locked --profile "$profile" --target "$host" --target-dir target/image "${programs[@]}"
  case $profile in
    dev) built=target/image/$host/debug ;;
    *) built=target/image/$host/$profile ;;
  esac
}

# The names behind the numbers, for programs that ask; certificates of public authorities, for upstreams with TLS.
lay_out_base() { # FOLDER USER-NAME ID
  mkdir -p "$1/etc/ssl/certs" "$1/run" "$1/tmp"
  printf 'root:x:0:0::/:/sbin/nologin\n%s:x:%s:%s::/:/sbin/nologin\n' "$2" "$3" "$3" >"$1/etc/passwd"
  printf 'root:x:0:\n%s:x:%s:\n' "$2" "$3" >"$1/etc/group"
  cp --dereference /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"
}

# copy_with_libraries FOLDER FILE…: at the same paths, and with every library that they are linked to.
copy_with_libraries() {
  local folder=$1 file
  shift
  for file in "$@" $(ldd "$@" | grep --only-matching '/[^ ]*\.so[^ ]*' | sort --unique); do
    case $file in *:) continue ;; esac # a heading of ldd
    mkdir -p "$folder$(dirname "$file")"
    cp --dereference "$file" "$folder$file"
  done
}

# One program stands behind all names of iptables; what a rule's word means is in a library that it loads by name.
lay_out_iptables() {
  local folder=$1 name extensions
  extensions=$(dirname "$(find /usr/lib -name libxt_REDIRECT.so -o -name libxt_owner.so | head -n 1)")
  [ -d "$extensions" ] || fail "iptables' extensions are not in /usr/lib (install iptables)"
  copy_with_libraries "$folder" /usr/sbin/xtables-nft-multi /usr/sbin/nft "$extensions"/*.so
  for name in iptables ip6tables iptables-restore ip6tables-restore iptables-save ip6tables-save; do
    ln -s xtables-nft-multi "$folder/usr/sbin/$name"
  done
}

lay_out() { # NAME FOLDER
  case $1 in
    sluiced) lay_out_base "$2" sluiced 65532 && cp "$built/sluiced" "$built/sluicectl" "$2/" ;;
    proxy) lay_out_base "$2" istio-proxy 1337 && cp "$built/sluice-proxy" "$2/" && lay_out_iptables "$2" ;;
    bookinfo | shop) lay_out_base "$2" bookinfo 65532 && cp "$built/bookinfo" "$2/" ;;
  esac
}

write() { # NAME REFERENCE USER ENTRYPOINT…
  local folder digest name=$1 reference=$2 user=$3
  shift 3
  folder=$(mktemp -d)
  lay_out "$name" "$folder"
  digest=$(scripts/oci-image.sh "target/images/$name.tar" "$reference" "$folder" "$user:$user" "$@")
  rm -rf "$folder"
  echo "$reference $digest"
}

# For the Dockerfile: image.sh --layout OUT PROGRAMS puts each image's files into a folder of OUT.
if [ "${1:-}" = --layout ]; then
  [ $# = 3 ] || fail "usage: image.sh --layout OUT PROGRAMS"
  built=$3
  for name in sluiced proxy bookinfo; do lay_out "$name" "$2/$name"; done
  exit
fi
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(sluiced proxy bookinfo)
for name in "${names[@]}"; do
  case $name in sluiced | proxy | bookinfo | shop) ;; *) fail "there is no image $name" ;; esac
done
need rust
[ -f /etc/ssl/certs/ca-certificates.crt ] || apt_install ca-certificates || fail "install ca-certificates"
if ! { command -v iptables && command -v nft; } >/dev/null; then
  apt_install iptables nftables || fail "install iptables and nftables"
fi
build
for name in "${names[@]}"; do
  case $name in
    sluiced) write sluiced "$registry/sluiced:$tag" 65532 /sluiced ;;
    proxy) write proxy "$registry/proxy:$tag" 1337 /sluice-proxy ;;
    bookinfo) write bookinfo "$registry/bookinfo:$tag" 65532 /bookinfo ;;
    # Under the name that the tutorial's Deployment gives it.
    shop)
      write shop docker.io/library/ecommerce-frontend:v2.0.0 65532 \
        /bookinfo echo ecommerce-frontend --version v2 --listen 0.0.0.0:3000 ;;
  esac
done
