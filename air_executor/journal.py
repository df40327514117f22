"""events.jsonl: every change of a job, one JSON line each, only ever appended.

It is the timeline and the audit of a job, and what tasks.json is rebuilt from when an ephemeral runner died before it
could write it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from air_executor import _files, model, validation

TASK_KEYS = ("started_at", "completed_at", "error", "exit_code", "signal")
"""What an event carries of a task, beside its status."""


def record_job(path: Path, job: model.Job, old: model.JobState | None, *, by: str, why: str) -> None:
    """Note a change of the job's state; `by` is who asked for it."""
    event = {"at": job.updated_at, "event": "job", "attempt": job.attempt, "from": old, "to": job.state, "by": by}
    _files.append_line(path, {**event, "why": why})


def record_task(path: Path, job: model.Job, task: model.Task, old: model.TaskStatus, at: str) -> None:
    """Note a change of a task's status."""
    event: dict[str, Any] = {"at": at, "event": "task", "attempt": job.attempt, "task": task.id}
    event |= {"from": old.value, "to": task.status.value}
    event |= {key: value for key in TASK_KEYS if (value := getattr(task, key)) is not None}
    _files.append_line(path, event)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The events so far. A line that was cut off in the middle is passed over.

    Raises:
        CorruptFileError: it is no file that can be read.
    """
    return (event for event in _lines(path) if event is not None)


def is_damaged(path: Path) -> bool:
    """Whether a line cannot be read. What it said is not known: it may have been that a task was started."""
    return any(event is None for event in _lines(path))


def _lines(path: Path) -> Iterator[dict[str, Any] | None]:
    try:
        lines = _files.read_bytes(path).splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return
    for line in filter(None, lines):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        yield event if isinstance(event, dict) else None


def replay(tasks: Iterable[model.Task], events: Iterable[dict[str, Any]], attempt: int) -> None:
    """Bring tasks up to what the events of an attempt say."""
    by_id = {task.id: task for task in tasks}
    for event in events:
        task = by_id.get(str(event.get("task")))
        if event.get("event") != "task" or event.get("attempt") != attempt or task is None:
            continue
        try:
            status = model.TaskStatus(str(event.get("to")))
        except ValueError:
            continue
        if task.status.terminal and not status.terminal:  # tasks.json knows of an end that could not be noted here
            continue
        task.status = status
        for key in TASK_KEYS:
            if key in event:
                with contextlib.suppress(ValueError):  # what is damaged is left out; that it happened counts
                    setattr(task, key, _checked(key, event[key]))


def _checked(key: str, value: Any) -> Any:
    declared = next(str(item.type) for item in fields(model.Task) if item.name == key)
    if key in ("started_at", "completed_at"):
        validation.check_time(key, model.check_value(key, declared, value))
    return model.check_value(key, declared, value)
