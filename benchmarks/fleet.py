#!/usr/bin/env python3
"""Runners that share one home, and many one-line jobs; optionally one of the runners is killed again and again.

    python -m benchmarks.fleet --jobs 10000 --runners 3 --kill-every 1 --json fleet.json

Works in a temporary directory, and ends and removes all of it, also when it is interrupted. Exits with 1 if a body did
not run exactly once or anything is left over. Needs no Airflow.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import fleet, world


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--runners", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--slots", type=int, default=16, help="of each runner (default: %(default)s)")
    parser.add_argument("--kill-every", type=float, metavar="S", help="kill -9 of one runner every so many seconds")
    parser.add_argument("--new-names", action="store_true", help="a killed runner comes back under another name")
    parser.add_argument("--long-each", type=int, default=20, metavar="N", help="every Nth body takes 2 s; 0: none")
    parser.add_argument("--minutes", type=float, default=20, help="give up after so long (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--directory", type=Path, help="work here, and leave the logs and the home there")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that what was started is ended
    if options.directory is not None:
        options.directory.mkdir(parents=True)
        result = _strain(options.directory.resolve(), options)
    else:
        with tempfile.TemporaryDirectory(prefix="air-fleet-", ignore_cleanup_errors=True) as directory:
            result = _strain(Path(directory), options)
    _tell(result, options.json)
    return 1 if result["problems"] else 0


def _strain(root: Path, options: argparse.Namespace) -> dict[str, object]:
    runners = fleet.Fleet(
        world.World(root), options.runners, options.slots, long_each=options.long_each, new_names=options.new_names
    )
    began = time.monotonic()
    problems = []
    try:
        runners.start()
        runners.flow(options.jobs, options.kill_every, options.minutes * 60)
        seconds = time.monotonic() - began
        runners.stop()
    except AssertionError as error:  # not in time: what is missing is among the problems
        seconds = time.monotonic() - began
        problems = [str(error)]
    finally:
        runners.end()
    figures = {"runners": options.runners, "seconds": round(seconds, 1), "jobs a second": round(options.jobs / seconds)}
    return {**runners.summary(), **figures, "problems": [*problems, *runners.problems()]}


def _tell(result: dict[str, object], file: Path | None) -> None:
    problems = result["problems"]
    assert isinstance(problems, list)
    for name, value in result.items():
        if value is not problems:
            print(f"{name:46} {value}")
    print(*(problems[:50] or ["each body ran exactly once, and nothing is left"]), sep="\n")
    if file is not None:
        file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
