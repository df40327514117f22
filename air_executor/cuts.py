"""Cutting off the logs of tasks that wrote more than they may.

Whoever notices it notes it in the job's directory before the writers are killed; whoever comes to write the end of the
job, also after a crash, does what is noted: the writers are gone by then. Doing it twice leaves the same log.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from air_executor import _files, journal, validation
from air_executor.errors import CorruptFileError
from air_executor.paths import JobPaths

MIB = 2**20

NOTICE = "air-executor: the output was cut off"
"""How the last line begins of a log that was cut off."""


@dataclass(frozen=True)
class Cut:
    """What is to be cut off."""

    limit_mb: int
    """How much is left of the logs, together."""
    start: Mapping[str, int]
    """The tasks that wrote, and where in its log the attempt of each began, bytes."""
    whole_job: bool = True
    """Whose limit it was, the job's or the task's."""

    @property
    def line(self) -> str:
        """The last line of a log that was cut off."""
        return f"{NOTICE} at {self.limit_mb} MiB (output_mb); the {'job' if self.whole_job else 'task'} was ended"


def note(paths: JobPaths, cut: Cut) -> None:
    """Note that logs are to be cut off; before their writers are killed.

    Raises:
        OSError: the home refused.
    """
    content = {"limit_mb": cut.limit_mb, "start": dict(cut.start), "whole_job": cut.whole_job}
    _files.append_line(paths.cuts, content)


def carry_out(paths: JobPaths) -> None:
    """Do what is noted, if anything is. A log that refuses is left as it is: the end of the job matters more."""
    if not paths.cuts.exists():
        return
    for cut in _noted(paths.cuts):
        logs = {paths.log(task): start for task, start in cut.start.items()}
        sizes = {path: size for path in logs if (size := log_size(path))}
        for path, kept in share({path: sizes[path] - logs[path] for path in sizes}, cut.limit_mb * MIB).items():
            with contextlib.suppress(OSError):
                _cut_off(path, logs[path] + kept, cut.line)
    _files.discard(paths.cuts)


def share(written: Mapping[Path, int], limit: int) -> dict[Path, int]:
    """How much is left of each log that is too long, so that together they keep the limit, the longest first. Pure."""
    kept: dict[Path, int] = {}
    excess = sum(written.values()) - limit
    for path in sorted(written, key=lambda path: written[path], reverse=True):
        if excess <= 0:
            break
        kept[path] = max(0, written[path] - excess)
        excess -= written[path] - kept[path]
    return kept


def log_size(path: Path) -> int:
    """Bytes of a log; 0 while there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _noted(path: Path) -> Iterator[Cut]:
    try:
        noted = list(journal.read(path))  # a line that a crash cut off is passed over
    except CorruptFileError:  # somebody made a directory of that name
        return
    for content in noted:
        try:
            start = {task: int(size) for task, size in content["start"].items() if validation.is_name(task)}
            yield Cut(int(content["limit_mb"]), start, bool(content["whole_job"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue


def _cut_off(path: Path, size: int, line: str) -> None:
    """The line first: a log that is short enough is left alone, should this process be killed between the two."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # not to append: then the system takes no other place
    try:
        whole = size == 0 or os.pread(fd, 1, size - 1) == b"\n"
        last = (line if whole else f"\n{line}").encode() + b"\n"
        os.pwrite(fd, last, size)
        os.ftruncate(fd, size + len(last))
    finally:
        os.close(fd)
