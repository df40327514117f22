"""Which processes are parts of a runner, and which belong to jobs: told by the system alone (Linux).

Whoever is about to kill what a dead runner left asks here, and not the files of jobs: those may be damaged, or about
to be written. An ephemeral runner has taken the lock of its job; a runner, a template, and an ephemeral runner that
has not come to that are told by their command lines. What a job forks inherits both, and the system knows who took it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from air_executor import processes
from air_executor.paths import JOB_LOCK

MODULES = frozenset({b"air_runner", b"air_runner.template", b"air_runner.ephemeral"})


def is_ours(pid: int) -> bool:
    """Whether a living process is a part of a runner. One that cannot be looked at is, if it may be."""
    names_itself = not MODULES.isdisjoint(_read(pid, "cmdline").split(b"\0"))
    locks = _open_locks(pid)
    if locks is None:  # it is not dumpable, as Airflow's supervisor
        return names_itself or pid in _lock_takers()
    return pid in _lock_takers() if locks else names_itself


def is_below_ours(pid: int) -> bool | None:
    """Whether a process or one above it is a part of a runner; None if one ended while it was looked at."""
    while pid > 1:
        if is_ours(pid):
            return True
        stat = _read(pid, "stat")
        if not stat:
            return None
        pid = int(stat[stat.rindex(b")") + 2 :].split()[1])
    return False


def has_job(pid: int, name: str) -> bool | None:
    """Whether a process, or what it was forked from, took the lock of a job of that name; None if it cannot be seen.

    A lock that somebody removed or moved aside counts: it is the process that is looked at, not the file.
    """
    locks = _open_locks(pid)
    return None if locks is None else any(lock.parent.name == name for lock in locks)


def _open_locks(pid: int) -> list[Path] | None:
    """The lock files of jobs that it has open; None if that cannot be seen."""
    try:
        targets = map(Path, _links(f"/proc/{pid}/fd"))
        return [target for target in targets if target.name.startswith(JOB_LOCK)]
    except OSError:
        return None


def _links(directory: str) -> Iterator[str]:
    for name in os.listdir(directory):  # noqa: PTH208
        try:
            yield os.readlink(f"{directory}/{name}")  # noqa: PTH115
        except FileNotFoundError:  # closed meanwhile
            continue


def _lock_takers() -> set[int]:
    """The processes that took the locks that are held now; a process forked from one of them is not among them."""
    lines = Path("/proc/locks").read_text().splitlines()
    return {int(line.split()[-4]) for line in lines}


def _read(pid: int, name: str) -> bytes:
    try:
        return processes.read(pid, name)
    except OSError:
        return b""
