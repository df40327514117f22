"""For the tests of `doctor`: what a healthy Airflow says, what is found, and what has changed in a home."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from air_executor import doctor
from air_executor.doctor import facts
from air_executor.doctor.facts import Database, Facts, Option
from air_executor.paths import Home

OPTIONS = {
    "core.executor": "airflow_plugin.AirExecutor",
    "core.parallelism": "2",
    "scheduler.scheduler_idle_sleep_time": "0",
    "scheduler.task_queued_timeout": "600",
}
API = "http://localhost:8080/execution/"


def option(name: str, value: str | None, source: str = facts.FILE) -> Option:
    return Option(value, source, f"AIRFLOW__{name.replace('.', '__')}".upper())


def healthy(home: Home, **changes: Any) -> Facts:
    """What `airflow_plugin.facts` says where nothing is wrong."""
    found = Facts(
        version="3.3.2",
        python="/venv/bin/python",
        config="/airflow/airflow.cfg",
        has_config=True,
        options={name: option(name, value) for name, value in OPTIONS.items()},
        base_path=str(home.root),
        queues=["default"],
        token_lifetime=604800.0,
        api=API,
        database=Database("postgresql", "db:5432"),
    )
    return dataclasses.replace(found, **changes)


def having(home: Home, name: str, value: str | None, source: str = facts.FILE, **changes: Any) -> Facts:
    """The same with one option changed."""
    found = healthy(home, **changes)
    return dataclasses.replace(found, options={**found.options, name: option(name, value, source)})


def bad(findings: Iterable[doctor.Finding]) -> list[doctor.Finding]:
    return [finding for finding in findings if finding.level is not doctor.Level.OK]


def snapshot(home: Home) -> dict[Path, tuple[int, bytes]]:
    """Every file and directory: its mode and content."""
    return {
        path: (stat.S_IMODE(path.lstat().st_mode), path.read_bytes() if path.is_file() else b"")
        for path in [home.root, *home.root.rglob("*")]
    }


def changed(before: dict[Path, Any], after: dict[Path, Any]) -> set[Path]:
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
