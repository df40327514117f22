"""A job that waits for another one lets it start in its place, so that many that wait cannot keep all slots.

::

    spool/yielded/<job that waits>,<number>    holds the name of the job that it waits for

Written by a task before it waits; the runner that runs the task removes it once the other job needs no place any more.
An index, as all of the spool: where it is lost, the job that is waited for starts in its turn.
"""

from __future__ import annotations

import binascii
import contextlib
import os
from collections.abc import Collection, Iterator, Mapping

from air_executor import _files, store, validation
from air_executor.errors import AirExecutorError, CorruptFileError
from air_executor.model import JobState
from air_executor.paths import HOME_VARIABLE, JOB_VARIABLE, Home
from air_executor.spool import Marker, marker_of


def yield_to(home: Home, awaited: str, environ: Mapping[str, str] = os.environ) -> None:
    """Let a job start in the place of the job that this process belongs to; nothing happens if it belongs to none.

    Called before waiting for it. A home that refuses is of no matter: both wait for a free slot then, as before.
    """
    own = environ.get(JOB_VARIABLE, "")
    if not validation.is_name(own) or own == awaited or not _is(home, environ.get(HOME_VARIABLE, "")):
        return
    with contextlib.suppress(OSError):
        _files.write_new(home.yielded / f"{own},{binascii.crc32(awaited.encode()):08x}", awaited.encode())


def _is(home: Home, path: str) -> bool:
    return bool(path) and os.path.realpath(path) == os.path.realpath(home.root)


class Places:
    """What a runner knows of jobs that have yielded, and of those that run in their place: one in the place of each.

    Args:
        queues: those of which it may start jobs.
    """

    def __init__(self, home: Home, queues: Collection[str]) -> None:
        self._home, self._queues = home, queues
        self._yielded: dict[str, str] = {}
        """The names of jobs that are waited for and may be started, by file."""
        self._guests: dict[str, str] = {}
        """The jobs that have started in the place of others, and in whose."""

    def __bool__(self) -> bool:
        return bool(self._yielded)

    def serve(self, queues: Collection[str]) -> None:
        """Jobs of these queues may be started from now on, and of no others."""
        self._queues = queues
        self.look()

    def note(self, file_name: str) -> None:
        """There is a new file."""
        with contextlib.suppress(OSError, CorruptFileError, UnicodeDecodeError):
            if awaited := _files.read_bytes(self._home.yielded / file_name).decode("ascii"):  # else it is being written
                self._yielded[file_name] = awaited

    def look(self) -> None:
        """Look at all files, for what nobody told of, and for what could not be started before."""
        with contextlib.suppress(OSError):
            for file_name in os.listdir(self._home.yielded):  # noqa: PTH208
                self.note(file_name)

    def guests(self, running: set[str]) -> int:
        """How many jobs run in the place of others that run."""
        return sum(guest in running and host in running for guest, host in self._guests.items())

    def take(self, job_name: str, host: str) -> None:
        """A job starts in the place of another."""
        self._guests[job_name] = host

    def ended(self, job_name: str) -> None:
        """A job is over: what was started in its place has one of its own now, and its place may be another's."""
        if self._guests.pop(job_name, None):
            self.look()

    def set_aside(self, job_name: str) -> None:
        """Somebody sees to a job; the next look says whether it needs a place any more."""
        for file_name in [each for each, awaited in self._yielded.items() if awaited == job_name]:
            del self._yielded[file_name]

    def candidates(self, running: set[str]) -> Iterator[tuple[str, Marker]]:
        """The markers of jobs that may start although no slot is free, after the job that runs here and waits for them.

        What cannot start now is set aside, so that nobody asks again before the next look.
        """
        for file_name, awaited in list(self._yielded.items()):
            host = file_name.rpartition(",")[0]
            marker = self._marker(awaited) if host in running else None
            if marker is not None and host not in self._guests.values():
                yield host, marker
                continue
            self._yielded.pop(file_name, None)
            if self._is_over(awaited) or (host not in running and self._is_over(host)):
                with contextlib.suppress(OSError):
                    _files.discard(self._home.yielded / file_name)

    def _marker(self, job_name: str) -> Marker | None:
        with contextlib.suppress(AirExecutorError, OSError):
            job = store.read(self._home, job_name)
            if job.state is JobState.WAITING and job.queue in self._queues:
                return marker_of(job)
        return None

    def _is_over(self, job_name: str) -> bool:
        """One that works may have to wait once more; of one that cannot be read just now nothing is known."""
        try:
            return store.read(self._home, job_name).state.terminal
        except AirExecutorError:
            return True
        except OSError:
            return False
