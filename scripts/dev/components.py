"""Which components there are, their command lines, and how to tell that one is up. Starting them is not here."""

from __future__ import annotations

import dataclasses
import datetime
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

PRELOAD = "airflow_plugin.workload"

_HEALTH_KEYS = {SCHEDULER: "scheduler", DAG_PROCESSOR: "dag_processor", TRIGGERER: "triggerer"}
"""Component to its part of the answer of /monitor/health."""


@dataclasses.dataclass(frozen=True)
class Component:
    """A program that start-dev.sh keeps running."""

    name: str
    argv: tuple[str, ...]


def all_components() -> list[Component]:
    """In the order of starting. The runner is quick and comes first, so that the executor finds one that runs."""
    airflow = (sys.executable, "-m", "airflow")
    return [
        Component(RUNNER, (sys.executable, "-m", "air_executor", "runner", "start", "--preload", PRELOAD)),
        *(Component(name, (*airflow, name)) for name in (API_SERVER, SCHEDULER, DAG_PROCESSOR, TRIGGERER)),
    ]


def up(checkout: Checkout, ports: Ports, since: datetime.datetime) -> set[str]:
    """The names of the components that are up. What is from before `since` is an earlier start's."""
    alive = runners.alive_runners(Home(checkout.home))
    found = {RUNNER} if any(model.parse_time(info.started_at) >= since for info in alive) else set()
    try:
        health = rest.call("GET", f"{ports.url}/api/v2/monitor/health")
    except (OSError, rest.RestError):
        return found
    beating = {name for name, key in _HEALTH_KEYS.items() if _beats(health[key], f"latest_{key}_heartbeat", since)}
    return found | {API_SERVER} | beating


def _beats(part: Mapping[str, str | None], key: str, since: datetime.datetime) -> bool:
    last = part.get(key)
    return part["status"] == "healthy" and last is not None and datetime.datetime.fromisoformat(last) >= since
