#!/usr/bin/env bash
# Builds Kubernetes' programs, etcd and CoreDNS from Go modules into the cache folder that all scripts share.
# In:  names of programs (default: kube-apiserver and etcd, and kubectl when PATH has none);
#      SLUICE_CACHE (default: .cache in the repository).
# Out: $SLUICE_CACHE/kube/bin/NAME. Well under a second when nothing changed, about 7 minutes on two cores from nothing.
#      Nothing else on the machine changes, but for Go's own module and build caches.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
bin=${SLUICE_CACHE:-$root/.cache}/kube/bin
modules=$root/tests/kube/go
version=v1.36.3

fail() { echo "build-kube: $*" >&2; exit 1; }

module_of() { case $1 in etcd | coredns) echo "$1" ;; *) echo kubernetes ;; esac; }

package_of() {
  case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    coredns) echo . ;;
    kube-apiserver | kube-controller-manager | kube-scheduler | kube-proxy | kubelet | kubectl)
      echo "k8s.io/kubernetes/cmd/$1" ;;
    *) fail "there is no program called $1" ;;
  esac
}

# Kubernetes reports its version from these variables; the others have their own in their source.
linker_flags_of() {
  local variable="-X k8s.io/component-base/version"
  case $1 in
    etcd | coredns) echo "-s -w" ;;
    *) echo "-s -w $variable.gitVersion=$version $variable.gitMajor=1 $variable.gitMinor=36" ;;
  esac
}

stamp_of() {
  local module
  module=$modules/$(module_of "$1")
  { cat "$module/go.mod" "$module/go.sum" && linker_flags_of "$1"; } | sha256sum | cut -d' ' -f1
}

is_fresh() { [ -x "$bin/$1" ] && [ "$(cat "$bin/$1.stamp" 2>/dev/null)" = "$(stamp_of "$1")" ]; }

build() {
  local name=$1 package started=$SECONDS
  package=$(package_of "$name")
  echo "build-kube: building $name (once; can take minutes)"
  (cd "$modules/$(module_of "$name")" &&
    CGO_ENABLED=0 nice -n 5 go build -trimpath -ldflags "$(linker_flags_of "$name")" -o "$bin/$name.new" "$package")
  # A program that is running keeps its old file.
  mv "$bin/$name.new" "$bin/$name"
  stamp_of "$name" >"$bin/$name.stamp"
  echo "build-kube: built $bin/$name in $((SECONDS - started)) s"
}

names=("$@")
if [ ${#names[@]} = 0 ]; then
  names=(kube-apiserver etcd)
  command -v kubectl >/dev/null || names+=(kubectl)
fi
for name in "${names[@]}"; do package_of "$name" >/dev/null; done

mkdir -p "$bin"
exec 9>"$bin/.lock"
flock -n 9 || { echo "build-kube: another run is building; waiting for it"; flock 9; }
stale=()
for name in "${names[@]}"; do is_fresh "$name" || stale+=("$name"); done
[ ${#stale[@]} -gt 0 ] || { echo "build-kube: ${names[*]}: up to date"; exit 0; }
"$root/scripts/need.sh" go
for name in "${stale[@]}"; do build "$name"; done
