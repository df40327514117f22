# Finds a Python and makes the virtual environment that start-dev.sh and scripts/test.sh run in. Sourced, not run.
# Needs messages.sh and $root. Sets $venv, the environment's directory.
# shellcheck shell=bash

supported_pythons="3.10, 3.11, 3.12 or 3.13"
venv=${AIR_EXECUTOR_VENV:-${root:?}/.venv}
python=

# Without bytecode every process would compile all of Airflow again.
unset PYTHONDONTWRITEBYTECODE

runs() { "$1" -c '' >/dev/null 2>&1; }
is_supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }
can_make_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# The best first: since 3.12 processes that are forked share more than twice the memory.
# pyenv leaves names on PATH that refuse to run, unless somebody has chosen that version: what it has is found by itself.
# Of those that end with a t, which are free-threaded, Airflow does not know.
list_candidates() {
  local version
  shopt -s nullglob
  for version in 3.12 3.13 3.11 3.10; do
    printf '%s\n' "python$version" "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$version".*[0-9]/bin/"python$version"
  done
  printf '%s\n' python3 python
}

# Sets $python, or leaves it empty where only uv is there, which brings its own.
# Candidates are run and not just looked up: a name on PATH may refuse to run.
find_python() {
  local candidate incomplete='' wanted=${AIR_EXECUTOR_PYTHON:-}
  while IFS= read -r candidate; do
    is_supported "$candidate" || continue
    if can_make_venv "$candidate"; then
      python=$candidate
      return
    fi
    incomplete=$candidate
  done < <(if [ -n "$wanted" ]; then printf '%s\n' "$wanted"; else list_candidates; fi)
  [ -z "$wanted" ] || die "AIR_EXECUTOR_PYTHON=$wanted is not a complete Python $supported_pythons: name another, or unset it"
  ! command -v uv >/dev/null || return 0
  [ -z "$incomplete" ] || die "$incomplete has no venv module: install it (apt install python$(version_of "$incomplete")-venv)"
  die "no Python $supported_pythons on PATH: install one (apt install python3 python3-venv, brew install python@3.12, or uv)"
}

# lock_descriptor FD wait|now. flock(1) is not on macOS; a lock belongs to the open file and outlives the helper that
# took it, so Python can lend a hand.
lock_descriptor() {
  if command -v flock >/dev/null; then
    if [ "$2" = wait ]; then flock "$1"; else flock -n "$1"; fi
  else
    "${python:-python3}" -c 'import fcntl, sys
fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX | (0 if sys.argv[2] == "wait" else fcntl.LOCK_NB))' "$@" 2>/dev/null
  fi
}

constraints_file() { printf '%s/constraints/py%s.txt' "$root" "$(version_of "$venv/bin/python")"; }

# Everything that decides what is in the environment. The directory counts, because installed scripts name it.
describe_environment() {
  printf '%s\n' "$root"
  cat "$root/pyproject.toml" "$(constraints_file)"
}

is_current() {
  local stamp=$venv/.installed-${1##*,}
  runs "$venv/bin/python" && [ -f "$stamp" ] && describe_environment | cmp -s - "$stamp"
}

make_venv() {
  if [ -n "$python" ]; then
    "$python" -m venv --clear "$venv"
  else
    uv venv --quiet --seed --clear --python 3.12 "$venv"
  fi
}

# uv may not know the mirror that pip is set up for, so its refusal is not the last word.
install_packages() {
  local wanted=".[$1]" constraints
  constraints=$(constraints_file)
  cd "$root" || return
  if command -v uv >/dev/null &&
    uv pip install --compile-bytecode --python "$venv/bin/python" --constraint "$constraints" --editable "$wanted"; then
    return
  fi
  "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --constraint "$constraints" --editable "$wanted"
}

install_environment() {
  local extra extras=$1 log=$root/.airflow/logs/install.log
  is_supported "$venv/bin/python" || run_step "Making .venv" "$log" make_venv || die "cannot make $venv (see $log)"
  run_step "Installing packages" "$log" install_packages "$extras" ||
    die "the installation failed: put right what is shown above and start again (all output: $log)"
  for extra in ${extras//,/ }; do
    describe_environment >"$venv/.installed-$extra"
  done
}

# check_environment: ends the script if ensure_environment could not work. Makes nothing.
check_environment() {
  if [ -n "${AIR_EXECUTOR_VENV:-}" ]; then
    runs "$venv/bin/python" || die "AIR_EXECUTOR_VENV=$venv has no bin/python that runs: name another, or unset it"
  else
    is_supported "$venv/bin/python" || find_python
  fi
}

# ensure_environment EXTRAS: the environment with these extras (airflow, or airflow,dev). An interrupted installation is
# taken up at the next start, as its stamp is missing. Somebody else's environment is used as it is.
ensure_environment() {
  local extras=$1
  [ -z "${AIR_EXECUTOR_VENV:-}" ] && ! is_current "$extras" || return 0
  exec 8>>"$root/.airflow/install.lock"
  lock_descriptor 8 wait
  is_current "$extras" || install_environment "$extras"
  exec 8>&-
}

# What is made while running belongs to one user: it holds secrets.
make_state_directory() {
  { mkdir -p "$root/.airflow/logs" && chmod 700 "$root/.airflow" && [ -w "$root/.airflow/logs" ]; } 2>/dev/null ||
    die "cannot write to $root/.airflow: make it a directory of yours, or use a checkout that you may write to"
}
