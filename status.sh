#!/usr/bin/env bash
# Shows what runs in this checkout and what its jobs do: `air-executor status` of the home that start-dev.sh uses.
# Takes the same options, for example --watch and --json. Exit code: 0 healthy, 1 degraded, 2 not running.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
program=${AIR_EXECUTOR_VENV:-$root/.venv}/bin/air-executor

if [ ! -x "$program" ]; then
  echo "status.sh: not running: nothing is installed here yet (start it with ./start-dev.sh)" >&2
  exit 2
fi
AIR_EXECUTOR_HOME=${AIR_EXECUTOR_HOME:-$root/.air-executor} exec "$program" status --start-with ./start-dev.sh "$@"
