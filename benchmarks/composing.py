#!/usr/bin/env python3
"""The same thousand issues in a network of actors, in a job of Air-Executor, and as mapped tasks of Airflow.

    python -m benchmarks.composing --items 1000 --rounds 3 --json composing.json

All three run the example `examples/triage` with its stub, and must come to the same summary. The network and the job
are measured without Airflow, the mapped tasks in an Airflow of their own (PostgreSQL, AirExecutor), started for
them. CPU is that of whatever the way needs, all components of Airflow included; the stub, which all three ask, is left
out. A round runs each once, in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from air_executor import AirExecutorClient
from air_executor.paths import Home
from air_executor.testing import RunnerProcess, end_everything
from benchmarks import places, usage
from benchmarks.executors import Bench
from tests.airflow import databases, postgres, rest, stack, waiting

EXAMPLE = Path(__file__).parents[1] / "examples" / "triage"
DAY = "2026-03-02"
WAYS = ("network", "job", "mapped")
LIMIT = 1800.0
Measured = tuple[dict[str, Any], dict[str, float]]
"""A summary, and the figures."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.composing", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--ways", default=",".join(WAYS), help="of %(default)s")
    parser.add_argument("--items", type=int, default=1000, help="issues, 1000 at most (default: %(default)s)")
    parser.add_argument("--max-parallel", type=int, default=8, help="tasks of the job at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    return parser.parse_args(arguments)


@dataclass
class Ground:
    """What all three share: where they work, and whom they ask."""

    root: Path
    servers: dict[str, str]
    max_parallel: int

    def environment(self, number: int, way: str) -> dict[str, str]:
        """Each run has an output of its own, so that each alert is told."""
        return {**self.servers, "TRIAGE_OUTPUT": str(self.root / f"{way}-{number}"), "NO_PROXY": "*"}


@contextlib.contextmanager
def stub(items: int) -> Iterator[dict[str, str]]:
    """The servers, in a process of their own; the variables that lead to them."""
    command = [sys.executable, str(EXAMPLE / "triage_stub.py"), "--issues", str(items)]
    popen = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert popen.stdout is not None
        said = popen.stdout.readline() + popen.stdout.readline()
        yield dict(re.findall(r"^export (\w+)=(\S+)$", said, re.M))
    finally:
        popen.terminate()
        popen.communicate()


def network(ground: Ground, number: int) -> Measured:
    before, began = _children(), time.monotonic()
    command = [sys.executable, str(EXAMPLE / "pipeline.py"), "--day", DAY]
    environment = {**os.environ, **ground.environment(number, "network")}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - began
    return json.loads(run.stdout), {"seconds": seconds, "CPU, s": _children() - before, "processes": 1}


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


@contextlib.contextmanager
def job(ground: Ground) -> Iterator[Callable[[int], Measured]]:
    home = Home(ground.root / "home")
    runner = RunnerProcess(home)
    client = AirExecutorClient(home.root)
    command = [sys.executable, str(EXAMPLE / "triage_job.py"), "submit", DAY]

    def run(number: int) -> Measured:
        variables = {**os.environ, **ground.environment(number, "job"), "AIR_EXECUTOR_HOME": str(home.root)}
        before, began = usage.cpu(usage.tree(runner.popen.pid)) + _children(), time.monotonic()
        submit = [*command, "--name", f"day-{number}", "--max-parallel", str(ground.max_parallel)]
        name = subprocess.run(submit, env=variables, capture_output=True, text=True, check=True).stdout.strip()
        ended = client.wait(name, LIMIT)
        seconds = time.monotonic() - began
        assert ended.state == "completed", ended.exit
        time.sleep(1.0)  # for the end of its ephemeral runner
        used = usage.cpu(usage.tree(runner.popen.pid)) + _children() - before
        figures = {"seconds": seconds, "CPU, s": used, "processes": float(len(client.get_tasks(name)) + 1)}
        summary = client.get_result(name)["gather"]
        return summary, figures

    try:
        yield run
    finally:
        end_everything(home, runner)


@contextlib.contextmanager
def mapped(ground: Ground) -> Iterator[Callable[[int], Measured]]:
    """An Airflow that stays for all rounds; its components' CPU counts, for they do nothing else."""
    with postgres.Postgres() as server:
        database = databases.PostgresDatabase(server, "airflow")
        airflow = stack.Stack(ground.root / "airflow", database, executor="airflow_plugin.AirExecutor", dags=EXAMPLE)
        airflow.environment.update(ground.environment(0, "mapped"))
        with airflow:
            bench = Bench(airflow, server)
            airflow.end_component("triggerer")

            def run(number: int) -> Measured:
                for file in (ground.root / "mapped-0").glob("*"):
                    file.unlink()
                before, began = sum(bench.cpu().values()), time.monotonic()
                triggered = airflow.rest.trigger("triage_mapped", conf={"day": DAY})
                waiting.until(lambda: airflow.rest.run_state(triggered) in rest.FINISHED, "the run", LIMIT, 1.0)
                assert airflow.rest.run_state(triggered) == "success"
                seconds = time.monotonic() - began
                time.sleep(1.0)
                path = f"dags/triage_mapped/dagRuns/{triggered.run_id}/taskInstances/gather/xcomEntries/return_value"
                summary = airflow.rest.get(path, deserialize=False, stringify=False)["value"]
                count = airflow.sql(f"select count(*) from task_instance where run_id = '{triggered.run_id}'")[0][0]
                used = sum(bench.cpu().values()) - before
                return summary, {"seconds": seconds, "CPU, s": used, "processes": float(count)}

            yield run


def main() -> int:
    options = parse()
    wanted = options.ways.split(",")
    figures: dict[str, list[dict[str, float]]] = {way: [] for way in wanted}
    summaries: list[dict[str, Any]] = []
    with places.directory(None) as root, stub(options.items) as servers, contextlib.ExitStack() as started:
        ground = Ground(root, servers, options.max_parallel)
        runs: dict[str, Callable[[int], Measured]] = {"network": lambda number: network(ground, number)}
        if "job" in wanted:
            runs["job"] = started.enter_context(job(ground))
        if "mapped" in wanted:
            runs["mapped"] = started.enter_context(mapped(ground))
        for number in range(options.rounds):
            for way in wanted:
                summary, seen = runs[way](number)
                summaries.append(summary)
                figures[way].append(seen)
                print(number + 1, way, "  ".join(f"{name} {value:.3g}" for name, value in seen.items()), flush=True)
    assert all(summary == summaries[0] for summary in summaries), summaries
    assert summaries[0]["issues"] == options.items
    _tell(figures, options.items)
    if options.json is not None:
        content = {"items": options.items, "cores": os.cpu_count(), "load": os.getloadavg(), "rounds": figures}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def _tell(figures: dict[str, list[dict[str, float]]], items: int) -> None:
    print(f"\n{items} issues: medians of {max(map(len, figures.values()))} ({os.cpu_count()} cores)")
    for way, rounds in figures.items():
        medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        each = [f"{name} {medians[name] / items * 1000:9.2f} ms an issue" for name in ("seconds", "CPU, s")]
        print(f"{way:10}", *(f"{name} {value:9.2f}" for name, value in medians.items()), *each)


if __name__ == "__main__":
    sys.exit(main())
