"""Tasks that are added to a job while it runs. Only its ephemeral runner writes its files, so one has to ask it.

::

    jobs/<job>/added/<time>-<writer>.json       a request: {"attempt", "by", "tasks"}
    jobs/<job>/added/<time>-<writer>.accepted   what it becomes when the tasks are in the job
    jobs/<job>/added/<time>-<writer>.refused    what takes its place if they cannot be: why

Who asks waits for the answer and removes it, so nothing that was accepted can be lost: the tasks are in events.jsonl by
then. The ephemeral runner looks when SIGURG arrives, which does nothing to a process that does not expect it, and when
a task of its has ended. It may end at the very moment at which somebody asks: then there is no answer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from air_executor import _files, _json, definitions, model, processes, store, temporaries
from air_executor.errors import CorruptFileError, InvalidJobError, JobBusyError, WaitTimeoutError
from air_executor.model import JobState
from air_executor.paths import Home, JobPaths

REQUEST, ACCEPTED, REFUSED = ".json", ".accepted", ".refused"
PATIENCE = 30.0
"""Seconds to wait for an ephemeral runner that lives; it answers within milliseconds."""
_KNOCK_INTERVAL = 0.25
_POLL_FIRST, _POLL_LAST = 0.001, 0.05


@dataclass
class Request:
    """What somebody asked for."""

    by: str
    """The task that asks, or empty."""
    tasks: list[model.Task]


def add(home: Home, name: str, tasks: Sequence[model.Task], by: str) -> list[str]:
    """Add tasks to a job that runs.

    Args:
        by: the task of the job that adds them, or empty.

    Returns:
        Their ids, once they are in the job.

    Raises:
        InvalidJobError: the tasks are not in order; none of them was added.
        JobBusyError: the job does not run, or takes no tasks.
        WaitTimeoutError: its ephemeral runner does not answer; nothing was added.
    """
    job = store.read(home, name)
    _check_takes_tasks(job)
    _name_tasks(tasks, by)
    request = _write(home.job(name), job.attempt, by, tasks)
    try:
        _wait(home, job, request)
    finally:
        for path in (request, request.with_suffix(ACCEPTED), request.with_suffix(REFUSED)):
            _files.discard(path)
    return [task.id for task in tasks]


def _check_takes_tasks(job: model.Job) -> None:
    if job.template is not None:
        raise JobBusyError(f"the job {job.name} is a single task of {job.template}, which takes no others")
    if job.state is not JobState.WORKING or job.runner is None:
        raise JobBusyError(f"the job {job.name} is {job.state}; tasks can be added while it is working")
    if not processes.is_local(job.runner):
        raise JobBusyError(f"the job {job.name} runs on {job.runner.host}; add tasks to it from there")


def _name_tasks(tasks: Sequence[model.Task], by: str) -> None:
    """Ids that nobody else gives: several tasks may be adding at the same time."""
    prefix = f"{by[:80] or 'added'}.{os.urandom(6).hex()}"
    for number, task in enumerate(tasks, 1):
        task.id = task.id or f"{prefix}.{number}"


def _write(paths: JobPaths, attempt: int, by: str, tasks: Sequence[model.Task]) -> Path:
    """The order of the names is that in which tasks were asked for."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(paths.added, _files.PRIVATE_DIRECTORY)  # noqa: PTH102
    path = paths.added / f"{time.time_ns():020d}-{temporaries.writer()}{REQUEST}"
    content = [model.to_dict(task) for task in tasks]
    _files.replace(path, _json.pretty({"attempt": attempt, "by": by, "tasks": content}))
    return path


def _wait(home: Home, job: model.Job, request: Path) -> None:
    """Until there is an answer; raises as `add`."""
    deadline = time.monotonic() + PATIENCE
    knock_at, pause = 0.0, _POLL_FIRST
    while not _is_accepted(request):
        moment = time.monotonic()
        if moment >= deadline and _withdraw(request):
            raise WaitTimeoutError(f"the job {job.name} does not answer; no task was added to it")
        if moment >= knock_at:
            if not _knock(home, job) and _withdraw(request):
                raise JobBusyError(f"the job {job.name} is over; no task was added to it")
            knock_at = moment + _KNOCK_INTERVAL
        time.sleep(pause)
        pause = min(_POLL_LAST, pause * 2)


def _is_accepted(request: Path) -> bool:
    if request.with_suffix(ACCEPTED).exists():
        return True
    with contextlib.suppress(FileNotFoundError):
        raise InvalidJobError(_files.read_bytes(request.with_suffix(REFUSED)).decode("utf-8", "replace"))
    return False


def _withdraw(request: Path) -> bool:
    """Whether it was not answered, and never will be."""
    try:
        request.unlink()
    except FileNotFoundError:
        return not (request.with_suffix(ACCEPTED).exists() or request.with_suffix(REFUSED).exists())
    return True


def _knock(home: Home, job: model.Job) -> bool:
    """Wake the ephemeral runner; whether the attempt is not over."""
    now = store.read_or_damaged(home, job.name)
    if now.attempt != job.attempt or now.state.terminal or job.runner is None:
        return False
    if processes.is_alive(job.runner):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(job.runner.pid, signal.SIGURG)
    return True


# --- For the ephemeral runner ---


def requests(paths: JobPaths) -> list[Path]:
    """What nobody has answered yet, in the order in which it was asked."""
    try:
        names = os.listdir(paths.added)  # noqa: PTH208  # mostly it is not there
    except OSError:
        return []
    return [paths.added / name for name in sorted(names) if name.endswith(REQUEST) and not name.startswith(".")]


def read(path: Path, attempt: int) -> Request:
    """A request.

    Raises:
        InvalidJobError: it is of another attempt, or no request at all.
    """
    try:
        content = _files.read_object(path)
        asked_in, by = content["attempt"], str(content["by"])
        tasks = [model.from_dict(model.Task, _fresh(task)) for task in content["tasks"]]
    except (CorruptFileError, OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidJobError(f"no request for tasks can be read from {path}: {error}") from None
    if asked_in != attempt:
        raise InvalidJobError(f"attempt {asked_in} of the job is over")
    return Request(by, tasks)


def _fresh(task: Any) -> dict[str, Any]:
    """Only what somebody may say of a task, whatever else is in the file."""
    return {key: value for key, value in dict(task).items() if key in definitions.TASK_KEYS}


def accept(path: Path) -> None:
    """The tasks are in the job. Who asked may be gone."""
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_suffix(ACCEPTED))


def refuse(path: Path, why: str) -> None:
    """They are not, and never will be."""
    _files.replace(path.with_suffix(REFUSED), why.encode("utf-8", "replace"))
    _files.discard(path)
