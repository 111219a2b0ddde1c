# shellcheck shell=sh
# Installs Debian packages for the other scripts; sourced, never run.
# In:  apt_install PACKAGE…; apt_offers PACKAGE MINIMUM asks whether the archive has that version or a newer one.
# Out: 0 when the packages are installed; 1 with nothing changed when this is not Debian or the user is not root.
# POSIX sh, because Makefile recipes source it too.

apt_usable() { command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; }

# True when version $1 is at least version $2 (1.26.8 against 1.26).
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

apt_offers() {
  apt_usable || return 1
  # A fresh machine has no package lists and so no candidate.
  [ -n "$(apt_candidate_of "$1")" ] || apt-get -qq update >&2 || return 1
  apt_candidate=$(apt_candidate_of "$1")
  [ -n "$apt_candidate" ] && version_at_least "$apt_candidate" "$2"
}

# The upstream version, without Debian's epoch (2:) and revision (-1); empty when there is none.
apt_candidate_of() {
  apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9]*:\)\{0,1\}\([0-9][0-9.]*\).*/\2/p'
}

apt_install() {
  apt_usable || return 1
  echo "installing $* (apt-get)" >&2
  apt_get_install "$@" && return
  # An old machine has stale package lists.
  apt-get -qq update >&2 && apt_get_install "$@"
}

# Prints what apt-get said only when it failed.
apt_get_install() {
  apt_said=$(DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" </dev/null 2>&1) && return
  echo "$apt_said" >&2
  return 1
}
