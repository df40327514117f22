# Programs that the tests need from the system, and how they come there. Sourced, not run. Needs messages.sh.
# shellcheck shell=bash

has_postgresql() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }

can_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

# Debian's package makes and starts a cluster of its own unless told not to; the tests make theirs.
install_postgresql() {
  local settings=/etc/postgresql-common/createcluster.conf
  export DEBIAN_FRONTEND=noninteractive
  apt-get update &&
    apt-get install --yes --no-install-recommends postgresql-common &&
    { grep -q '^create_main_cluster' "$settings" || echo 'create_main_cluster = false' >>"$settings"; } &&
    apt-get install --yes --no-install-recommends postgresql
}

ensure_postgresql() {
  has_postgresql && return
  can_install || die "the tests need the PostgreSQL server programs: install them (apt install postgresql, brew install postgresql)"
  run_step "Installing PostgreSQL" "$1" install_postgresql ||
    die "apt-get could not install postgresql: put right what is shown above, or install it by hand (all output: $1)"
}

install_programs() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update && without_services apt-get install --yes --no-install-recommends "$@"
}

# Debian's packages start the services that they bring, unless this program forbids it: the tests start their own. One that
# is there already is somebody's decision.
policy=/usr/sbin/policy-rc.d

without_services() (
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  "$@"
)

# Those of administrators are not on everybody's PATH.
has_program() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }

# ensure_programs LOG NAME...: programs whose packages have their names; PROGRAM=PACKAGE for those whose packages do not.
ensure_programs() {
  local log=$1 name
  local -a missing=()
  shift
  for name; do has_program "${name%=*}" || missing+=("${name#*=}"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  can_install || die "the tests need ${missing[*]}: install them (apt install ${missing[*]})"
  run_step "Installing ${missing[*]}" "$log" install_programs "${missing[@]}" ||
    die "apt-get could not install ${missing[*]}: put right what is shown above, or install it by hand (all output: $log)"
}
