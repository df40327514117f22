"""Which tasks a new attempt of a job has, and which of them need not run again. Plain data, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from air_executor.model import Task, TaskStatus

_DEFINITION = ("command", "args", "env", "cwd", "dependencies")
"""What must be the same of a task for which a result of an earlier attempt counts."""
_HISTORY = ("started_at", "completed_at", "exit_code", "signal")


def next_tasks(old: Sequence[Task], new: Sequence[Task] | None, *, keep_completed: bool) -> list[Task]:
    """The tasks of a new attempt, ready to run; those that are kept are completed already.

    What a task added that runs again is left out, for it will add it again.

    Args:
        new: the tasks that were submitted for it; None: the same as before.
        keep_completed: whether tasks that completed stay so. One does not if anything it depends on runs again.
    """
    kept = _kept(old, new) if keep_completed else set()
    before = {task.id: task for task in old}
    tasks = list(new) if new is not None else [task for task in old if task.added_by is None]
    given = {task.id for task in tasks}
    tasks += [task for task in old if task.added_by is not None and task.id in kept and task.id not in given]
    for task in tasks:
        reset(task, before[task.id] if task.id in kept else None)
    return tasks


def reset(task: Task, kept: Task | None = None) -> None:
    """As before its first start, or as one that completed and is kept."""
    task.status = TaskStatus.PENDING if kept is None else TaskStatus.COMPLETED
    for name in _HISTORY:
        setattr(task, name, getattr(kept, name, None))
    task.error, task.tries = None, 0


def _kept(old: Sequence[Task], new: Sequence[Task] | None) -> set[str]:
    """Completed tasks whose definition is the same, and all they depend on, and the tasks that added them."""
    definitions = {task.id: task for task in (old if new is None else new)}
    kept = {
        task.id: [*task.dependencies, *([task.added_by] if task.added_by else [])]
        for task in old
        if task.status is TaskStatus.COMPLETED and _is_same(task, definitions.get(task.id))
    }
    needed_by: dict[str, list[str]] = {}
    for name, needs in kept.items():
        for need in needs:
            needed_by.setdefault(need, []).append(name)
    lost = [need for need in needed_by if need not in kept]
    while lost:
        for name in needed_by.pop(lost.pop(), ()):
            if kept.pop(name, None) is not None:
                lost.append(name)
    return set(kept)


def _is_same(task: Task, now: Task | None) -> bool:
    if now is None:  # nobody submits what is added while a job runs
        return task.added_by is not None
    return all(getattr(task, name) == getattr(now, name) for name in _DEFINITION)
