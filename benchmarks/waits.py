#!/usr/bin/env python3
"""Thousands of deferred tasks that wait for jobs in one triggerer: its CPU while nothing ends, and how soon it tells.

    python -m benchmarks.waits --jobs 5000 --ends 500 --json waits.json

Starts a PostgreSQL and an Airflow of its own, on loopback and in a temporary directory, and ends and removes them. The
jobs wait in a queue that nobody serves; some of them are ended one by one, at an even pace. The tasks are put into the
database as deferred ones (`benchmarks.deferred`), and no scheduler runs: what is measured is the triggerer alone.
Beside it stands what the triggerer takes for as many tasks that wait for next year: Airflow looks at each trigger once
a second, whatever it waits for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from air_executor import AirExecutorClient, model, store
from benchmarks import places, usage
from tests.airflow import databases, postgres, rest, stack, waiting

DAGS = Path(__file__).parent / "dags"
ROOT = Path(__file__).parents[1]
IDLE_SECONDS = 30.0
QUIET_SECONDS = 10.0
"""For what Airflow does after triggers were loaded."""
FETCH = "select map_index, updated_at from task_instance where map_index >= 0 and state = 'scheduled'"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waits", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=5000, help="how many are waited for (default: %(default)s)")
    parser.add_argument("--ends", type=int, default=500, help="how many of them end (default: %(default)s)")
    parser.add_argument("--pace", type=float, default=10.0, help="how many of these a second (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--directory", type=Path, help="work here, and leave the logs there")
    return parser.parse_args(arguments)


def idle(airflow: stack.Stack) -> float:
    """CPU of the triggerer, percent of a core, while nothing happens."""
    time.sleep(QUIET_SECONDS)
    pids = usage.tree(airflow.component("triggerer").pid)
    before = usage.cpu(pids)
    time.sleep(IDLE_SECONDS)
    return (usage.cpu(pids) - before) / IDLE_SECONDS * 100


def submit(client: AirExecutorClient, count: int) -> list[str]:
    """Jobs that nobody runs."""
    names = [f"awaited-{number:05d}" for number in range(count)]
    store.ensure_home(client.home)
    for start in range(0, count, 500):
        jobs = [model.Job(name, queue="nobody") for name in names[start : start + 500]]
        refused = store.submit_batch(client.home, [store.Submission(job, [model.Task("true")]) for job in jobs])
        assert not refused
    return names


def write_deferred(airflow: stack.Stack, run: rest.Run, kind: str, names: list[str]) -> None:
    command = [sys.executable, "-m", "benchmarks.deferred", run.run_id, kind]
    subprocess.run(command, input="\n".join(names), text=True, env=airflow.environment, cwd=ROOT, check=True)


def idle_with_dates(airflow: stack.Stack, run: rest.Run, count: int) -> float:
    """The same while as many tasks wait for next year."""
    write_deferred(airflow, run, "date", [str(number) for number in range(count)])
    waiting.until(lambda: len(trigger_logs(airflow)) == count, "all triggers to start", 600)
    return idle(airflow)


def defer(airflow: stack.Stack, run: rest.Run, names: list[str]) -> float:
    """Let tasks wait for these jobs; how many seconds until the triggerer waits for all of them."""
    write_deferred(airflow, run, "job", names)
    began, awaited = time.monotonic(), airflow.home.path / "spool" / "awaited"
    waiting.until(lambda: len(list(awaited.iterdir())) == len(names), "the triggerer to wait for all jobs", 600)
    return time.monotonic() - began


def end_some(client: AirExecutorClient, names: list[str], pace: float) -> dict[int, float]:
    """End jobs one after the other; when each ended, seconds since the epoch."""
    ended = {}
    began = time.monotonic()
    for number, name in enumerate(names):
        time.sleep(max(0.0, began + number / pace - time.monotonic()))
        client.cancel(name)
        ended[number] = time.time()
    return ended


def trigger_logs(airflow: stack.Stack) -> list[Path]:
    """One for each trigger that has started."""
    return list((airflow.root / "logs").rglob("map_index=*/*.trigger.*.log"))


def find_events(airflow: stack.Stack) -> dict[int, float]:
    """When the trigger of each task gave its event, as the trigger's log has it; by map index."""
    found = {}
    for file in trigger_logs(airflow):
        for line in file.read_text().splitlines():
            if "Trigger fired event" in line:
                number = int(file.parent.name.partition("=")[2])
                found[number] = model.parse_time(json.loads(line)["timestamp"]).timestamp()
    return found


def describe(what: str, delays: list[float]) -> dict[str, float]:
    """How long after the end of its job something came, seconds."""
    delays.sort()
    return {
        f"end to {what}, median, s": statistics.median(delays),
        f"end to {what}, 95 %, s": delays[int(len(delays) * 0.95)],
        f"end to {what}, slowest, s": delays[-1],
        f"end to {what}, within 1 s, %": sum(delay <= 1 for delay in delays) / len(delays) * 100,
    }


def main() -> int:
    options = parse()
    executor, settings = "airflow_plugin.AirExecutor", {"TRIGGERER__CAPACITY": str(2 * options.jobs)}
    with places.directory(options.directory) as root, postgres.Postgres() as server:
        database = databases.PostgresDatabase(server, "airflow")
        with stack.Stack(root, database, executor=executor, dags=DAGS, settings=settings) as airflow:
            run = airflow.rest.trigger("warm")
            assert airflow.rest.finished(run) == "success"
            airflow.end_component("scheduler")
            figures = {"CPU without waits, %": idle(airflow)}
            figures["CPU with as many waits for a date, %"] = idle_with_dates(airflow, run, options.jobs)
            client = AirExecutorClient(airflow.home.path)
            names = submit(client, options.jobs)
            figures["until all are waited for, s"] = defer(airflow, run, names)
            figures["CPU with all waits, %"] = idle(airflow)
            pids = usage.tree(airflow.component("triggerer").pid)
            before = usage.cpu(pids)
            ended = end_some(client, names[: options.ends], options.pace)
            told = {row[0]: row[1].timestamp() for row in _all_told(airflow, options.ends)}
            figures["CPU for an end, ms"] = (usage.cpu(pids) - before) / options.ends * 1000
            fired = find_events(airflow)
    for what, times in (("event", fired), ("task scheduled", told)):
        figures |= describe(what, [times[number] - ended[number] for number in ended])
    for name, value in figures.items():
        print(f"{name:52}{value:10.3f}")
    if options.json is not None:
        options.json.write_text(json.dumps({"options": {"jobs": options.jobs, "ends": options.ends}, **figures}) + "\n")
    return 0


def _all_told(airflow: stack.Stack, count: int) -> list[tuple[Any, ...]]:
    return waiting.until(lambda: (rows := airflow.sql(FETCH)) and len(rows) == count and rows, "all events", 120)


if __name__ == "__main__":
    sys.exit(main())
