"""Bringing the index up to date: when to look at which directories.

What is seen when, if `refresh` is called about once a second:

- jobs that are submitted, claimed, started, or end: with the next refresh. The spool lists all that live, and the files
  of all that the index has as working are looked at. A waiting job does not change as long as its marker stands;
- jobs that came and ended between two refreshes, and jobs that were pruned: with the next one or two, when the time of
  `jobs/` says that names came or went. With 100,000 jobs listing them takes a tenth of a second, so it is done only as
  often as takes a twentieth of the time, and so are the queues;
- a job that was over, was tried again and was over again between two refreshes, and a file that somebody edited or
  damaged: with the next sweep. One begins every 30 seconds, and looks at some thousand jobs with each refresh.

`catch_up` looks at all at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from air_executor import model, spool, validation
from air_executor.errors import AirExecutorError, CorruptFileError
from air_executor.index import files, reading, rows
from air_executor.index.database import Database
from air_executor.index.reading import BATCH
from air_executor.paths import Home

SWEEP_INTERVAL = 30.0
SWEEP_SECONDS = 0.008
"""What a sweep may take of one refresh."""
SETTLING = 3.0
"""A directory whose time is the same for so long has not changed since: filesystems count time in steps."""
_SHARE = 20
"""A listing that takes a second is done again after so many."""
_CHUNK = 400
_LATEST_WAIT = 600.0

_WAITING, _WORKING = model.JobState.WAITING.value, model.JobState.WORKING.value
_NEVER = float("inf")


class Progress(NamedTuple):
    """What a refresh left to do."""

    unread: int
    """Jobs that it does not have yet, as it is being made or many came at once; the newest are read first."""


class Looker:
    """Looks for one process. Threads that come while one looks do nothing."""

    def __init__(self, home: Home, index: Database) -> None:
        self._home = home
        self._database = index
        self._turn = threading.Lock()
        self._generation = -1
        self._forget()

    def _forget(self) -> None:
        """What this process knows holds for one file."""
        self._names = _Settling(None)
        self._names_due = self._queues_due = 0.0
        """When to list them again, by the monotonic clock."""
        self._gone: list[str] = []
        self._undated: list[str] = []
        self._unread: list[tuple[int, str]] = []
        """By the time of their directories, the newest last."""

    # --- whose turn it is ---

    def refresh(self, budget: float) -> Progress:
        """Look at what is new or has changed; read for at most so many seconds."""
        deadline = time.monotonic() + budget
        self._have_turn(0.0, lambda: self._look_around(deadline))
        with self._database.reading() as connection:
            unread = files.get(connection, "unread")
        return Progress(unread if isinstance(unread, int) else 0)

    def catch_up(self) -> None:
        """Look at every job and read all that is new or has changed."""
        if not self._have_turn(_LATEST_WAIT, self._look_at_all):
            waited = f"another process has been reading the jobs for {_LATEST_WAIT:.0f} seconds"
            raise AirExecutorError(f"{waited}; try again, or remove {self._home.index}")

    def _have_turn(self, wait: float, work: Callable[[], None]) -> bool:
        """Do it, unless another thread or process is at it."""
        if not self._turn.acquire(timeout=wait):
            return False
        try:
            with self._database.reading():
                pass  # so that there is a file, if there can be one, and a place for the lock
            if self._database.in_memory:
                work()
                return True
            lock = self._database.looking
            try:
                if not lock.acquire(wait=wait):
                    return False
            except (OSError, CorruptFileError) as error:
                raise files.Unusable(str(error)) from error
            try:
                work()
                return True
            finally:
                lock.release()
        finally:
            self._turn.release()

    # --- what is looked at ---

    def _look_around(self, deadline: float) -> None:
        self._begin()
        self._look(self._living(), deadline)
        self._find_names()
        self._gone = self._look(self._gone, deadline)
        self._date(deadline)
        self._sweep(min(deadline, time.monotonic() + SWEEP_SECONDS))
        self._read(deadline)
        self._end()

    def _look_at_all(self) -> None:
        self._begin()
        self._names_due, self._names = 0.0, _Settling(None)
        self._find_names()
        self._gone = self._look(self._gone, _NEVER)
        self._sweep(_NEVER, all_of_it=True)
        self._date(_NEVER)
        self._read(_NEVER)
        self._end()

    def _begin(self) -> None:
        with self._database.reading() as connection:
            is_new = self._generation != self._database.generation
            elsewhere = not is_new and files.belongs_elsewhere(connection)
        if elsewhere:
            self._database.leave()
        if self._generation != self._database.generation:
            with self._database.writing() as connection:
                files.take_over(connection)
                listed = files.get(connection, "listed")
            self._forget()
            self._names = _Settling(listed if isinstance(listed, int) else None)
            self._generation = self._database.generation

    def _end(self) -> None:
        """Tell other processes, and those that come later, how far this one has come."""
        unread = len(self._unread) + len(self._undated)
        listed = self._names.settled if not unread and not self._gone else None
        with self._database.reading() as connection:
            same = (files.get(connection, "unread"), files.get(connection, "listed")) == (unread, listed)
        if not same:
            with self._database.writing() as connection:
                files.put(connection, "unread", unread)
                files.put(connection, "listed", listed)
        self._database.works()

    def _living(self) -> list[str]:
        """The jobs that may have changed: those that somebody has, and those that came to or left a queue."""
        claimed = {name for holder in spool.holders(self._home) for name in spool.claimed(self._home, holder)}
        moved: set[str] = set()
        began = time.monotonic()
        if began >= self._queues_due:
            moved = self._moved()
            self._queues_due = time.monotonic() + (time.monotonic() - began) * _SHARE
        with self._database.reading() as connection:
            working = {name for (name,) in connection.execute("SELECT name FROM job WHERE state = ?", (_WORKING,))}
        return list(claimed | working) + list(moved - claimed - working)

    def _moved(self) -> set[str]:
        """The jobs of which the index and the queues say something else."""
        markers = [marker for queue in spool.queues(self._home) for marker in spool.waiting(self._home, queue)]
        stand = {(marker.job, rows.place(marker)) for marker in markers}
        with self._database.reading() as connection:
            had = set(connection.execute("SELECT name, place FROM job WHERE state = ?", (_WAITING,)).fetchall())
        return {name for name, _ in stand ^ had}

    def _find_names(self) -> None:
        """Which jobs came and went, if the directory says that any did."""
        began = time.monotonic()
        if began < self._names_due or not self._names.ask(_modified(self._home), began):
            return
        try:
            there = set(os.listdir(self._home.jobs))  # noqa: PTH208  # `iterdir` makes a path of each
        except (FileNotFoundError, NotADirectoryError):
            there = set()
        with self._database.reading() as connection:
            known = {name for (name,) in connection.execute("SELECT name FROM job")}
        self._gone = list(known - there)
        new = there - known
        self._unread = [each for each in self._unread if each[1] in new]
        new.difference_update(name for _, name in self._unread)
        self._undated = [name for name in new if validation.is_name(name)]
        self._names_due = time.monotonic() + (time.monotonic() - began) * _SHARE

    def _date(self, deadline: float) -> None:
        """Find out which of the unread jobs are the newest."""
        if not self._undated:
            return
        while self._undated and time.monotonic() < deadline:
            chunk, self._undated = self._undated[-_CHUNK:], self._undated[:-_CHUNK]
            for name in chunk:
                with contextlib.suppress(OSError):
                    self._unread.append((os.stat(f"{self._home.jobs}/{name}").st_mtime_ns, name))  # noqa: PTH116
        if not self._undated:
            self._unread.sort()

    def _read(self, deadline: float) -> None:
        """Read jobs that the index does not have, the newest first."""
        while self._unread and not self._undated and time.monotonic() < deadline:
            batch = [name for _, name in self._unread[-BATCH:]]
            reading.look(self._home, self._database, batch)
            del self._unread[-BATCH:]

    def _sweep(self, deadline: float, *, all_of_it: bool = False) -> None:
        """Look at all jobs in turn, as far as the time goes; several processes share one sweep."""
        with self._database.reading() as connection:
            cursor, swept = files.get(connection, "cursor"), files.get(connection, "swept")
        if all_of_it:
            cursor = 0
        elif not isinstance(cursor, int):
            if isinstance(swept, float) and 0 <= time.time() - swept < SWEEP_INTERVAL:
                return
            cursor = 0
        while isinstance(cursor, int) and time.monotonic() < deadline:
            cursor, names = reading.changed_after(self._home, self._database, cursor, _CHUNK)
            self._look(names, _NEVER)
        with self._database.writing() as connection:
            files.put(connection, "cursor", cursor)
            if cursor is None:
                files.put(connection, "swept", time.time())

    def _look(self, names: list[str], deadline: float) -> list[str]:
        """Look at these jobs, and read those that have changed; those that there was no time for are returned."""
        for start in range(0, len(names), BATCH):
            if time.monotonic() >= deadline:
                return names[start:]
            reading.look(self._home, self._database, names[start : start + BATCH])
        return []


class _Settling:
    """Whether a directory is worth listing: its time is another, or was a moment ago and may hide one more change."""

    def __init__(self, settled: int | None) -> None:
        """As it was listed by another, if it was."""
        self.settled = settled
        """Its time at a listing that found all that came with that time; None if it is not known."""
        self._seen = settled
        self._since = 0.0

    def ask(self, modified: int | None, now: float) -> bool:
        if modified is None or modified != self._seen:
            self._seen, self._since, self.settled = modified, now, None
            return True
        if self.settled is not None or now - self._since < SETTLING:
            return False
        self.settled = modified
        return True


def _modified(home: Home) -> int | None:
    try:
        return os.stat(home.jobs).st_mtime_ns  # noqa: PTH116
    except OSError:
        return None
