"""What the thread of an `awaiting.JobWatch` hears of: removed files in `spool/awaited`, new ones in `spool/listeners`.

Told by the system where it can tell, and found by a listing now and then; either way it only says where to look.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from air_executor import _files, ends
from air_executor.paths import Home
from air_executor.watch import Watch

log = logging.getLogger(__name__)

POLL_INTERVAL = 10.0
"""Seconds between listings where watching works: an event may have been lost, or a job may end on another host."""
POLL_INTERVAL_BLIND = 1.0
"""The same where it does not."""
LOOKS_A_SECOND = 3
"""How many jobs are looked at, in turn, that nothing was heard of."""
SHOWN_INTERVAL = 3600.0
"""Seconds after which a listener shows again that it is there."""


class Heard(NamedTuple):
    """What may have happened since the round before."""

    jobs: Iterable[str]
    """The jobs to look at, of those that are waited for."""
    listeners: Iterable[Path]
    """The directories of listeners in which something is."""


class Rounds:
    """What the thread of an `awaiting.JobWatch` has: its ears, and when it is to look without having heard anything."""

    def __init__(self, home: Home, wake: Callable[[], None]) -> None:
        self._home = home
        self._wake = wake
        self._ears: list[Watch] = []
        self._watched: object = None
        """The identities of what is watched; None if nothing is."""
        self._known: set[Path] = set()
        self._poll_at = 0.0
        self._again: set[str] = set()
        self._turn: list[str] = []
        self._noted: float | None = None

    def pause(self) -> float:
        """Seconds until it has to look."""
        return max(0.0, self._poll_at - time.monotonic())

    def close(self) -> None:
        """Watch no more."""
        for ear in self._ears:
            ear.stop()
        self._ears, self._watched = [], None

    def hear(self, waits: list[str], listening: set[Path], interval: float | None) -> Heard:
        """What to look at now.

        Raises:
            OSError: the home refused.
        """
        due = time.monotonic() >= self._poll_at or listening != self._known
        if not due:
            return self._take(listening)
        if interval is None:
            interval = POLL_INTERVAL if self._works else POLL_INTERVAL_BLIND
        self._poll_at = time.monotonic() + interval  # before anything may go wrong
        self._known = listening
        renewed = self._watch(listening)
        heard = self._take(listening)
        found = {directory for directory in listening if ends.pending(directory)}
        if renewed:  # before there was a watch, anything may have happened
            return Heard(waits, found)
        self._again, again = set(), self._again
        there = ends.awaited(self._home)
        missed = [name for name in waits if name not in there]
        return Heard([*heard.jobs, *again, *missed, *self._in_turn(waits, interval)], {*heard.listeners, *found})

    @property
    def _works(self) -> bool:
        return bool(self._ears) and all(ear.works for ear in self._ears)

    def _take(self, listening: set[Path]) -> Heard:
        paths = [path for ear in self._ears for path in ear.take()]
        jobs = [path.name for path in paths if path.parent == self._home.awaited]
        return Heard(jobs, {path.parent for path in paths} & listening)

    def _watch(self, listening: set[Path]) -> bool:
        """Watch what is to be watched now; whether that is another than before, as when the spool was deleted.

        All listeners are below one directory, which is watched as a whole: anew for each, because a watch that begins
        knows all directories that are there, and one that is told of new ones knows them a moment later.
        """
        for directory in (self._home.awaited, *listening):
            self._make(directory)
        wanted = tuple((path, _files.identity(path)) for path in (self._home.awaited, *sorted(listening)))
        if wanted == self._watched:
            return False
        self.close()
        if _files.identity(self._home.awaited) is not None:
            self._ears = [Watch([self._home.awaited], self._wake, removed=True)]
            if listening:
                self._ears.append(Watch([self._home.listeners], self._wake, recursive=True))
        for ear in self._ears:
            ear.start()
        self._watched = wanted
        return True

    def _make(self, directory: Path) -> None:
        """In a home; nothing is made where there is none. What is there is shown to be in use."""
        try:
            if time.time() - directory.stat().st_mtime > SHOWN_INTERVAL:
                os.utime(directory)
        except FileNotFoundError:
            if self._home.jobs.is_dir():
                _files.make_directory(directory)

    def ask(self, name: str) -> None:
        """Step 1: have the end of a job remove a file."""
        try:
            ends.begin_to_await(self._home, name)
        except FileNotFoundError:  # somebody deleted the spool; all jobs have to be looked at
            self._poll_at = 0.0
            self._again.add(name)
        except OSError as error:  # a full disk; the next listing misses the file, and so the job is looked at again
            self._note(error)

    def look_again(self, name: str, error: OSError) -> None:
        """Look at a job with the next listing: it could not be read."""
        self._again.add(name)
        self._note(error)

    def _note(self, error: OSError) -> None:
        """At most once a minute."""
        moment = time.monotonic()
        if self._noted is None or moment - self._noted > 60:
            self._noted = moment
            log.warning("cannot wait for jobs as usual, looking at them now and then: %s", error)

    def _in_turn(self, waits: list[str], interval: float) -> list[str]:
        if not self._turn:
            self._turn = list(waits)
        count = max(1, int(LOOKS_A_SECOND * interval))
        self._turn, taken = self._turn[count:], self._turn[:count]
        return taken
