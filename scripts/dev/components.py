"""Which components there are, their command lines, and how to tell that one is up. Starting them is not here."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import sqlite3
import sys
from collections.abc import Mapping

from air_executor import model, runners
from air_executor.paths import Home
from dev import rest
from dev.checkout import Checkout, Ports

RUNNER = "runner"
API_SERVER = "api-server"
SCHEDULER = "scheduler"
DAG_PROCESSOR = "dag-processor"
TRIGGERER = "triggerer"

HEALTH_TIMEOUT = 2.0
"""Seconds; short, as whoever waits for health also waits for signals."""
PRELOAD = "airflow_plugin.workload"

_HEALTH_KEYS = {SCHEDULER: "scheduler", DAG_PROCESSOR: "dag_processor", TRIGGERER: "triggerer"}
"""Component to its part of the answer of /monitor/health."""
_JOB_TYPES = {"SchedulerJob": SCHEDULER, "DagProcessorJob": DAG_PROCESSOR, "TriggererJob": TRIGGERER}
"""What a component calls itself in the table `job`."""


@dataclasses.dataclass(frozen=True)
class Component:
    """A program that start-dev.sh keeps running."""

    name: str
    argv: tuple[str, ...]
    grace: float
    """Seconds that it has to end before it is killed."""


def all_components() -> list[Component]:
    """In the order of starting: the executor needs a runner, and the API server takes as long as the rest together."""
    runner = (sys.executable, "-m", "air_executor", "runner", "start", "--preload", PRELOAD)
    return [
        Component(RUNNER, runner, grace=15.0),
        # It closes its port at once and then takes seconds to take its modules apart, which nobody needs.
        _airflow(API_SERVER, grace=2.0),
        _airflow(SCHEDULER, grace=15.0),
        _airflow(DAG_PROCESSOR, grace=5.0),
        # It can miss that its child has ended, and would then sleep for ten seconds.
        _airflow(TRIGGERER, grace=3.0),
    ]


def _airflow(name: str, grace: float) -> Component:
    return Component(name, (sys.executable, "-m", "airflow", name), grace)


def started(checkout: Checkout, since: datetime.datetime) -> set[str]:
    """Which have done the work of starting, as far as that can be told without the API server."""
    query = "SELECT job_type FROM job WHERE start_date >= ?"
    moment = since.strftime("%Y-%m-%d %H:%M:%S.%f")
    with contextlib.closing(sqlite3.connect(f"{checkout.database.as_uri()}?mode=ro", uri=True)) as database:
        jobs = {_JOB_TYPES.get(name, name) for (name,) in database.execute(query, [moment])}
    return jobs | _runner(checkout, since)


def up(checkout: Checkout, ports: Ports, since: datetime.datetime) -> set[str]:
    """Which are up. What is from before `since` is an earlier start's."""
    found = _runner(checkout, since)
    try:
        # The first request to this part of it takes seconds, which the first task would have to wait for.
        rest.call("GET", f"{ports.url}/execution/health", timeout=HEALTH_TIMEOUT)
        health = rest.call("GET", f"{ports.url}/api/v2/monitor/health", timeout=HEALTH_TIMEOUT)
    except (OSError, rest.RestError):
        return found
    beating = {name for name, key in _HEALTH_KEYS.items() if _beats(health[key], f"latest_{key}_heartbeat", since)}
    return found | {API_SERVER} | beating


def _runner(checkout: Checkout, since: datetime.datetime) -> set[str]:
    alive = runners.alive_runners(Home(checkout.home))
    return {RUNNER} if any(model.parse_time(info.started_at) >= since for info in alive) else set()


def _beats(part: Mapping[str, str | None], key: str, since: datetime.datetime) -> bool:
    last = part.get(key)
    return part["status"] == "healthy" and last is not None and datetime.datetime.fromisoformat(last) >= since
