#!/usr/bin/env python3
"""The index of jobs: what making, refreshing and asking it takes with many finished jobs in the home.

    python -m benchmarks.index --jobs 100000 --json index.json

The jobs are made by writing what a job of Airflow leaves; nothing is run. 100,000 of them take 1 GiB for a while.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from air_executor import _json, model, store
from air_executor.index import EVERYTHING, Filter, Index
from air_executor.paths import Home
from benchmarks import places

DAGS = 200
TASKS = 8
SPAN = 14 * 86_400
"""The jobs ended within so many seconds."""
PAGE = 50
STATES = [model.JobState.COMPLETED] * 47 + [model.JobState.FAILED] * 2 + [model.JobState.CANCELLED]


def parse(name: str, text: str | None) -> argparse.Namespace:
    """The arguments of a benchmark of a large home, of which `text` is the docstring."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=(text or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=100_000, help="in the home (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=20, help="of each question (default: %(default)s)")
    parser.add_argument("--directory", type=Path, help="where to work; it stays (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    return parser.parse_args()


def make_job(number: int, count: int, now: float, chance: random.Random) -> model.Job:
    """What the runner leaves of a task of Airflow."""
    dag, task, run = f"dag_{number % DAGS}", f"task_{number % TASKS}", f"scheduled__{number // TASKS}"
    state = chance.choice(STATES)
    queued = now - SPAN * (count - number) / count
    started = queued + chance.expovariate(2.0)
    wall = chance.lognormvariate(2.0 + number % TASKS / 4, 0.6)
    job = model.Job(f"airflow-{dag}-{task}-{run}-try1-{number:012x}", state=state, queue=f"queue_{number % 4}")
    job.trigger, job.external_id, job.template = "executor", f"{number:036x}", "airflow_plugin.workload"
    job.labels = {"kind": "task", "dag_id": dag, "task_id": task, "run_id": run, "map_index": "-1"}
    job.labels |= {"try_number": "1", "ti_id": f"{number:036x}"}
    job.created_at = job.queued_at = model.from_timestamp(queued)
    job.started_at = model.from_timestamp(started)
    job.finished_at = job.updated_at = model.from_timestamp(started + wall)
    job.runner = model.Process("host", f"{1:036x}", 4711, 815, "host-1")
    job.usage = {"wall_s": round(wall, 3), "cpu_s": round(wall / 3, 2), "max_rss_mb": chance.randint(80, 900)}
    kind = {"completed": "success", "failed": "exit_code", "cancelled": "cancelled"}[state.value]
    reason = f"task workload failed with exit code {number % 9}" if state == "failed" else state.value
    job.exit = model.Exit(model.ExitKind(kind), reason, number % 9 if state == "failed" else 0)
    return job


def make_home(home: Home, count: int) -> None:
    store.ensure_home(home)
    chance, now = random.Random(1), time.time()
    for number in range(count):
        job = make_job(number, count, now, chance)
        directory = f"{home.jobs}/{job.name}"
        os.mkdir(directory, 0o700)  # noqa: PTH102
        fd = os.open(f"{directory}/state.json", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, _json.pretty(store.state_content(job)))
        os.close(fd)


def measure(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and longest, milliseconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(times), 2), round(max(times), 2)


def build(home: Home) -> dict[str, float]:
    """Seconds until the newest jobs can be shown, and until all are read."""
    began = time.perf_counter()
    with Index(home) as index:
        first = None
        while index.refresh().unread:
            if first is None and len(index.page(limit=PAGE).jobs) == PAGE:
                first = time.perf_counter() - began
        whole = time.perf_counter() - began
    size = sum(path.stat().st_size for path in home.index.iterdir())
    return {
        "build: until the newest 50 are there, s": round(first or whole, 2),
        "build: all, s": round(whole, 2),
        "size of the file, MiB": round(size / 2**20, 1),
    }


def open_and_show(home: Home) -> None:
    with Index(home) as index:
        index.refresh()
        assert index.page(limit=PAGE).jobs


def questions(index: Index) -> dict[str, Callable[[], object]]:
    now = time.time()
    some, none = [f"dag_{number}" for number in range(50, 5050)], [f"other_{number}" for number in range(5000)]
    middle = index.page(Filter(until=now - SPAN / 2), limit=1).jobs[0]
    key = f"{middle.created!r}~{middle.name}"
    return {
        "refresh, nothing new": lambda: index.refresh(),
        "page: the newest": lambda: index.page(limit=PAGE),
        "page: in the middle": lambda: index.page(limit=PAGE, before_key=key),
        "page: failed": lambda: index.page(Filter(states=["failed"]), PAGE),
        "page: one DAG": lambda: index.page(Filter(labels={"dag_id": "dag_7"}), PAGE),
        "page: one DAG, task and queue, failed": lambda: index.page(
            Filter(labels={"dag_id": "dag_7", "task_id": "task_7"}, queues=["queue_3"], states=["failed"]), PAGE
        ),
        "page: a run": lambda: index.page(Filter(labels={"run_id": "scheduled__77"}), PAGE),
        "page: a text that is nowhere": lambda: index.page(Filter(text="nowhere"), PAGE),
        "page: 5,000 DAGs allowed": lambda: index.page(Filter(dags=some, without_dag=True), PAGE),
        "page: 5,000 DAGs allowed, without jobs": lambda: index.page(Filter(dags=none), PAGE),
        "count: all": lambda: index.count(),
        "count: a text": lambda: index.count(Filter(text="exit code 3")),
        "count: 5,000 DAGs allowed": lambda: index.count(Filter(dags=some)),
        "facets": lambda: index.facets(),
        "facets: 5,000 DAGs allowed": lambda: index.facets(Filter(dags=some)),
        "history: 14 days by hours": lambda: index.history(EVERYTHING, now - SPAN, now, 3600),
        "history: a day by minutes": lambda: index.history(EVERYTHING, now - 86400, now, 60),
        "history: 14 days, 5,000 DAGs allowed": lambda: index.history(Filter(dags=some), now - SPAN, now, 3600),
        "usage by dag_id, task_id": lambda: index.usage(["dag_id", "task_id"]),
    }


def listing(home: Home, *words: str) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "air_executor", "--home", str(home.root), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return round(time.perf_counter() - began, 2)


def main() -> int:
    options = parse("index", __doc__)
    figures: dict[str, object] = {}
    with places.directory(options.directory) as root:
        home = Home(root / "home")
        began = time.perf_counter()
        make_home(home, options.jobs)
        print(f"made {options.jobs} jobs in {time.perf_counter() - began:.0f} s", flush=True)
        figures |= build(home)
        timed = {"open, refresh, first page": measure(lambda: open_and_show(home), options.repeats)}
        with Index(home) as index:
            index.refresh()
            for what, work in questions(index).items():
                timed[what] = measure(work, options.repeats)
            timed["catch up: look at every job"] = measure(index.catch_up, 3)
        figures["command: usage, s"] = listing(home, "usage")
        figures["command: list, s"] = listing(home, "list")
        figures["command: list of a label that no job has, s"] = listing(home, "list", "--label", "a=b")
    for name, value in figures.items():
        print(f"{name:50}{value:>10}")
    for name, (median, longest) in timed.items():
        print(f"{name:50}{median:10.2f} ms   longest {longest:10.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps({"jobs": options.jobs, **figures, "ms": timed}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
