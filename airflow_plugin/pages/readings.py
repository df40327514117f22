"""What was read of jobs lately, for all who ask the same.

A job of 10,000 tasks takes a third of a second to read, and while it runs it has changed the next moment: were it read
for each page that is open, a few of them would take all of the API server.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEPT = 32
"""So many readings: those that were asked for last."""
REST = 10.0
"""A reading serves so many times as long as it took, though the files have changed since."""
LONGEST = 30.0


@dataclass(frozen=True)
class Reading:
    """What was read."""

    told: dict[str, Any]
    sign: str
    """Of the files as they were before they were read."""
    stage: Hashable
    fresh_until: float


class Readings:
    """Reads for one process, one thing at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Reading] = OrderedDict()

    def get(
        self, question: Hashable, stage: Hashable, sign: Callable[[], str], read: Callable[[], dict[str, Any]]
    ) -> Reading:
        """What was read last, or is read now.

        Args:
            stage: where this has changed, it is read at once.
            sign: what has changed when the files have.
        """
        with self._lock:
            found = self._kept.pop(question, None)
            if found is None or found.stage != stage or not self._serves(found, sign()):
                found = self._read(stage, sign(), read)
            self._kept[question] = found
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return found

    def _serves(self, reading: Reading, sign: str) -> bool:
        return reading.sign == sign or self._clock() < reading.fresh_until

    def _read(self, stage: Hashable, sign: str, read: Callable[[], dict[str, Any]]) -> Reading:
        began = self._clock()
        told = read()
        ended = self._clock()
        return Reading(told, sign, stage, ended + min(LONGEST, REST * (ended - began)))


def sign_of(*paths: Path) -> str:
    """Changes whenever a file does."""
    found = []
    for path in paths:
        try:
            status = path.lstat()
            found.append(f"{status.st_ino:x}.{status.st_mtime_ns:x}.{status.st_size:x}")
        except OSError:
            found.append("0")
    return "-".join(found)
