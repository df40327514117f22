# What the shell scripts say, and how they end. Sourced, not run.
# shellcheck shell=bash

program=${0##*/}
step_pid=

say() { printf '%s\n' "$*"; }

die() {
  printf '%s: %s\n' "$program" "$*" >&2
  exit 1
}

usage_error() {
  printf '%s: %s (see %s --help)\n' "$program" "$*" "$program" >&2
  exit 2
}

# run_step TITLE LOG COMMAND...: one long step with its output in a log, which is shown only if it fails.
# Returns the command's exit code. The command is a process group of its own, so that end_step reaches all of it.
run_step() {
  local title=$1 log=$2 started=$SECONDS status=0
  shift 2
  printf '%s ... ' "$title"
  set -m
  "$@" >"$log" 2>&1 </dev/null &
  step_pid=$!
  set +m
  wait "$step_pid" || status=$?
  step_pid=
  if [ "$status" -eq 0 ]; then
    say "done ($((SECONDS - started)) s)"
  else
    say "failed (exit code $status)"
    tail -n 15 "$log" | sed 's/^/    /' >&2
  fi
  return "$status"
}

# A step runs in the background of the shell, because bash would otherwise put off a trap until the step has ended.
end_step() {
  [ -n "$step_pid" ] || return 0
  kill -TERM -- "-$step_pid" 2>/dev/null || true
  wait "$step_pid" 2>/dev/null || true
}

interrupted() {
  trap '' INT TERM HUP
  end_step
  printf '\n%s: interrupted\n' "$program" >&2
  exit "$1"
}

trap 'interrupted 129' HUP
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
