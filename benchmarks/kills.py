#!/usr/bin/env python3
"""Kill the scheduler, the runner or both with -9, again and again, while tasks flow; then count what ran.

    python -m benchmarks.kills --what both --kills 100 --json both.json

Starts a PostgreSQL and an Airflow of its own, on loopback and in a temporary directory, and ends and removes them, also
when it is interrupted. Exits with 1 if a body did not run exactly once or anything is left over. Needs the development
tools (`pip install -e '.[airflow,dev]'`) and PostgreSQL's server programs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import places
from tests.airflow import databases, flow, kills, postgres, stack

ONE_OF_TWO = "one-of-two"
"""Two schedulers, one run; one of them is killed once, half way, and stays dead."""
SETTLE_SECONDS = 900
"""For the tasks that are left after the last kill."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--what", choices=(*kills.WHAT, ONE_OF_TWO), default="scheduler", help="default: %(default)s")
    parser.add_argument("--kills", type=int, default=100, help="how many times (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices of an earlier run")
    parser.add_argument("--pause", type=float, default=5.0, help="the longest time from up to killed, in seconds")
    parser.add_argument("--parallelism", type=int, default=12, help="how many tasks run at once (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=40, help="kill no more after so long (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--directory", type=Path, help="work here, and leave the logs and the home there")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    options.seed = random.randrange(10**6) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that what was started is ended
    print(f"seed {options.seed}", flush=True)
    started = time.monotonic()
    strain = _one_of_two if options.what == ONE_OF_TWO else _strain
    # Leaving the stack fails if a process of it outlives its own shutdown.
    with (
        places.directory(options.directory) as root,
        postgres.Postgres() as server,
        _airflow(root, server, options) as airflow,
    ):
        result = {"what": options.what, "seed": options.seed, **strain(airflow, options)}
    result["seconds"] = round(time.monotonic() - started)
    _tell(result, options)
    return 1 if result["problems"] else 0


def _airflow(root: Path, server: postgres.Postgres, options: argparse.Namespace) -> stack.Stack:
    settings = {**kills.SOON, "CORE__PARALLELISM": str(options.parallelism)}
    database = databases.PostgresDatabase(server, "airflow")
    return stack.Stack(root, database, executor="airflow_plugin.AirExecutor", settings=settings)


def _strain(airflow: stack.Stack, options: argparse.Namespace) -> dict[str, Any]:
    """Many kills, each of something that has come back since the last one."""
    tasks = flow.Flow(airflow, "flow")
    killer = kills.Killer(airflow, tasks, random.Random(options.seed), reserve=100, pause=options.pause)
    begin = time.monotonic()
    while len(killer.kills) < options.kills and time.monotonic() - begin < options.minutes * 60:
        seen = killer.kill(options.what)
        print(f"{time.monotonic() - begin:6.0f} s  kill {len(killer.kills):3}  {seen}", flush=True)
    flowed = round(time.monotonic() - begin)
    told = {**kills.summary(killer.kills), "seconds of killing": flowed, **_verdict(tasks)}
    return {**told, "each kill": list(kills.rows(killer.kills))}


def _one_of_two(airflow: stack.Stack, options: argparse.Namespace) -> dict[str, Any]:
    tasks = flow.Flow(airflow, "flow")
    with kills.second_scheduler(airflow, {}):
        tasks.trigger()
        victim = kills.kill_one_of_two(tasks, random.Random(options.seed))
        print(f"{victim} was killed", flush=True)
        verdict = _verdict(tasks)
    return {"killed": victim, "task instances of each scheduler": kills.queued_by(tasks), **verdict}


def _verdict(tasks: flow.Flow) -> dict[str, Any]:
    """Wait for the end and count."""
    with contextlib.suppress(TimeoutError):  # what is left then is among the problems
        tasks.finish(SETTLE_SECONDS)
    found = flow.tries(tasks)
    return {
        "tasks": tasks.tasks,
        "bodies started, ended": tasks.counts(),
        "state and try of the task instances": {f"{state} {number}": count for (state, number), count in found.items()},
        "exceptions in the scheduler's log": tasks.airflow.log_file("scheduler").read_text().count("Traceback (most"),
        "problems": flow.problems(tasks),
    }


def _tell(result: dict[str, Any], options: argparse.Namespace) -> None:
    for name, value in result.items():
        if name not in ("problems", "each kill"):
            print(f"{name:40} {value}")
    print(*(result["problems"] or ["each task succeeded exactly once, and nothing is left"]), sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
