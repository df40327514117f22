#!/usr/bin/env bash
# Runs a complete Airflow with Air-Executor in this directory, for development: everything it makes is in .venv,
# .airflow and .air-executor beside it.
#
# What is here: options, the checks before anything is made, the virtual environment. The components themselves are
# started, watched and ended by scripts/start_dev.py, which this script becomes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/lib/messages.sh
. "$root/scripts/lib/messages.sh"
# shellcheck source=scripts/lib/environment.sh
. "$root/scripts/lib/environment.sh"

mode=foreground
port=8080
extras=top,airflow

usage() {
  cat <<TEXT
Usage: ./start-dev.sh [--background | --demo | --stop] [--port N] [--dev]

Runs a complete Airflow with Air-Executor in this directory: the runner, the API server, the scheduler, the DAG
processor and the triggerer. Without an option it stays in the foreground until Ctrl-C.

  --background  return as soon as everything is healthy
  --demo        run the example DAG hello_air_executor and show what became of it; ends what it started
  --stop        end what a start in this directory left running
  --port N      port of the web page and the API (default 8080). Two more follow from it: N+10000 for the logs of
                workers, N+20000 for those of the triggerer; N-10000 and N-20000 if N is above 45535
  --dev         install the development tools too
  --help        this text

Environment:
  AIR_EXECUTOR_PYTHON  the Python to make .venv with (default: 3.12 where there is one, of PATH or pyenv)
  AIR_EXECUTOR_VENV    use this virtual environment as it is, instead of making .venv
  AIRFLOW__SECTION__OPTION
                       an option of Airflow, such as AIRFLOW__CORE__EXECUTOR=LocalExecutor (the runner is started all the
                       same); ports, paths, database, secrets, users and runner are this directory's own
TEXT
}

parse_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --background | --demo | --stop)
        [ "$mode" = foreground ] || usage_error "--$mode and $1 exclude each other"
        mode=${1#--}
        ;;
      --port)
        [ $# -ge 2 ] || usage_error "--port needs a number"
        port=$2
        shift
        ;;
      --port=*) port=${1#--port=} ;;
      --dev) extras=airflow,dev ;;
      -h | --help)
        usage
        exit 0
        ;;
      *) usage_error "unknown option $1" ;;
    esac
    shift
  done
  [[ $port =~ ^[1-9][0-9]{3,4}$ ]] && [ "$port" -ge 1024 ] && [ "$port" -le 65535 ] ||
    usage_error "--port $port is not a port from 1024 to 65535"
}

# The lock is held by a descriptor that start_dev.py inherits, so it lasts exactly as long as anything runs here.
take_lock() {
  exec 9>>"$root/.airflow/start-dev.lock"
  lock_descriptor 9 now || return 1
  printf 'pid %s, still preparing' "$$" >"$root/.airflow/start-dev.lock"
}

holder() { cat "$root/.airflow/start-dev.lock"; }

runs_here() { [ -f "$root/.airflow/start-dev.lock" ] && ! (exec 9>>"$root/.airflow/start-dev.lock" && lock_descriptor 9 now); }

in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Says one number and its purpose per line: Ports in scripts/dev/checkout.py, which looks at them again.
ports() {
  local apart=10000
  [ $((port + 2 * apart)) -le 65535 ] || apart=-10000
  printf '%s the web page\n' "$port"
  printf '%s the logs of workers\n' $((port + apart))
  printf '%s the logs of the triggerer\n' $((port + 2 * apart))
}

# What a killed start left may still have the ports: it is ended first, and the ports are looked at once more then.
check_ports() {
  local number purpose
  [ ! -e "$root/.airflow/start-dev.json" ] || return 0
  while read -r number purpose; do
    ! in_use "$number" || die "port $number (for $purpose) is in use by another program: choose another with --port N"
  done < <(ports)
}

# Becomes the program that starts and watches the components; its exit code is ours.
become_stack() { exec "$venv/bin/python" "$root/scripts/start_dev.py" "$@"; }

start() {
  ! runs_here || die "already running here ($(holder)): stop it with ./start-dev.sh --stop"
  check_ports
  check_environment
  make_state_directory
  take_lock || die "already running here ($(holder)): stop it with ./start-dev.sh --stop"
  ensure_environment "$extras"
  become_stack "$mode" --port "$port" --lock 9
}

parse_options "$@"
case $mode in
  stop)
    runs "$venv/bin/python" || die "nothing runs here: there is no $venv"
    become_stack stop
    ;;
  demo)
    ! runs_here || become_stack demo
    start
    ;;
  *) start ;;
esac
