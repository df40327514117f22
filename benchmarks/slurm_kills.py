#!/usr/bin/env python3
"""Kill the runner, its process for Slurm, Slurm's controller and nodes with -9, at random, while jobs flow through it.

    python -m benchmarks.slurm_kills --jobs 100 --kills 40 --json slurm.json
    python -m benchmarks.slurm_kills --airflow --jobs 100 --kills 20

Makes a Slurm of its own with three nodes on this host, with `--airflow` also a PostgreSQL and an Airflow whose
scheduler is killed, too; and ends and removes them, also when it is interrupted. Exits with 1 if a body ran twice in
one attempt, none of a job came to its end, an attempt failed for a reason that is not true, or anything is left over.
Needs the development tools (`pip install -e '.[airflow,dev]'`) and Slurm's programs, with `--airflow` PostgreSQL's.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import places
from tests.airflow import postgres
from tests.slurm import flood, kills
from tests.slurm.cluster import Cluster

SETTLE_SECONDS = 900
"""For the jobs that are left after the last kill."""
NODE_TIMEOUT = "5"
"""Seconds until Slurm's controller takes a silent node for dead."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.slurm_kills", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--airflow", action="store_true", help="tasks of Airflow, whose scheduler is killed, too")
    parser.add_argument("--jobs", type=int, default=100, help="how many, or tasks (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=40, help="how many times (default: %(default)s)")
    parser.add_argument("--longest", type=float, default=8.0, help="of a body, in seconds (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=3.0, help="the longest time between two kills, in seconds")
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices of an earlier run")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--directory", type=Path, help="work here, and leave the logs and the home there")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    options.seed = random.randrange(10**6) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that what was started is ended
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()
    with places.directory(options.directory) as root:
        cluster = Cluster(NODE_TIMEOUT=NODE_TIMEOUT)
        try:
            result = (_with_airflow if options.airflow else _engine)(root, cluster, options)
        finally:
            cluster.close()
    result = {"seed": options.seed, **result, "seconds": round(time.monotonic() - began)}
    _tell(result, options.json)
    return 1 if result["problems"] else 0


def _engine(root: Path, cluster: Cluster, options: argparse.Namespace) -> dict[str, Any]:
    storm = kills.Storm(root, cluster, random.Random(options.seed))
    try:
        storm.submit(options.jobs, options.longest)
        return _strain(storm, options)
    finally:
        storm.end()


def _with_airflow(root: Path, cluster: Cluster, options: argparse.Namespace) -> dict[str, Any]:
    with postgres.Postgres() as server, flood.airflow(root, server, cluster) as airflow:
        storm = flood.Flood(airflow, cluster, random.Random(options.seed))
        storm.submit(options.jobs, options.longest)
        return _strain(storm, options)


def _strain(storm: kills.Storm | flood.Flood, options: argparse.Namespace) -> dict[str, Any]:
    chosen, begin = random.Random(options.seed), time.monotonic()
    for number in range(options.kills):
        what = chosen.choice(storm.what)
        storm.kill(what, options.pause)
        print(f"{time.monotonic() - begin:6.0f} s  kill {number + 1:3}  {what}", flush=True)
    problems = []
    try:
        storm.finish(SETTLE_SECONDS)
    except (AssertionError, TimeoutError) as error:  # what is left then is among the problems, too
        problems = [str(error)]
    return {**storm.summary(), "problems": [*problems, *storm.problems()]}


def _tell(result: dict[str, Any], file: Path | None) -> None:
    for name, value in result.items():
        if name != "problems":
            print(f"{name:40} {value}")
    good = "each body came to its end, none ran twice in one attempt, and nothing is left"
    print(*(result["problems"][:50] or [good]), sep="\n")
    if file is not None:
        file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
