#!/usr/bin/env python3
"""The same DAGs under several executors, in turns: time per task, tasks per second, CPU, memory.

    python -m benchmarks.executors --executors air,local --rounds 3 --json executors.json

Starts a PostgreSQL and an Airflow of its own, on loopback and in a temporary directory, and ends and removes them. Each
round gives each executor a fresh scheduler (and Celery a fresh worker); API server and DAG processor stay. `celery`
needs the Celery provider and Redis' server: `pip install 'apache-airflow-providers-celery[redis]'`, `apt install
redis-server`. Some of the DAGs need pandas.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import places, usage
from tests.airflow import databases, postgres, rest, stack, waiting

DAGS = Path(__file__).parent / "dags"
SCENARIOS = ("chain", "fan", "chain_pandas", "fan_pandas", "sleepers", "idle")
IDLE_SECONDS = 20.0
WARM_SECONDS = 3.0
"""Between the warming run and the first measurement."""
POLL = 0.5
"""Seconds between looks at a run, so that looking costs nothing."""


@dataclass(frozen=True)
class System:
    """An executor under test, and what it needs besides."""

    executor: str
    settings: dict[str, str] = field(default_factory=dict)
    celery: bool = False


SYSTEMS = {
    "air": System("airflow_plugin.AirExecutor"),
    "air-recommended": System("airflow_plugin.AirExecutor", {"SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0"}),
    "air-warm": System("airflow_plugin.AirExecutor", {"AIR_EXECUTOR__WARM_DAGS": "True"}),
    "local": System("LocalExecutor"),
    "celery": System("CeleryExecutor", {"CELERY__WORKER_CONCURRENCY": "32"}, celery=True),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.executors", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--executors", default="air,local", help=f"of {', '.join(SYSTEMS)} (default: %(default)s)")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS[:4]), help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--rounds", type=int, default=3, help="how often each (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an Airflow option for all")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--directory", type=Path, help="work here, and leave the logs there")
    return parser.parse_args(arguments)


class Bench:
    """An Airflow whose scheduler changes."""

    def __init__(self, airflow: stack.Stack, server: postgres.Postgres) -> None:
        self.airflow, self._server = airflow, server

    @contextlib.contextmanager
    def system(self, system: System) -> Iterator[None]:
        """Let the scheduler, and a worker, work with that executor."""
        with contextlib.ExitStack() as rest_of_it:
            settings = {"CORE__EXECUTOR": system.executor, **system.settings}
            if system.celery:
                settings |= rest_of_it.enter_context(self._celery(settings))
            self.airflow.start_scheduler(**settings)
            try:
                self.run("warm")
                time.sleep(WARM_SECONDS)
                yield
            finally:
                self.airflow.end_component("scheduler")
                self.airflow.end_runners()

    @contextlib.contextmanager
    def _celery(self, settings: dict[str, str]) -> Iterator[dict[str, str]]:
        (port,) = stack.free_ports(1)
        given = {"CELERY__BROKER_URL": f"redis://127.0.0.1:{port}/0"}
        given["CELERY__RESULT_BACKEND"] = f"db+{self.airflow.database.url}"
        redis = [
            "redis-server",
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self.airflow.root),
        ]
        self.airflow.spawn("redis", redis)
        command = [str(stack.BIN / "airflow"), "celery", "worker", "--skip-serve-logs"]
        self.airflow.spawn("worker", command, **settings, **given)
        try:
            waiting.until(lambda: "ready" in self.airflow.log_file("worker").read_text(), "the worker", 60)
            yield given
        finally:
            self.airflow.end_component("worker")
            self.airflow.end_component("redis")

    def run(self, dag: str) -> rest.Run:
        """Let a DAG run to its end."""
        run = self.airflow.rest.trigger(dag)
        state = f"select state from dag_run where run_id = '{run.run_id}'"
        done = waiting.until(lambda: (s := self.airflow.sql(state)[0][0]) in rest.FINISHED and s, f"{run}", 600, POLL)
        assert done == "success", f"{run} ended as {done}"
        return run

    # What is measured

    def roles(self) -> dict[str, list[int]]:
        """All processes of each role. The executor's side is whatever the scheduler, a worker or a runner started."""
        main = self.airflow.component("scheduler").pid
        roots = [runner["process"]["pid"] for runner in self.airflow.home.runners()]
        roots += [self.airflow.component("worker").pid] if self.airflow.running("worker") else []
        side = set(usage.tree(main, *roots))
        found = {"scheduler": [main], "executor": sorted(side - {main})}
        for role, name in (("API server", "api-server"), ("DAG processor", "dag-processor"), ("broker", "redis")):
            if self.airflow.running(name):
                found[role] = usage.tree(self.airflow.component(name).pid)
        found["database"] = usage.tree(self._server.pid)
        return found

    def cpu(self) -> dict[str, float]:
        return {role: usage.cpu(pids) for role, pids in self.roles().items()}

    def tasks(self, dag: str) -> dict[str, Any]:
        """Times and CPU of a run of no-op tasks."""
        before, machine, began = self.cpu(), usage.machine(), time.monotonic()
        run = self.run(dag)
        time.sleep(1.0)  # for the ends of the last processes
        after, wall = self.cpu(), time.monotonic() - began
        columns = "scheduled_dttm, queued_dttm, start_date, end_date"
        table = f"select {columns} from task_instance where run_id = '{run.run_id}' order by end_date"
        rows = [[each.timestamp() for each in row] for row in self.airflow.sql(table)]
        used = {role: (after[role] - before.get(role, 0.0)) / len(rows) * 1000 for role in after}
        others = usage.machine() - machine - sum(used.values()) * len(rows) / 1000
        span = max(row[3] for row in rows) - min(row[1] for row in rows)
        ends = [row[3] for row in rows]
        return {
            "s per task": statistics.median(after - before for before, after in itertools.pairwise(ends)),
            "tasks/s": len(rows) / span,
            "queued to start, s": statistics.median(row[2] - row[1] for row in rows),
            "start to end, s": statistics.median(row[3] - row[2] for row in rows),
            "end to next scheduled, s": statistics.median(b[0] - a[3] for a, b in itertools.pairwise(rows)),
            **{f"CPU {role}, ms": value for role, value in used.items()},
            "CPU in all, ms": sum(used.values()),
            "cores used by others": others / wall,
        }

    def sleepers(self, dag: str) -> dict[str, Any]:
        """Memory of scheduler and executor's side, idle and while sixteen tasks sleep."""
        idle = self._memory()
        peak: list[float] = [0.0]
        over = threading.Event()

        def watch() -> None:
            while not over.wait(1.0):
                peak[0] = max(peak[0], sum(self._memory()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            self.run(dag)
        finally:
            over.set()
            watcher.join()
        return {
            "idle scheduler, MiB": idle[0],
            "idle executor's side, MiB": idle[1],
            "idle processes": float(len(self.roles()["executor"])),
            "MiB per running task": (peak[0] - sum(idle)) / 16,
        }

    def idle(self, _dag: str) -> dict[str, Any]:
        """CPU while nothing is to be done."""
        before = self.cpu()
        time.sleep(IDLE_SECONDS)
        after = self.cpu()
        return {f"CPU {role}, %": (after[role] - before[role]) / IDLE_SECONDS * 100 for role in after}

    def _memory(self) -> tuple[float, float]:
        roles = self.roles()
        return usage.memory(roles["scheduler"]), usage.memory(roles["executor"])

    def measure(self, scenario: str) -> dict[str, Any]:
        return {"sleepers": self.sleepers, "idle": self.idle}.get(scenario, self.tasks)(scenario)


def main() -> int:
    options = parse()
    wanted = {name: SYSTEMS[name] for name in options.executors.split(",")}
    scenarios = options.scenarios.split(",")
    figures: dict[str, dict[str, list[dict[str, float]]]] = {scenario: {} for scenario in scenarios}
    with started(options.directory, dict(each.split("=", 1) for each in options.set)) as bench:
        for number in range(options.rounds):
            for name, system in wanted.items():
                with bench.system(system):
                    for scenario in scenarios:
                        seen = bench.measure(scenario)
                        figures[scenario].setdefault(name, []).append(seen)
                        print(number + 1, name, scenario, _short(seen), flush=True)
    _tell(figures)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


@contextlib.contextmanager
def started(directory: Path | None, settings: dict[str, str]) -> Iterator[Bench]:
    """An Airflow without a scheduler, on a PostgreSQL; both are gone afterwards."""
    if importlib.util.find_spec("pandas") is None:  # files that cannot be parsed would be waited for
        sys.exit(f"pandas is missing, which some of {DAGS} import: pip install pandas")
    with places.directory(directory) as root, postgres.Postgres() as server:
        database = databases.PostgresDatabase(server, "airflow")
        with stack.Stack(root, database, executor="LocalExecutor", dags=DAGS, settings=settings) as airflow:
            airflow.end_component("scheduler")
            airflow.end_component("triggerer")
            yield Bench(airflow, server)


def _short(seen: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in seen.items())


def _tell(figures: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    """Medians, one table for each scenario."""
    for scenario, systems in figures.items():
        print(f"\n{scenario}: medians of {max(map(len, systems.values()))} ({os.cpu_count()} cores)")
        names = list(dict.fromkeys(name for rounds in systems.values() for each in rounds for name in each))
        print(" " * 28, *(f"{system:>16}" for system in systems))
        for name in names:
            values = [[each[name] for each in rounds if name in each] for rounds in systems.values()]
            print(f"{name:28}", *(f"{statistics.median(found):16.3f}" if found else " " * 16 for found in values))


if __name__ == "__main__":
    sys.exit(main())
