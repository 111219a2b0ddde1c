#!/bin/sh
# Checks that the programs a target uses are here, and installs what Debian's archive has when the user is root.
# In:  names: rust go kubectl python openssl iptables (none: all of them); SLUICE_CACHE as in build-kube.sh.
# Out: 0, or 1 after one message for each missing program that says how to get it. iptables is optional: the tests
#      that capture traffic are skipped, and counted as skipped, without it.
# Run it, or source it in a recipe: `. scripts/need.sh && need rust go` also puts the usual install folders on PATH.
# POSIX sh because make's recipes are; when sourced, the current folder is the repository.

case $0 in
  *need.sh) need_root=$(cd "$(dirname "$0")/.." && pwd) ;;
  *) need_root=$(pwd) ;;
esac
. "$need_root/scripts/apt.sh"

need_rust_version=1.90
need_go_version=1.26

# Installers of Rust and Go leave PATH to the user's next login; Debian keeps iptables in /usr/sbin; the cache holds
# a kubectl that we built.
PATH="$PATH:$HOME/.cargo/bin:/usr/local/go/bin:/usr/sbin:${SLUICE_CACHE:-$need_root/.cache}/kube/bin"
export PATH

need_has() { command -v "$1" >/dev/null 2>&1; }

need_says() { echo "need: $*" >&2; }

need_rust() {
  if need_has cargo && need_has rustc; then
    # A broken rustup shim prints nothing: an empty version is too old.
    need_found=$(cd "$need_root" && rustc --version 2>/dev/null | cut -d' ' -f2)
    version_at_least "${need_found:-0}" "$need_rust_version" && return
    need_says "rustc ${need_found:-(broken)} is too old, $need_rust_version is needed: run 'rustup update stable'"
    return 1
  fi
  if apt_offers rustc "$need_rust_version"; then apt_install rustc cargo && return; fi
  need_says "cargo and rustc $need_rust_version or newer are missing: install them with rustup (https://rustup.rs)"
  return 1
}

# Asked inside the module: Go 1.21 and newer fetch the version that go.mod names, unless GOTOOLCHAIN=local.
need_go_found() { (cd "$need_root/tests/kube/go/kubernetes" && go env GOVERSION 2>/dev/null | sed 's/^go//'); }

need_go() {
  if ! need_has go && apt_offers golang-go 1.21; then apt_install golang-go || true; fi
  if ! need_has go; then
    need_says "go $need_go_version or newer is missing: install it from https://go.dev/doc/install"
    return 1
  fi
  need_found=$(need_go_found)
  version_at_least "${need_found:-0}" "$need_go_version" && return
  need_says "$(go env GOVERSION 2>/dev/null || go version) is too old, $need_go_version is needed:" \
    "install it from https://go.dev/doc/install (or set GOTOOLCHAIN=auto with Go 1.21 and newer)"
  return 1
}

need_kubectl() {
  need_has kubectl && return
  "$need_root/scripts/build-kube.sh" kubectl >&2 && return
  need_says "kubectl is missing and could not be built: install it, or Go, and try again"
  return 1
}

need_python() {
  need_has python3 || apt_install python3 python3-pip || true
  if ! need_has python3; then need_says "python3 is missing: install python3 and python3-pip"; return 1; fi
  python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip || true
  python3 -m pip --version >/dev/null 2>&1 && return
  need_says "pip is missing for $(command -v python3): install python3-pip"
  return 1
}

need_openssl() {
  need_has openssl || apt_install openssl || true
  need_has openssl && return
  need_says "openssl is missing: install the package openssl"
  return 1
}

need_iptables() {
  need_has iptables || apt_install iptables || true
  need_has iptables || need_says "iptables is missing: tests of traffic capture will be skipped (install the package iptables)"
}

need() {
  [ $# -gt 0 ] || set -- rust go kubectl python openssl iptables
  need_missing=0
  for need_name in "$@"; do
    case $need_name in
      rust | go | kubectl | python | openssl | iptables) "need_$need_name" || need_missing=$((need_missing + 1)) ;;
      *) need_says "unknown name $need_name"; need_missing=$((need_missing + 1)) ;;
    esac
  done
  [ "$need_missing" = 0 ]
}

case $0 in
  *need.sh) set -eu; need "$@" ;;
esac
