"""The jobs that a runner has: how their processes are watched and stopped.

Stopping has three steps: TERM to the ephemeral runner, which passes it on; after the grace, KILL to everything below
it; a moment later, in which it can write the end and say more than a signal does, KILL to itself. Memory and output
leave no grace: for them it begins with the second step.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from air_executor import model, processes
from air_runner import limits, trees

LAST_WORDS = 2.0
"""Seconds for an ephemeral runner to write the end after all below it was killed; Airflow's tells the API server."""


@dataclass
class Running:
    """A job with an ephemeral runner, or with one on its way."""

    job: model.Job
    pid: int | None = None
    """None while a launcher has not said it yet."""
    pidfd: int | None = None
    """For an ephemeral runner that is not a descendant of this process."""
    deadline: float | None = None
    kill_at: float | None = None
    stopping: bool = False
    waited: float = 0.0
    """Seconds that it had waited in its queue when it was claimed."""
    launcher: str = ""
    began: float | None = None
    """When its process came to life, by the monotonic clock."""
    killed: bool = False
    """Whether all below the ephemeral runner was killed."""
    looks_gone: bool = False
    output: limits.OutputLimit | None = None
    """For a task that runs in the ephemeral runner itself, which cannot watch what it writes."""
    log_start: int = 0
    """Where in its log this attempt begins."""
    last_output: float = math.inf
    """How much it may have written when it was killed for it, and is about to end."""
    peak_mb: int = 0
    """The most memory that was seen; looked at only if it is limited."""

    def launched(self, pid: int, age: float = 0.0) -> None:
        """Its process lives, for `age` seconds by now, which count for the time limit."""
        self.pid = pid
        self.began = time.monotonic() - age
        if self.job.timeout is not None:
            self.deadline = self.began + self.job.timeout
        if self.stopping:
            self._signal(signal.SIGTERM)

    @property
    def age(self) -> float | None:
        """Seconds that its process has lived, or did live; None if it has none yet."""
        return None if self.began is None else time.monotonic() - self.began

    def stop(self, grace: float) -> None:
        """TERM now, KILL to the whole tree after `grace` seconds; asking twice changes nothing."""
        if not self.stopping:
            self.stopping = True
            self.kill_at = time.monotonic() + grace
            self._signal(signal.SIGTERM)

    def end(self, moment: float) -> None:
        """KILL now, without TERM."""
        self.stopping = True
        self.kill_at = moment
        self.kill_if_due(moment)

    def kill_if_due(self, moment: float) -> None:
        """KILL when the grace is over; again later should anything be left."""
        if self.kill_at is None or moment < self.kill_at or self.pid is None:
            return
        if not self.killed:
            processes.kill_descendants(self.pid)
            self.kill_at, self.killed = moment + LAST_WORDS, True
        else:
            processes.kill_tree(self.pid)
            self.kill_at = moment + 1.0

    def is_gone(self) -> bool:
        """Whether the process was gone, or a zombie, at two looks one after the other.

        Of most ends the kernel or a template tells. But a template that dies may take the word of one with it.
        """
        before, self.looks_gone = self.looks_gone, self.pid is not None and not self._lives(self.pid)
        return before and self.looks_gone

    def _lives(self, pid: int) -> bool:
        known = self.job.runner
        return processes.start_time(pid) is not None if known is None else processes.is_alive(known) is not False

    @property
    def watches_memory(self) -> bool:
        """Whether a look at memory is needed: for the limit, or because it is still exceeded."""
        return self.job.memory_mb is not None and self.pid is not None

    def measure(self, look: trees.Look) -> bool:
        """Note the memory of the whole tree; whether it is a new peak."""
        if self.pid is None or self.job.memory_mb is None:
            return False
        used = look.memory_mb(self.pid, limit=self.job.memory_mb)
        grown = used > self.peak_mb
        self.peak_mb = max(used, self.peak_mb)
        if self.killed and used > self.job.memory_mb:
            self.kill_at = 0.0  # it is the ephemeral runner itself that is too big: no last words
        return grown

    def over_limit(self, moment: float) -> model.Exit | None:
        """Which limit of the job is exceeded, if one is."""
        if self.stopping or self.pid is None:
            return None
        if self.deadline is not None and moment >= self.deadline:
            return limits.too_long(self.job.timeout)
        if self.job.memory_mb is not None and self.peak_mb > self.job.memory_mb:
            return limits.too_big(self.job.memory_mb, self.peak_mb)
        return None if self.output is None else self.output.exceeded(moment)

    def next_moment(self, moment: float) -> float:
        """When to look at its limits again."""
        moments = [moment + limits.LAST_LOOK, self.kill_at, None if self.stopping else self.deadline]
        if self.watches_memory:
            moments.append(moment + limits.MEMORY_INTERVAL)
        if self.output is not None:
            moments.append(moment + limits.FIRST_LOOK if self.stopping else self.output.look_at)
        return min(due for due in moments if due is not None)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)


class RunningJobs:
    """All of them, by name and by pid."""

    def __init__(self) -> None:
        self._by_name: dict[str, Running] = {}
        self._by_pid: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Running]:
        return iter(list(self._by_name.values()))

    @property
    def names(self) -> set[str]:
        return set(self._by_name)

    @property
    def pids(self) -> dict[int, str]:
        """The names, by process, of those that have one."""
        return dict(self._by_pid)

    def add(self, running: Running) -> None:
        """A job was claimed."""
        self._by_name[running.job.name] = running
        if running.pid is not None:
            self._by_pid[running.pid] = running.job.name

    def get(self, name: str) -> Running | None:
        return self._by_name.get(name)

    def launched(self, name: str, pid: int) -> None:
        """The process of a job lives."""
        if running := self._by_name.get(name):
            running.launched(pid)
            self._by_pid[pid] = name

    def remove_pid(self, pid: int) -> Running | None:
        """A process ended; the job that it ran, if it ran one."""
        name = self._by_pid.pop(pid, None)
        return None if name is None else self._by_name.pop(name, None)

    def remove(self, name: str) -> None:
        """Forget a job that was not launched."""
        self._by_name.pop(name, None)
