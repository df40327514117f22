"""Hearing of the ends of jobs that are not known yet: those of a name, or of a pipeline.

Each end is told at least once, also if it came while the listener was not there, up to `ends.KEPT` seconds. What came
while nobody had made the listener yet, or after somebody deleted the spool, is not told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from air_executor import _files, ends
from air_executor.awaiting import JobWatch
from air_executor.errors import NotFoundError
from air_executor.paths import Home


class Listener:
    """Hears of ends; where it hears of them is in files, so that one with the same id goes on after a restart.

    Args:
        kind: `job` or `pipeline`.
        name: of the job or the pipeline.
        listener_id: tells it from others that listen to the same; letters and digits, at most `ends.MAX_ID_BYTES`.

    Raises:
        InvalidInputError: that cannot be listened to.
    """

    def __init__(self, home: Home, kind: str, name: str, listener_id: str) -> None:
        self.home = home
        self.directory = ends.listener_directory(home, kind, name, listener_id)

    def open(self) -> None:
        """Begin to listen, or go on: ends that come from now on are kept until they are dealt with.

        Raises:
            NotFoundError: there is no home.
            OSError: the home refused.
        """
        if not self.home.jobs.is_dir():
            raise NotFoundError(f"{self.home.root} is no home of an Air-Executor installation; nothing ends there")
        _files.make_directory(self.directory)

    def pending(self) -> list[ends.End]:
        """(job, attempt) of the ends that were not dealt with, the first first."""
        return ends.pending(self.directory)

    def done(self, job: str, attempt: int) -> None:
        """An end was dealt with: it is not told again."""
        _files.discard(self.directory / ends.End(job, attempt).file_name)

    def watch(self, told: Callable[[], None]) -> None:
        """Have `told()` called from another thread whenever there is something pending; see `JobWatch.listen`."""
        JobWatch.shared(self.home).listen(self.directory, told)

    def unwatch(self, told: Callable[[], None]) -> None:
        """Have it called no more; what ends meanwhile is kept."""
        JobWatch.shared(self.home).unlisten(self.directory, told)

    def forget(self) -> None:
        """Listen no more, and drop what is pending. Not while it is watched."""
        for end in self.pending():
            self.done(*end)
        with contextlib.suppress(OSError):  # something has come meanwhile: repair drops it
            self.directory.rmdir()
