"""Waiting for the ends of many jobs, and for ends of jobs that are not known yet, with one thread and one watch.

How a wait goes, and why no end is missed::

    waiter                                      holder of the job (HeldJob.finish, or a recovery)
    1  creates spool/awaited/<job>              a  writes the end into state.json, durable
    2  reads the state: over? told              b  removes spool/awaited/<job>
    3  sees the file go: back to 1              c  gives up its claim

If 2 finds the job not over, then a comes after 2, and so b after 1: it finds the file, and the removal is seen. Whoever
dies between a and b leaves its claim, and the recovery that follows repeats b. A removal says "look", nothing more: the
state alone tells an end. So whatever else removes the file (another waiter that found the job over, an earlier attempt,
a spool that was deleted) costs one look more, after which the file is there again. Nobody removes it who only gives up:
others may be waiting.

The watch may miss a removal (a full queue of the kernel, another host); so now and then the directory is listed once,
and jobs whose file is gone are looked at. And in turn some jobs are looked at although their file is there, should a
holder have died whom nobody came to recover, or a job have been removed by hand.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from air_executor import ends, hearing, model, store, validation
from air_executor.errors import NotFoundError
from air_executor.paths import Home

log = logging.getLogger(__name__)

TROUBLE_PAUSE = 1.0
"""Seconds after an error that nobody expected."""
Told = Callable[[str], None]
"""Called with the name of a job."""


class _Wait(NamedTuple):
    told: Told
    attempt: int | None


def is_over(job: model.Job | None, attempt: int | None = None) -> bool:
    """Whether a wait for the end of a job has come to its end. Pure.

    Args:
        job: as it was read; None if there is no such job.
        attempt: which attempt's end; None: of the one that is found.
    """
    if job is None or attempt is None:
        return job is None or job.state.terminal
    damaged = job.exit is not None and job.exit.kind is model.ExitKind.DAMAGED
    if damaged and job.state.terminal:  # which attempt that was is lost
        return True
    return job.attempt > attempt or (job.attempt == attempt and job.state.terminal)


class JobWatch:
    """Tells of the ends of jobs of one home. Thread-safe; has a thread as long as somebody waits.

    Callbacks come from that thread and hold it up: they should be quick, and hand over what takes its time
    (`loop.call_soon_threadsafe`). What they raise is logged.

    Args:
        poll_interval: seconds between listings; None: as watching works.
    """

    def __init__(self, home: Home, *, poll_interval: float | None = None) -> None:
        self.home = home
        self._poll_interval = poll_interval
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None
        self._waits: dict[str, list[_Wait]] = {}
        self._unseen: dict[str, None] = {}
        """Names that were added and not looked at yet; a dictionary keeps their order."""
        self._listening: dict[Path, list[Callable[[], None]]] = {}

    @classmethod
    def shared(cls, home: Home, poll_interval: float | None = None) -> JobWatch:
        """The one of this process for a home. A forked process has another: its parent's threads are not in it.

        Args:
            poll_interval: as for the class; whoever chose another has another watch.
        """
        key = os.getpid(), str(home.root), poll_interval
        with _shared_lock:
            if key not in _shared:
                _shared[key] = cls(home, poll_interval=poll_interval)
            return _shared[key]

    # --- What others ask for; costs no look at a file ---

    def add(self, name: str, told: Told, attempt: int | None = None) -> None:
        """Have `told(name)` called once when the job is over or gone; soon, if it is already.

        Args:
            attempt: whose end; None: any. The end of an attempt before it does not count; one that comes after it says
                that it is over.

        Raises:
            InvalidNameError: that is not a job name.
        """
        validation.check_name("the job to wait for", name)
        with self._lock:
            self._waits.setdefault(name, []).append(_Wait(told, attempt))
            self._unseen[name] = None
            self._go_on()

    def discard(self, name: str, told: Told) -> None:
        """Wait no more; nothing happens if that was not waited for, or told already."""
        with self._lock:
            waits = self._waits.get(name, [])
            found = next((wait for wait in waits if wait.told == told), None)
            if found is not None:
                waits.remove(found)
            if not waits:
                self._waits.pop(name, None)
                self._bell.set()

    def listen(self, directory: Path, told: Callable[[], None]) -> None:
        """Have `told()` called whenever there is something in the directory of a listener: soon, if there is already,
        and now and then as long as there is."""
        with self._lock:
            self._listening.setdefault(directory, []).append(told)
            self._go_on()

    def unlisten(self, directory: Path, told: Callable[[], None]) -> None:
        """Undo one `listen`; nothing happens if there was none."""
        with self._lock:
            calls = self._listening.get(directory, [])
            with contextlib.suppress(ValueError):
                calls.remove(told)
            if not calls:
                self._listening.pop(directory, None)
            self._bell.set()

    @property
    def is_running(self) -> bool:
        """Whether it has a thread."""
        return self._thread is not None

    def _go_on(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=f"ends of {self.home.root}"[:60], daemon=True)
            thread.start()  # the system may refuse: then there is none
            self._thread = thread
        self._bell.set()

    # --- The thread ---

    def _run(self) -> None:
        rounds = hearing.Rounds(self.home, self._bell.set)
        try:
            while self._is_wanted():
                try:
                    self._bell.wait(rounds.pause())
                    self._bell.clear()
                    self._round(rounds)
                except Exception:
                    log.exception("trouble with waiting for jobs of %s; going on", self.home.root)
                    time.sleep(TROUBLE_PAUSE)
        finally:
            rounds.close()

    def _is_wanted(self) -> bool:
        with self._lock:  # whoever adds something from now on starts another thread
            if not self._waits and not self._listening:
                self._thread = None
                return False
            return True

    def _round(self, rounds: hearing.Rounds) -> None:
        with self._lock:
            waits, listening = list(self._waits), set(self._listening)
        heard = rounds.hear(waits, listening, self._poll_interval)
        with self._lock:  # not before: should that have failed, they would be forgotten
            unseen, self._unseen = self._unseen, {}
        for name in dict.fromkeys(itertools.chain(unseen, heard.jobs)):
            self._look(name, rounds)
        for directory in heard.listeners:
            self._tell_listener(directory)

    def _look(self, name: str, rounds: hearing.Rounds) -> None:
        if name not in self._waits:  # another waiter's, or given up
            return
        try:
            job = _read(self.home, name)
            if job is not None and not job.state.terminal:
                rounds.ask(name)
                job = _read(self.home, name)
        except OSError as error:  # nothing is known of the job
            rounds.look_again(name, error)
            return
        self._tell(name, job)
        if job is None or job.state.terminal:
            with contextlib.suppress(OSError):  # what is left is of no matter but for a file more in a listing
                ends.stop_awaiting(self.home, name)

    def _tell(self, name: str, job: model.Job | None) -> None:
        with self._lock:
            waits = self._waits.pop(name, [])
            left = [wait for wait in waits if not is_over(job, wait.attempt)]
            if left:
                self._waits[name] = left
        for wait in waits:
            if wait not in left:
                _call(wait.told, name)

    def _tell_listener(self, directory: Path) -> None:
        with self._lock:
            calls = list(self._listening.get(directory, ()))
        for told in calls:
            _call(told)


_shared: dict[tuple[int, str, float | None], JobWatch] = {}
_shared_lock = threading.Lock()


def _forget_shared() -> None:
    """In a forked process: somebody may have held the lock just then."""
    global _shared_lock
    _shared_lock = threading.Lock()
    _shared.clear()


os.register_at_fork(after_in_child=_forget_shared)


def _call(told: Callable[..., None], *args: str) -> None:
    try:
        told(*args)
    except Exception:
        log.exception("trouble in what was called at the end of a job; going on")


def _read(home: Home, name: str) -> model.Job | None:
    try:
        return store.read_or_damaged(home, name)
    except NotFoundError:
        return None
