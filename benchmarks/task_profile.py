#!/usr/bin/env python3
"""Where each millisecond of a task goes: its landmarks from scheduler to scheduler, and the work done for it.

    python -m benchmarks.task_profile --runs 5 --json task_profile.json

Tasks that do nothing, one after the other, with AirExecutor; medians of all but the first of each run. Starts and ends
an Airflow of its own as `benchmarks.executors` does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import statistics
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import executors, usage
from tests.airflow import home, rest

DAG, TASKS = "profiled", 20
MOMENTS = re.compile(r"moments (\S+) (\S+) (\S+)")
"""What a task prints: when its file began and ended, and when its body began."""
SECONDS_AFTER = 1.0
"""For the ends of the last processes."""

Landmarks = dict[str, float]
"""What happens in the life of a task, and when: milliseconds since the task before it ended."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.task_profile", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--executor", default="air", help="air, air-recommended or air-warm (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help=f"of {TASKS} tasks each (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--directory", type=Path, help="work here, and leave the logs there")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    tasks: list[Landmarks] = []
    with executors.started(options.directory, {}) as bench, bench.system(executors.SYSTEMS[options.executor]):
        bench.run(DAG)
        time.sleep(SECONDS_AFTER)
        before = _efforts(bench)
        for _ in range(options.runs):
            tasks += _landmarks(bench, bench.run(DAG))
        time.sleep(SECONDS_AFTER)
        efforts = {role: effort.since(before[role], options.runs * TASKS) for role, effort in _efforts(bench).items()}
    _tell_landmarks(tasks)
    _tell_efforts(efforts)
    if options.json is not None:
        found = {"landmarks": tasks, "efforts": {role: effort._asdict() for role, effort in efforts.items()}}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _efforts(bench: executors.Bench) -> dict[str, usage.Effort]:
    return {role: usage.effort(pids) for role, pids in bench.roles().items()}


def _landmarks(bench: executors.Bench, run: rest.Run) -> list[Landmarks]:
    """Of each task of a run but the first, which follows none."""
    bench.airflow.home.wait_finished(run)
    columns = "task_id, scheduled_dttm, queued_dttm, start_date, end_date"
    table = f"select {columns} from task_instance where run_id = '{run.run_id}' order by end_date"
    rows = bench.airflow.sql(table)
    return [_of_task(row, bench.airflow.home.job_of(run, row[0]), last[-1]) for last, row in itertools.pairwise(rows)]


def _of_task(row: tuple[Any, ...], job: home.Job, last_end: datetime) -> Landmarks:
    _, scheduled, queued, started, ended = row
    moments = MOMENTS.search(job.log)
    assert moments is not None, f"{job.path} has no moments in its log"
    file_began, file_ended, body_began = map(float, moments.groups())
    found = {
        "scheduler: the task is scheduled": scheduled.timestamp(),
        "scheduler: the task is queued": queued.timestamp(),
        "executor: its job is submitted": _seconds(job.state["queued_at"]),
        "ephemeral runner: has the job": _seconds(job.state["started_at"]),
        "supervisor: asks Airflow to let it start": started.timestamp(),
        "task: its file is being parsed": file_began,
        "task: its file is parsed": file_ended,
        "task: its body begins": body_began,
        "task: ends": ended.timestamp(),
        "ephemeral runner: the end of the job is written": _seconds(job.state["finished_at"]),
    }
    return {name: (moment - last_end.timestamp()) * 1000 for name, moment in found.items()}


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _tell_landmarks(tasks: list[Landmarks]) -> None:
    """In the order of their medians: some of it happens side by side."""
    medians = {name: statistics.median(task[name] for task in tasks) for name in tasks[0]}
    print(f"\nmedians of {len(tasks)} tasks, ms{'':34} after the end of the one before  after the last landmark")
    last = 0.0
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        print(f"{name:60} {median:22.1f} {median - last:24.1f}")
        last = median


def _tell_efforts(efforts: dict[str, usage.Effort]) -> None:
    print(f"\nfor each task {'':20} {'CPU user, ms':>14} {'kernel, ms':>14} {'page faults':>14}")
    for role, effort in efforts.items():
        print(f"{role:34} {effort.user * 1000:14.1f} {effort.system * 1000:14.1f} {effort.faults:14.0f}")


if __name__ == "__main__":
    sys.exit(main())
