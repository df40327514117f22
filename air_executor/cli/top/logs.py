"""The end of what the tasks of a job wrote, kept up to date as they write."""

from __future__ import annotations

from collections import deque

from air_executor import report, validation
from air_executor.cli.tails import Tail
from air_executor.paths import Home

LINES = 2000
_KEPT = 1 << 20
"""Bytes that are read at once of all logs together; what is older is passed over."""


class LogView:
    """The last lines of all tasks of a job, in the order in which they were read."""

    def __init__(self, home: Home, name: str) -> None:
        self.name = name
        self.cut = False
        self._paths = home.job(name)
        self._tails: dict[str, Tail] = {}
        self._lines: deque[tuple[str, str]] = deque(maxlen=LINES)

    @property
    def lines(self) -> list[str]:
        """Whole lines, and what is there of the last of each task; with the task before each if there are several."""
        beginnings = [(tail.task, readable(tail.rest)) for tail in self._tails.values() if tail.rest]
        several = len(self._tails) > 1
        return [f"{task} | {text}" if several else text for task, text in (*self._lines, *beginnings)]

    def read(self) -> None:
        """Read what is new."""
        for path in sorted(self._paths.logs.glob("*.log")):
            if path.stem not in self._tails and validation.is_name(path.stem):
                self._tails[path.stem] = Tail(path.stem, path)
        keep = _KEPT // max(1, len(self._tails))
        for tail in self._tails.values():
            self.cut |= tail.skip(keep)
            for data in tail.read():
                self._add(tail, data)

    def _add(self, tail: Tail, data: bytes) -> None:
        *lines, tail.rest = (tail.rest + data).split(b"\n")
        tail.rest = tail.rest[-_KEPT:]
        self.cut |= len(self._lines) + len(lines) > LINES
        self._lines.extend((tail.task, readable(line)) for line in lines)


def readable(line: bytes) -> str:
    """A line as a terminal would show it in the end, and without what it would obey."""
    text = line[-report.LINE_LENGTH * 4 :].decode("utf-8", "replace")
    return report.one_line(text.rstrip("\r").rpartition("\r")[2].replace("\t", "    "))[: report.LINE_LENGTH]
