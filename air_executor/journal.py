"""events.jsonl: every change of a job, one JSON line each, only ever appended.

It is the timeline and the audit of a job, and what tasks.json is rebuilt from when an ephemeral runner died before it
could write it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from air_executor import _files, model, validation

TASK_KEYS = ("started_at", "completed_at", "error", "exit_code", "signal", "tries")
"""What an event carries of a task, beside its status."""
ADDED = "tasks"
"""The kind of event that has whole tasks, with their environments: never to be shown as it is."""
_OF_ONE_TRY = ("completed_at", "error", "exit_code", "signal")


def record_job(path: Path, job: model.Job, old: model.JobState | None, *, by: str, why: str) -> None:
    """Note a change of the job's state; `by` is who asked for it."""
    _files.append_line(path, job_event(job, old, by=by, why=why))


def job_event(job: model.Job, old: model.JobState | None, *, by: str, why: str) -> dict[str, Any]:
    """What is noted of a change of the job's state."""
    what = {"at": job.updated_at, "event": "job", "attempt": job.attempt, "from": old, "to": job.state}
    return {**what, "by": by, "why": why}


def record_task(path: Path, job: model.Job, task: model.Task, old: model.TaskStatus, at: str) -> None:
    """Note a change of a task's status."""
    event: dict[str, Any] = {"at": at, "event": "task", "attempt": job.attempt, "task": task.id}
    event |= {"from": old.value, "to": task.status.value}
    event |= {key: value for key in TASK_KEYS if (value := getattr(task, key)) is not None}
    _files.append_line(path, event)


def record_added(path: Path, job: model.Job, tasks: Sequence[model.Task], by: str) -> None:
    """Note tasks that were added to a job while it ran. Whole: until tasks.json is next written, they are only here."""
    added = [model.to_dict(task) for task in tasks]
    event = {"at": model.now(), "event": ADDED, "attempt": job.attempt, "by": by, "tasks": added}
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


def replay(tasks: list[model.Task], events: Iterable[dict[str, Any]], attempt: int) -> None:
    """Bring tasks up to what the events of an attempt say."""
    by_id = {task.id: task for task in tasks}
    for event in events:
        if event.get("attempt") != attempt:
            continue
        if event.get("event") == ADDED:
            new = {task.id: task for task in _added(event) if task.id not in by_id}
            tasks.extend(new.values())
            by_id |= new
        elif event.get("event") == "task" and (task := by_id.get(str(event.get("task")))) is not None:
            _replay_one(task, event)


def _added(event: Mapping[str, Any]) -> Iterator[model.Task]:
    entries = event.get("tasks")
    for entry in entries if isinstance(entries, list) else []:
        with contextlib.suppress(ValueError):  # what is damaged is left out
            task = model.from_dict(model.Task, entry)
            validation.check_stored_tasks([dataclasses.replace(task, dependencies=[])])
            yield task


def _replay_one(task: model.Task, event: Mapping[str, Any]) -> None:
    try:
        status = model.TaskStatus(str(event.get("to")))
    except ValueError:
        return
    if task.status.terminal and not status.terminal:  # tasks.json knows of an end that could not be noted here
        return
    task.status = status
    if status is model.TaskStatus.RUNNING:
        forget_try(task)
    for key in TASK_KEYS:
        if key in event:
            with contextlib.suppress(ValueError):  # what is damaged is left out; that it happened counts
                setattr(task, key, _checked(key, event[key]))


def forget_try(task: model.Task) -> None:
    """A task starts, maybe once more: how it ended before does not count any longer."""
    for key in _OF_ONE_TRY:
        setattr(task, key, None)


def _checked(key: str, value: Any) -> Any:
    declared = next(str(item.type) for item in fields(model.Task) if item.name == key)
    if key in ("started_at", "completed_at"):
        validation.check_time(key, model.check_value(key, declared, value))
    return model.check_value(key, declared, value)
