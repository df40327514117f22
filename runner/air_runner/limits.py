"""The limits of jobs and tasks: what is too much, when to look again, what is said of it. Who is killed is not here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from air_executor import model
from air_executor.cuts import MIB
from air_executor.model import ExitKind

AT_ONCE = frozenset({ExitKind.MEMORY, ExitKind.OUTPUT})
"""Limits that harm others while they are exceeded: no grace."""

FASTEST_WRITER = 2**30
"""Bytes a second; nobody is expected to fill a disk faster."""
FIRST_LOOK, LAST_LOOK = 0.05, 1.0
"""Seconds between two looks at a log, at least and at most."""

MEMORY_INTERVAL = 0.5
"""Seconds between two looks at memory."""
MEMORY_EFFORT = 0.1
"""The part of its time that a runner may take for finding out how memory is shared: some milliseconds for 64 MiB."""


def next_look(left: float) -> float:
    """Seconds until so many bytes may be written. Pure."""
    return min(LAST_LOOK, max(FIRST_LOOK, left / FASTEST_WRITER))


def until_next_memory(took: float) -> float:
    """Seconds until the next look at memory, after one that took so many for what is shared. Pure."""
    return MEMORY_INTERVAL + took / MEMORY_EFFORT


@dataclass
class OutputLimit:
    """A limit of what is written, and when to look at it next."""

    limit_mb: int
    written: Callable[[], int]
    """Bytes that were written so far."""
    look_at: float = 0.0
    """When to look again, monotonic seconds."""

    @classmethod
    def new(cls, limit_mb: int, written: Callable[[], int], moment: float) -> OutputLimit:
        """Of somebody who begins to write at that moment."""
        return cls(limit_mb, written, moment + next_look(limit_mb * MIB))

    def exceeded(self, moment: float) -> model.Exit | None:
        """The end of whoever wrote too much; None if it is in order or not yet time to look."""
        if moment < self.look_at:
            return None
        written = self.written()
        self.look_at = moment + next_look(self.limit_mb * MIB - written)
        if written <= self.limit_mb * MIB:
            return None
        reason = f"wrote {written / MIB:.1f} MiB of output, more than its output_mb of {self.limit_mb}"
        return model.Exit(ExitKind.OUTPUT, reason)


def too_long(timeout: float | None) -> model.Exit:
    """The end of what ran into its timeout."""
    return model.Exit(ExitKind.TIMEOUT, f"ran longer than its timeout of {timeout:g} s")


def too_big(limit_mb: int, used_mb: int) -> model.Exit:
    """The end of what used too much memory."""
    return model.Exit(ExitKind.MEMORY, f"used {used_mb} MiB of memory, more than its memory_mb of {limit_mb}")


def of_task(task: model.Task, job: model.Job, default_mb: int) -> int | None:
    """The limit of one task's log, MiB: its own; the runner's default where neither it nor its job says one. Pure."""
    if task.output_mb is not None or job.output_mb is not None:
        return task.output_mb
    return default_mb or None
