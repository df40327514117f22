"""What people write of jobs and tasks, in dictionaries and files, and how it becomes `Job` and `Task`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from air_executor import model
from air_executor.errors import InvalidJobError
from air_executor.model import Task

TASK_KEYS = (
    *("id", "command", "args", "dependencies", "env", "cwd"),
    *("timeout", "memory_mb", "output_mb", "retries", "retry_delay"),
)
"""The fields of a task that people may set."""
JOB_SETTINGS = (
    *("queue", "priority", "timeout", "memory_mb", "output_mb", "nice", "max_parallel", "on_failure"),
    *("slurm", "webhooks"),
)
"""The fields of a job that say how it runs: the last who says one decides."""
JOB_OPTIONS = (*JOB_SETTINGS, "labels")
"""The fields of a job that people may set in a file, beside its name."""
_SHOWN = 30
"""How many known names an error lists."""


def to_job(name: str | None, options: Mapping[str, Any]) -> model.Job:
    """A job from what people write; None: its name is made up.

    Raises:
        InvalidJobError: an option is unknown.
    """
    import uuid

    try:
        return model.Job(f"job-{uuid.uuid4().hex[:12]}" if name is None else name, **options)
    except TypeError as error:
        raise InvalidJobError(f"unknown option: {str(error).split('argument ')[-1]}") from None


def to_task(task: Mapping[str, Any] | Task) -> Task:
    """A task from what people write.

    Raises:
        InvalidJobError: a key is unknown, missing, or has the wrong type.
    """
    if isinstance(task, Task):
        return task
    if not isinstance(task, Mapping):
        raise InvalidJobError(f"a task is a dictionary or a Task, not a {type(task).__name__}")
    unknown = sorted(map(str, task.keys() - TASK_KEYS))
    if unknown:
        raise InvalidJobError(f"a task has no {unknown[0]!r}; it has {', '.join(sorted(TASK_KEYS))}")
    try:
        return model.from_dict(Task, task)
    except ValueError as error:
        raise InvalidJobError(f"task {str(task.get('id', task.get('command', '')))[:60]!r}: {error}") from None


def to_tasks(tasks: Iterable[Mapping[str, Any] | Task]) -> list[Task]:
    """`to_task` for each."""
    return [to_task(task) for task in tasks]


def hint(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known: the one that was probably meant, or all that there are."""
    import difflib

    names = sorted(known)
    if close := difflib.get_close_matches(name, names, 1):
        return f"did you mean {close[0]}?"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"known are {', '.join(names[:_SHOWN])}{more}" if names else "none is known"
