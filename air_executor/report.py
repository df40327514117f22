"""What became of a job: in a few words for programs, and in a few lines for people.

Both work with what is left of a job: damaged or missing files make them say less.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from air_executor import _files, journal, model, processes, results, store, validation
from air_executor.errors import CorruptFileError
from air_executor.model import JobState, TaskStatus
from air_executor.paths import Home

LINE_LENGTH = 2000
"""Characters that are shown of a line."""
TAIL_LENGTH = 20_000
"""Characters that are shown of a log."""
READ_LENGTH = 2**18
"""Bytes that are read of a log, at its end."""

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[@-Z\\^_])")
"""What colours text in a terminal, or moves its cursor."""
_STATUSES = [status.value for status in TaskStatus]

Facts = Mapping[str, Any]
"""What tasks.json and events.jsonl say of a task: `status`, and `journal.TASK_KEYS` where they are known."""


def outcome(home: Home, name: str) -> dict[str, Any]:
    """What a job came to, as plain JSON: state, job (its name), tasks (statuses by id), result, usage.

    The result is there once the job is over.

    Raises:
        NotFoundError: there is no such job.
        CorruptFileError: the result is damaged.
    """
    job = store.read_or_damaged(home, store.name_of(home, name))
    return {
        "state": job.state.value,
        "job": job.name,
        "tasks": {task: facts["status"] for task, facts in tasks_of(home, job).items()},
        "result": results.read(home, job, ()) if job.state.terminal else {},
        "usage": job.usage or {},
    }


def failure(home: Home, name: str, lines: int = 20) -> str:
    """Why a job failed or was cancelled: the task that was first, why, its exit code, and the last lines of its log.

    Args:
        lines: how many of the log; each is cut to `LINE_LENGTH`, and all of them to `TAIL_LENGTH`.

    Raises:
        NotFoundError: there is no such job.
    """
    job = store.read_or_damaged(home, store.name_of(home, name))
    tasks = tasks_of(home, job)
    said = [one_line(f"the job {job.name} " + _how(job))]
    first = find_culprit(tasks)
    if first is not None:
        why = one_line(f"task {first}: {_why(tasks[first])}")
        if not said[0].endswith(f": {why}"):
            said.append(why)
    if len(tasks) > 1:
        said.append(_count(tasks))
    if first is not None and lines > 0:
        said += _describe_log(home.job(job.name).log(first), lines)
    return "\n".join(said)


def _how(job: model.Job) -> str:
    if not job.state.terminal:
        return f"is {job.state}"
    how = job.state.value if job.state is not JobState.CANCELLED else "was cancelled"
    return how + (f": {job.exit.reason}" if job.exit and job.state is not JobState.COMPLETED else "")


def find_culprit(tasks: Mapping[str, Facts]) -> str | None:
    """The task that failed first; where none did, the first of those that were stopped while they ran. Pure."""

    def first(status: TaskStatus) -> str | None:
        ended = [
            (str(facts.get("completed_at") or "~"), task)  # what has no time comes after all that have one
            for task, facts in tasks.items()
            if facts["status"] == status and (status is TaskStatus.FAILED or facts.get("started_at"))
        ]
        return min(ended, default=(None, None), key=lambda each: each[0] or "")[1]

    return first(TaskStatus.FAILED) or first(TaskStatus.CANCELLED)


def _why(facts: Facts) -> str:
    """`out of cheese (exit code 3)`."""
    ended = ""
    if isinstance(facts.get("signal"), int):
        ended = f"killed by {processes.describe_signal(facts['signal'])}"
    elif isinstance(facts.get("exit_code"), int):
        ended = f"exit code {facts['exit_code']}"
    error = str(facts.get("error") or "")
    return f"{error} ({ended})" if error and ended and ended not in error else error or ended or facts["status"]


def _count(tasks: Mapping[str, Facts]) -> str:
    counts = Counter(facts["status"] for facts in tasks.values())
    return f"of {len(tasks)} tasks: " + ", ".join(
        f"{counts[status.value]} {status}" for status in TaskStatus if counts[status.value]
    )


# --- Tasks ---


def tasks_of(home: Home, job: model.Job) -> dict[str, Facts]:
    """What is known of a job's tasks, by their ids and in their order.

    Read as it is and not as `Task` objects, which takes half a second for 10,000.
    """
    paths = home.job(job.name)
    tasks = _from_file(paths.tasks, job.name)
    if not job.state.terminal or not tasks:
        with contextlib.suppress(CorruptFileError, OSError):
            for event in journal.read(paths.events):
                _apply(tasks, event, job.attempt)
    return dict(tasks)


def _from_file(path: Path, name: str) -> dict[str, dict[str, Any]]:
    try:
        content = _files.read_object(path)
    except (CorruptFileError, OSError):
        return {}
    entries = content.get("tasks")
    if content.get("job_name", name) != name or not isinstance(entries, list):
        return {}
    return {
        entry["id"]: entry
        for entry in entries
        if isinstance(entry, dict) and _is_task(entry.get("id")) and entry.get("status") in _STATUSES
    }


def _is_task(text: object) -> bool:
    """Whether that is the id of a task: it is a part of a path, too."""
    return isinstance(text, str) and validation.is_name(text)


def _apply(tasks: dict[str, dict[str, Any]], event: Mapping[str, Any], attempt: int) -> None:
    task, status = event.get("task"), event.get("to")
    if event.get("attempt") == attempt and isinstance(task, str) and _is_task(task) and status in _STATUSES:
        known = {key: event[key] for key in journal.TASK_KEYS if key in event}
        tasks[task] = {**tasks.get(task, {}), "status": status, **known}


# --- Logs ---


def _describe_log(path: Path, lines: int) -> list[str]:
    try:
        tail = read_tail(path, lines)
    except FileNotFoundError:
        return ["it has no log"]
    except OSError as error:
        return [f"its log {path} cannot be read: {error.strerror}"]
    if not tail:
        return ["it wrote nothing"]
    return [f"the end of {path}:", *(f"    {line}" for line in tail)]


def read_tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log, of which only the end is read.

    What a terminal would not show, such as the start of a progress bar's line, is left out, and what is no text is
    replaced.

    Raises:
        FileNotFoundError: there is no log.
        OSError: it cannot be read.
    """
    data, whole = _read_end(path)
    text = data.decode("utf-8", "replace")
    found = text.removesuffix("\n").split("\n") if text else []
    if not whole and len(found) > 1:
        del found[0]  # a part of a line
    shown: list[str] = []
    room = TAIL_LENGTH
    for line in reversed(found[-lines:]):
        line = _shorten(one_line(line.rstrip("\r").rpartition("\r")[2]))
        room -= len(line) + 1
        if room < 0:
            shown.append("...")
            break
        shown.append(line)
    return shown[::-1]


def _read_end(path: Path) -> tuple[bytes, bool]:
    """The end of a file, and whether that is all of it."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # one would wait for the other end of a fifo
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is not a file", str(path))
        start = max(0, status.st_size - READ_LENGTH)
        return os.pread(fd, READ_LENGTH, start), start == 0
    finally:
        os.close(fd)


def _shorten(line: str) -> str:
    return line if len(line) <= LINE_LENGTH else f"{line[:LINE_LENGTH]}... ({len(line)} characters)"


def one_line(text: str) -> str:
    """Text that a terminal, or a page, only shows and never obeys."""
    if text.isprintable():
        return text
    text = _ESCAPES.sub("", text)
    return "".join(each if each.isprintable() or each == "\t" else " " if each in "\r\n" else "\ufffd" for each in text)
