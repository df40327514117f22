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

PRELOAD = "airflow_plugin.workload"

_HEALTH_KEYS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
"""Component to its part of the answer of /monitor/health."""


@dataclasses.dataclass(frozen=True)
class Component:
    """A program that start-dev.sh keeps running."""

    name: str
    argv: tuple[str, ...]


def all_components(checkout: Checkout) -> list[Component]:
    """In the order of starting: what takes longest comes first."""
    airflow = (sys.executable, "-m", "airflow")
    runner = (
        sys.executable,
        "-m",
        "air_executor",
        "--home",
        str(checkout.home),
        "runner",
        "start",
        "--preload",
        PRELOAD,
    )
    return [
        Component("api-server", (*airflow, "api-server")),
        Component("scheduler", (*airflow, "scheduler")),
        Component("dag-processor", (*airflow, "dag-processor")),
        Component("runner", runner),
        Component("triggerer", (*airflow, "triggerer")),
    ]


def up(checkout: Checkout, ports: Ports, since: datetime.datetime) -> set[str]:
    """The names of the components that are up. What is from before `since` is an earlier start's."""
    alive = runners.alive_runners(Home(checkout.home))
    found = {"runner"} if any(model.parse_time(info.started_at) >= since for info in alive) else set()
    try:
        health = rest.call("GET", f"{ports.url}/api/v2/monitor/health")
    except (OSError, rest.RestError):
        return found
    beating = {name for name, key in _HEALTH_KEYS.items() if _beats(health[key], f"latest_{key}_heartbeat", since)}
    return found | {"api-server"} | beating


def _beats(part: Mapping[str, str | None], key: str, since: datetime.datetime) -> bool:
    last = part.get(key)
    return part["status"] == "healthy" and last is not None and datetime.datetime.fromisoformat(last) >= since
