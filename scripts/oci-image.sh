#!/usr/bin/env bash
# Writes an OCI image of one layer as a tar, without a daemon. The same input gives the same bytes.
# In:  OUT.tar REFERENCE FOLDER USER ENTRYPOINT…; REFERENCE as in `docker.io/sluice/sluiced:dev`, FOLDER is the layer.
# Out: OUT.tar, which `ctr images import`, `kind load image-archive`, `podman load` and `docker load` take; the
#      image's digest on standard output. Needs GNU tar.
set -euo pipefail

[ $# -ge 5 ] || { echo "usage: oci-image.sh OUT.tar REFERENCE FOLDER USER ENTRYPOINT…" >&2; exit 1; }
out=$1 reference=$2 folder=$3 user=$4
shift 4

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
blobs=$work/image/blobs/sha256
mkdir -p "$blobs"

# Sorted, of no time and no owner; whoever built it may have had any umask.
plain_tar() {
  tar --create --format=gnu --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u+rwX,go+rX,go-w,a-s "$@"
}

digest_of() { sha256sum "$1" | cut -d' ' -f1; }

# add FILE: moves it among the blobs; its digest.
add() {
  local digest
  digest=$(digest_of "$1")
  mv "$1" "$blobs/$digest"
  echo "$digest"
}

size_of() { stat --format=%s "$blobs/$1"; }

strings() { # A B… as "A", "B", …; none of them holds a quote
  local list
  list=$(printf '"%s",' "$@")
  echo "${list%,}"
}

case $(uname -m) in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  *) architecture=$(uname -m) ;;
esac

(cd "$folder" && plain_tar --file="$work/layer" -- *)
layer=$(add "$work/layer")
printf '{"created":"1970-01-01T00:00:00Z","architecture":"%s","os":"linux","config":{"User":"%s","Entrypoint":[%s],"WorkingDir":"/","Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"1970-01-01T00:00:00Z"}]}' \
  "$architecture" "$user" "$(strings "$@")" "$layer" >"$work/config"
config=$(add "$work/config")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%s}]}' \
  "$config" "$(size_of "$config")" "$layer" "$(size_of "$layer")" >"$work/manifest"
manifest=$(add "$work/manifest")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"},"platform":{"architecture":"%s","os":"linux"}}]}' \
  "$manifest" "$(size_of "$manifest")" "$reference" "$reference" "$architecture" >"$work/image/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"
# What Docker before 25 reads.
printf '[{"Config":"blobs/sha256/%s","RepoTags":["%s"],"Layers":["blobs/sha256/%s"]}]' \
  "$config" "$reference" "$layer" >"$work/image/manifest.json"
mkdir -p "$(dirname "$out")"
# Moved into place whole: who loads it never sees half of it.
(cd "$work/image" && plain_tar --file="$work/out" -- oci-layout index.json manifest.json blobs)
mv "$work/out" "$out"
echo "sha256:$manifest"
