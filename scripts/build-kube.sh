#!/usr/bin/env bash
# Builds Kubernetes' programs and etcd from Go modules into the cache folder that all scripts share.
# In:  names of programs (default: kube-apiserver etcd kubectl); SLUICE_CACHE (default: .cache in the repository).
# Out: $SLUICE_CACHE/kube/bin/<name>. Seconds when nothing changed, about 7 minutes on two cores from nothing.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
bin="${SLUICE_CACHE:-$root/.cache}/kube/bin"
modules=$root/tests/kube/go
version=v1.36.3

names=("$@")
[ ${#names[@]} -gt 0 ] || names=(kube-apiserver etcd kubectl)

fail() { echo "build-kube: $*" >&2; exit 1; }

command -v go >/dev/null || fail "go is not installed; Go 1.26 or newer is needed (https://go.dev/doc/install)"

module_of() { case $1 in etcd) echo etcd ;; *) echo kubernetes ;; esac; }

stamp_of() { { cat "$modules/$(module_of "$1")/go.mod" "$modules/$(module_of "$1")/go.sum"; go version; } | sha256sum | cut -d' ' -f1; }

is_fresh() { [ -x "$bin/$1" ] && [ "$(cat "$bin/$1.stamp" 2>/dev/null)" = "$(stamp_of "$1")" ]; }

build() {
  local name=$1 package flags="-s -w"
  case $name in
    etcd) package=go.etcd.io/etcd/server/v3 ;;
    kube-*|kubectl|kubelet)
      package=k8s.io/kubernetes/cmd/$name
      flags+=" -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1"
      flags+=" -X k8s.io/component-base/version.gitMinor=36" ;;
    *) fail "unknown program $name" ;;
  esac
  echo "build-kube: building $name (once; minutes)"
  (cd "$modules/$(module_of "$name")" &&
    CGO_ENABLED=0 nice -n 5 go build -trimpath -ldflags "$flags" -o "$bin/$name.new" "$package")
  mv "$bin/$name.new" "$bin/$name"
  stamp_of "$name" >"$bin/$name.stamp"
}

mkdir -p "$bin"
exec 9>"$bin/.lock"
flock 9 # a second run waits for the first instead of building twice
for name in "${names[@]}"; do
  is_fresh "$name" || build "$name"
done
