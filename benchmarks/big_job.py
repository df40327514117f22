#!/usr/bin/env python3
"""One job of very many tasks: whether the last ones start as quickly as the first, and what adding tasks costs.

    python -m benchmarks.big_job --tasks 10000 --json big_job.json

The tasks are `true`. A second job has one task, which adds as many as `--added` says at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from air_executor import AirExecutorClient, journal, model
from air_executor.paths import Home
from air_executor.testing import running_runner
from benchmarks import places

PARTS = 10
ADD = "from air_executor import AirExecutorClient; AirExecutorClient().add_tasks([{{'command': 'true'}}] * {count})"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.big_job", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--tasks", type=int, default=10_000, help="of the job (default: %(default)s)")
    parser.add_argument("--added", type=int, default=1000, help="that a task adds (default: %(default)s)")
    parser.add_argument("--max-parallel", type=int, default=8, help="at once (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    return parser.parse_args(arguments)


def ends(client: AirExecutorClient, name: str) -> list[float]:
    """When tasks of a job completed, in the order in which they did; seconds since the epoch."""
    events = journal.read(client.home.job(name).events)
    done = [event["at"] for event in events if event["event"] == "task" and event["to"] == "completed"]
    return [model.parse_time(moment).timestamp() for moment in done]


def run(client: AirExecutorClient, name: str, tasks: list[dict[str, object]], parallel: int) -> list[float]:
    client.create_job(name, tasks, max_parallel=parallel)
    job = client.wait(name, 600)
    assert job.state == "completed", job.exit
    return ends(client, name)


def main() -> int:
    options = parse()
    with places.directory(None) as root:
        client = AirExecutorClient(root / "home")
        with running_runner(Home(root / "home")):
            seen = run(client, "big", [{"command": "true"}] * options.tasks, options.max_parallel)
            adder: dict[str, object] = {"command": sys.executable, "args": ["-c", ADD.format(count=options.added)]}
            added = run(client, "adding", [adder], options.max_parallel)
    size = len(seen) // PARTS
    parts = [(seen[(k + 1) * size - 1] - seen[k * size]) / (size - 1) * 1000 for k in range(PARTS)]
    figures = {
        "ms per task, by tenth of the job": [round(part, 3) for part in parts],
        "the last tenth, against the first": round(parts[-1] / parts[0], 2),
        "ms per task that was added at run time": round((added[-1] - added[0]) / options.added * 1000, 3),
    }
    for name, value in figures.items():
        print(f"{name:44}{value}")
    if options.json is not None:
        options.json.write_text(json.dumps({"tasks": options.tasks, "added": options.added, **figures}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
