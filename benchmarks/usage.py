"""What processes use, from /proc: CPU seconds with all that they have reaped, and memory (PSS)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")


class Effort(NamedTuple):
    """What processes needed."""

    user: float
    """Seconds of a processor in programs."""
    system: float
    """Seconds of a processor in the kernel."""
    faults: float
    """Pages that were copied or given when they were first touched."""

    def since(self, before: Effort, count: int) -> Effort:
        """What came since, for each of so many."""
        return Effort(*((now - then) / count for now, then in zip(self, before, strict=True)))


def tree(*roots: int) -> list[int]:
    """These processes and all below them."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children.setdefault(int(_stat(int(path.name))[1]), []).append(int(path.name))
    found, rest = [], list(roots)
    while rest:
        found.append(pid := rest.pop())
        rest += children.get(pid, [])
    return found


def cpu(pids: Iterable[int]) -> float:
    """CPU seconds that these used, and the children that they waited for."""
    needed = effort(pids)
    return needed.user + needed.system


def effort(pids: Iterable[int]) -> Effort:
    """What these needed, and the children that they waited for."""
    total = [0, 0, 0]
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = [int(each) for each in _stat(pid)[1:]]
            found = fields[10] + fields[12], fields[11] + fields[13], fields[6] + fields[7]
            total = [one + more for one, more in zip(total, found, strict=True)]
    return Effort(total[0] / TICKS, total[1] / TICKS, float(total[2]))


def memory(pids: Iterable[int]) -> float:
    """MiB; what several share counts once."""
    kilobytes = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024


def machine() -> float:
    """CPU seconds that anything on this machine has used."""
    fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / TICKS


def _stat(pid: int) -> list[str]:
    """Fields 3 and on of /proc/PID/stat; the second may hold anything."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2 :].split()
