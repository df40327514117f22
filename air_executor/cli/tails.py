"""A log that grows: how much of it was read, and what is new. For `logs` and `top`."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_CHUNK = 1 << 16


class Tail:
    """A log file and how much of it was read."""

    def __init__(self, task: str, path: Path, lines: int | None = None) -> None:
        self.task = task
        self.path = path
        self.offset = 0
        self.rest = b""
        """The beginning of a line whose end is not written yet."""
        if lines is not None and path.is_file():
            with path.open("rb") as file:
                self.offset = last_lines(file, lines)

    def skip(self, keep: int) -> bool:
        """Pass over what is neither read nor among the last `keep` bytes; whether there was any."""
        with contextlib.suppress(OSError):
            behind = self.path.stat().st_size - keep - self.offset
            if behind > 0:
                self.offset, self.rest = self.offset + behind, b""
                return True
        return False

    def read(self) -> Iterator[bytes]:
        """What is new."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):  # one would wait for the other end of a fifo
            return
        size = found.st_size
        with self.path.open("rb") as file:
            if size < self.offset:
                self.offset, self.rest = _begin_again(file), b""
            file.seek(self.offset)
            while self.offset < size and (data := file.read(min(_CHUNK, size - self.offset))):
                self.offset += len(data)
                yield data


def _begin_again(file: IO[bytes]) -> int:
    """Where to go on in a log that is shorter than it was: cut off at a limit, which its last line says, or anew."""
    from air_executor import cuts

    last = last_lines(file, 1)
    file.seek(last)
    return last if file.read(len(cuts.NOTICE)) == cuts.NOTICE.encode() else 0


def last_lines(file: IO[bytes], lines: int) -> int:
    """Where the last `lines` lines begin; reads from the end, because a log may be large."""
    end = position = file.seek(0, 2)
    while position > 0:
        start = max(0, position - _CHUNK)
        file.seek(start)
        data = file.read(position - start)
        at = len(data)
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            if start + at + 1 == end:  # the newline that ends the last line separates it from nothing
                continue
            lines -= 1
            if lines == 0:
                return start + at + 1
        position = start
    return 0
