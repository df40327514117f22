"""The jobs that a runner has: watching their processes, stopping them, enforcing the limits of whole jobs."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from air_executor import model, processes
from air_executor.model import ExitKind


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
    looks_gone: bool = False

    def launched(self, pid: int, started: float | None = None) -> None:
        """Its process lives; the time limit counts from its start (monotonic seconds, now if None)."""
        self.pid = pid
        if self.job.timeout is not None:
            self.deadline = (started if started is not None else time.monotonic()) + self.job.timeout
        if self.stopping:
            self._signal(signal.SIGTERM)

    def stop(self, grace: float) -> None:
        """TERM now, KILL to the whole tree after `grace` seconds; asking twice changes nothing."""
        if not self.stopping:
            self.stopping = True
            self.kill_at = time.monotonic() + grace
            self._signal(signal.SIGTERM)

    def kill_if_due(self, moment: float) -> None:
        """KILL when the grace is over; again later should anything be left."""
        if self.kill_at is not None and moment >= self.kill_at and self.pid is not None:
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

    def over_limit(self, moment: float) -> model.Exit | None:
        """Which limit of the job is exceeded, if one is."""
        if self.stopping or self.pid is None:
            return None
        if self.deadline is not None and moment >= self.deadline:
            return model.Exit(ExitKind.TIMEOUT, f"ran longer than its timeout of {self.job.timeout:g} s")
        limit = self.job.memory_mb
        if limit is not None and (used := memory_mb(self.pid)) > limit:
            return model.Exit(ExitKind.MEMORY, f"used {used} MiB of memory, more than its memory_mb of {limit}")
        return None

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


def memory_mb(pid: int) -> int:
    """Resident memory of a process and its descendants, MiB; pages that they share count for each."""
    import psutil

    total = 0
    for process in processes.tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_info().rss
    return total // 2**20
