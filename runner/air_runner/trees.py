"""One look at all processes of this host: who is whose child, and how much memory a tree of them has.

Looking costs as much as there are processes, so one look serves all jobs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from air_executor.cuts import MIB


@dataclass(frozen=True)
class Seen:
    """A process as it was at one look."""

    pid: int
    parent: int
    resident: int
    """Bytes of memory that it has, those that it shares with others included."""


class Look:
    """What was seen."""

    def __init__(self, processes: Iterable[Seen]) -> None:
        self.took = 0.0
        """Seconds that finding out what is shared took."""
        self._resident: dict[int, int] = {}
        self._children: defaultdict[int, list[int]] = defaultdict(list)
        for process in processes:
            self._resident[process.pid] = process.resident
            self._children[process.parent].append(process.pid)

    def children(self, pid: int) -> list[int]:
        """The children of a process."""
        return self._children.get(pid, [])

    def memory_mb(self, *roots: int, limit: int) -> int:
        """Resident memory of processes and all their descendants, MiB.

        Pages that are shared count for each of them, with those of a template too. Where that comes to more than
        `limit`, it is found out how much is theirs, which takes longer: of a shared page, each has a part.
        """
        pids = self._tree(roots)
        resident = sum(self._resident.get(pid, 0) for pid in pids)
        if resident > limit * MIB:
            began = time.monotonic()
            shares = ((pid, _share(pid)) for pid in pids)
            resident = sum(self._resident.get(pid, 0) if share is None else share for pid, share in shares)
            self.took += time.monotonic() - began
        return resident // MIB

    def _tree(self, roots: Iterable[int]) -> set[int]:
        found: set[int] = set()
        left = list(roots)
        while left:
            pid = left.pop()
            if pid not in found:
                found.add(pid)
                left += self.children(pid)
        return found


def look() -> Look:
    """Look at all processes now."""
    return Look(_read_proc() if sys.platform == "linux" else _ask_psutil())


def _read_proc() -> Iterator[Seen]:
    page = os.sysconf("SC_PAGE_SIZE")
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                stat = file.read()
                values = stat[stat.rindex(b")") + 2 :].split()
                yield Seen(int(name), int(values[1]), int(values[21]) * page)


def _share(pid: int) -> int | None:
    """Bytes of memory of a process, its part of what it shares; None if the kernel does not tell."""
    if sys.platform != "linux":
        return None
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
            values = [line.split() for line in file if line.startswith(b"Pss:")]
    except ProcessLookupError:
        return 0  # it has ended since the look, and what it shared is the others'
    except OSError:
        return None if os.path.exists(f"/proc/{pid}") else 0  # noqa: PTH110
    return sum(int(kibibytes) * 1024 for _, kibibytes, _ in values)


def _ask_psutil() -> Iterator[Seen]:
    import psutil

    for process in psutil.process_iter(["ppid", "memory_info"]):
        if memory := process.info["memory_info"]:
            yield Seen(process.pid, process.info["ppid"] or 0, memory.rss)
