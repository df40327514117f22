"""The log of a running task as its job has it, for the case that Airflow cannot reach its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from air_executor import processes, store
from air_executor.paths import Home
from airflow_plugin import jobs

MAX_BYTES = 1_000_000
"""Of a longer log, the end is shown."""


def read(home: Home, ti: Any, try_number: int) -> tuple[list[str], list[str]]:
    """Where the log comes from, and its lines; both empty if Airflow finds the task's log itself.

    Airflow finds it in its own folder, or asks the log server of the scheduler's host. A runner on another host serves
    no logs, but the home is shared.

    Raises:
        OSError, AirExecutorError: there is no such log.
    """
    if try_number != ti.try_number:
        return [], []
    name = jobs.task_name(ti)
    job = store.read(home, name)
    if job.runner is None or job.runner.host == processes.host() or _is_in_log_folder(home, name):
        return [], []
    text = tail(home.job(name).log(jobs.TASK_ID))
    return [f"The job {name} on {job.runner.host}"], text.splitlines(keepends=True)


def _is_in_log_folder(home: Home, name: str) -> bool:
    from airflow.configuration import conf

    log_path = jobs.log_path_of(home, name)
    return log_path is not None and Path(conf.get("logging", "base_log_folder"), log_path).exists()


def tail(path: Path, limit: int = MAX_BYTES) -> str:
    """The end of a log, whole lines only."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - limit))
        data = file.read()
    if size > limit:
        data = data.partition(b"\n")[2]
    return data.decode("utf-8", "replace")
