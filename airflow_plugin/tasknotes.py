"""What an executor adds to the log of a task that people open in Airflow: why its job waits or ended, or never was.

Airflow shows of a try the file `<base_log_folder>/<log_path>` and all files whose names begin with it. The supervising
process writes the first, if there ever is one; what is said here goes into one beside it, so that two hosts never write
to the same file. Airflow asks log servers only where it finds no file: where a log may be on another host that serves
it, nothing is written, which would hide it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from air_executor import model, processes, report
from air_executor.model import ExitKind
from air_executor.paths import Home
from air_executor.slurm import record
from airflow_plugin import jobs

SUFFIX = ".air_executor.log"
LOGGER = "air_executor"
MAX_LINES = 200
"""How many of the last lines of the job's own log are told, where Airflow has none."""


def log_path(home: Home, name: str) -> str | None:
    """Where Airflow has the log of a job's task, as its workload says; None if that is not known any more."""
    try:
        return jobs.log_path_of(home, name)
    except (OSError, ValueError, AttributeError):
        return None


def tell_end(home: Home, path: str | None, job: model.Job, why: str) -> None:
    """Say why a job failed, if the task cannot have said it, and what else is known where the task has no log.

    Raises:
        OSError: Airflow's folder of logs, or the home, refused.
    """
    where = _inside(path)
    if where is None or job.exit is None:
        return
    has_log, in_slurm = where.exists(), _is_in_slurm(home, job)
    if not is_wanted(job.exit.kind, has_log=has_log, may_be_served=not (_is_here(job) or in_slurm)):
        return
    said = [] if has_log else _tail(home.job(job.name).log(jobs.TASK_ID))
    node = [line for log in record.logs(home, job) for line in _tail(log)] if in_slurm else []
    write(where, [*said, *node, f"The job {job.name} failed: {why}"])


def _is_here(job: model.Job) -> bool:
    return job.runner is None or job.runner.host == processes.host()


def _is_in_slurm(home: Home, job: model.Job) -> bool:
    return record.read(home.job(job.name), job.attempt) is not None


def is_wanted(kind: ExitKind, *, has_log: bool, may_be_served: bool) -> bool:
    """Whether something is to be said of an end. Pure.

    Args:
        has_log: whether Airflow has a log of the task in its folder: why its own code failed stands there.
        may_be_served: whether one may be on another host that serves logs.
    """
    return kind is not ExitKind.EXIT_CODE if has_log else not may_be_served


def tell_refusal(path: str | None, why: str) -> None:
    """Say why a task failed for which there never was a job.

    Raises:
        OSError: Airflow's folder of logs refused.
    """
    if (where := _inside(path)) is not None:
        write(where, [f"No job was submitted: {why}"])


def take_back(home: Home, path: str | None, job: model.Job) -> None:
    """Remove what was said while a job waited, if that would hide a log that another host serves.

    Raises:
        OSError: Airflow's folder of logs, or the home, refused.
    """
    if _is_here(job) or (where := _inside(path)) is None or where.exists():
        return
    if (note := _beside(where)).exists() and not _is_in_slurm(home, job):
        note.unlink(missing_ok=True)


def tell_wait(path: str | None, name: str, why: str) -> None:
    """Say why a job does not start.

    Raises:
        OSError: Airflow's folder of logs refused.
    """
    if (where := _inside(path)) is not None:
        write(where, [f"The job {name} waits: {why}"], "warning")


def write(where: Path, lines: Sequence[str], level: str = "error") -> None:
    """Append to the file beside a log, the last line as what counts, as Airflow's own processes write theirs.

    Raises:
        OSError: the folder refused.
    """
    from airflow.sdk.log import init_log_file

    base = _base()
    path = init_log_file(str(_beside(where).relative_to(base)))
    levels = ["info"] * (len(lines) - 1) + [level]
    text = "".join(_line(line, level) for line, level in zip(lines, levels, strict=True))
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _beside(where: Path) -> Path:
    return where.parent / f"{where.name}{SUFFIX}"


def _line(text: str, level: str) -> str:
    event: dict[str, Any] = {"timestamp": model.now(), "level": level, "event": text, "logger": LOGGER}
    return json.dumps(event) + "\n"


def _base() -> Path:
    from airflow.configuration import conf

    return Path(conf.get("logging", "base_log_folder")).absolute()


def _inside(path: str | None) -> Path | None:
    """The log, if it lies in Airflow's folder: ids of DAGs and runs are parts of its path."""
    if not path:
        return None
    base = os.path.realpath(_base())
    sound = os.path.commonpath([base, os.path.realpath(os.path.join(base, path))]) == base  # noqa: PTH118
    return _base() / path if sound and ".." not in Path(path).parts else None


def _tail(path: Path) -> Iterable[str]:
    try:
        return report.read_tail(path, MAX_LINES)
    except OSError:
        return []
