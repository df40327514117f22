"""Pieces of a task's log, by offset: never much at once, and never anything outside the job's directory."""

from __future__ import annotations

import codecs
import os
import stat
from dataclasses import dataclass

from air_executor.paths import JobPaths

PIECE = 128 * 1024
"""Bytes that are read at once."""
_IN_JOB = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Nothing is read through a link, and nobody waits for the other end of a fifo."""


@dataclass(frozen=True)
class Piece:
    """A part of a log."""

    start: int
    """Where it begins: not where it was asked for if the log has become shorter meanwhile."""
    next: int
    """Where the next one begins."""
    size: int
    """Bytes that the log has now."""
    text: str


def read(paths: JobPaths, task_id: str, offset: int | None, *, final: bool) -> Piece:
    """A piece of a task's log.

    Args:
        task_id: checked to be a name.
        offset: where it begins; None: so that it is the end of the log.
        final: nothing more will be written, so an incomplete character at the end is none.

    Raises:
        FileNotFoundError: there is no such log.
        OSError: it is no file of this directory, or cannot be read.
    """
    fd = open_log(paths, task_id)
    try:
        size = os.fstat(fd).st_size
        if offset is None:
            offset = max(0, size - PIECE)
            data = os.pread(fd, PIECE, offset)
            start, data = (0, data) if offset == 0 else _from_next_line(offset, data)
        else:
            start = offset if offset <= size else 0  # what is shorter than it was is another attempt's, or was cut off
            data = os.pread(fd, PIECE, start)
    finally:
        os.close(fd)
    whole = final and start + len(data) >= size
    text, used = codecs.utf_8_decode(data, "replace", whole)
    return Piece(start, start + used, size, text)


def _from_next_line(offset: int, data: bytes) -> tuple[int, bytes]:
    """Without the part of a line that it begins with."""
    cut = data.find(b"\n") + 1
    return offset + cut, data[cut:]


def open_log(paths: JobPaths, task_id: str) -> int:
    """A descriptor of a task's log. The last three parts of its path may be no links: the job, its directory of logs,
    and the file. Raises as `read`."""
    path = paths.log(task_id)
    directory = os.open(path.parents[1], _IN_JOB | os.O_DIRECTORY)
    try:
        logs = os.open(path.parent.name, _IN_JOB | os.O_DIRECTORY, dir_fd=directory)
        try:
            fd = os.open(path.name, _IN_JOB, dir_fd=logs)
        finally:
            os.close(logs)
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "it is not a file", path.name)
    return fd
