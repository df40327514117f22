"""How busy the processors are."""

from __future__ import annotations

import os
from pathlib import Path

STARTS_PER_PROCESSOR = 2
"""How many jobs may be starting although no processor is idle: one waits for a disk or a server, another computes."""

_LOADAVG = Path("/proc/loadavg")


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def average() -> float | None:
    """The load average of this host over the last minute; None where the system does not tell it."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def idle_processors() -> int | None:
    """How many processors of this host have nothing to do, this process aside; None where that is not known.

    Where this process may use only some of them, those that are idle may be others.
    """
    others = _others_that_run()
    return None if others is None else max(0, (os.cpu_count() or 1) - others)


def is_crowded() -> bool:
    """Whether more others want to run on this host than can start together; False where that is not known."""
    return (_others_that_run() or 0) > STARTS_PER_PROCESSOR * (os.cpu_count() or 1)


def _others_that_run() -> int | None:
    try:
        return int(_read(_LOADAVG).split()[3].split(b"/")[0]) - 1
    except (OSError, ValueError, IndexError):
        return None


def starts_at_a_time() -> int:
    """How many jobs start together where no processor is idle."""
    return STARTS_PER_PROCESSOR * processors()


def _read(path: Path) -> bytes:
    """Many times in a second: a file object takes longer to make than the system takes to answer."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 256)
    finally:
        os.close(fd)
