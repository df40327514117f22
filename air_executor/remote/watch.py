"""Waiting for the ends of many runs behind one API, and for ends that are not known yet, with one thread.

Each round asks how all runs are that somebody waits for, in one request, and each listener's ends in another; so a
thousand waits cost a far server no more than one. Whoever waits is told when it is over; when the run is gone; or when
the API refuses to say, such as for a token that was revoked: that he will find out when he looks. While the API does
not answer, or asks to come later, nothing is known, and rounds become rare.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from air_executor.errors import AirExecutorError, HomeError, UnreachableError
from air_executor.remote import patience
from air_executor.remote.answers import Standing
from air_executor.remote.client import POLL_INTERVAL, RemoteClient
from air_executor.remote.transport import Access

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
"""Seconds until the second look, where no interval was given: short jobs are told soon, long ones cost little."""
GROWTH = 1.5
LONGEST_PAUSE = 60.0
"""Between rounds while the API does not answer."""
LONGEST_ASKED = 600.0
"""Of what the API asks for."""
FEWEST = 4
"""Of how many rounds in which the API did not answer, one is logged."""

Found = Standing | None
Told = Callable[[Found], None]
"""Called with how a run is; None: it is gone, or nobody may say."""
Look = Callable[[], bool]
"""Of a listener: asks for its ends, and whether there are any."""


class _Wait(NamedTuple):
    told: Told
    attempt: int | None


class RunWatch:
    """Tells of the ends of runs. Thread-safe; has a thread as long as somebody waits.

    Callbacks come from that thread and hold it up: they should be quick.

    Args:
        client: asks; its `poll_interval` is the time between rounds. Without one they begin in quick succession after
            somebody has begun to wait, and become as rare as `POLL_INTERVAL`.
    """

    def __init__(self, client: RemoteClient) -> None:
        self._client = client.impatient()
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None
        self._waits: dict[str, list[_Wait]] = {}
        self._listening: dict[int, tuple[Look, Callable[[], None]]] = {}
        self._numbers = itertools.count()
        self._pause = FIRST_PAUSE
        self._silent = 0
        """Rounds in a row without an answer."""
        self._asked = 0.0
        """Seconds for which the API wants to be left alone."""

    @classmethod
    def shared(cls, client: RemoteClient) -> RunWatch:
        """The one of this process for whoever asks the same server in the same way. A forked process has another."""
        key = os.getpid(), client.transport.access, client.poll_interval, client.jitter
        with _shared_lock:
            if key not in _shared:
                _shared[key] = cls(client)
            return _shared[key]

    # --- What others ask for ---

    def add(self, name: str, told: Told, attempt: int | None = None) -> None:
        """Have `told` called once when an attempt of a run is over.

        Args:
            attempt: whose end; then a run that is not there has come and gone. None: any; one that is not there is
                waited for.
        """
        with self._lock:
            self._waits.setdefault(name, []).append(_Wait(told, attempt))
            self._go_on()

    def discard(self, name: str, told: Told) -> None:
        """Wait no more; nothing happens if that was told already."""
        with self._lock:
            left = [wait for wait in self._waits.pop(name, []) if wait.told != told]
            if left:
                self._waits[name] = left

    def listen(self, look: Look, told: Callable[[], None]) -> int:
        """Have `told()` called in each round in which a look finds something; returns what `unlisten` wants."""
        with self._lock:
            number = next(self._numbers)
            self._listening[number] = look, told
            self._go_on()
            return number

    def unlisten(self, number: int) -> None:
        """Undo one `listen`; nothing happens if there was none."""
        with self._lock:
            self._listening.pop(number, None)

    @property
    def waits(self) -> int:
        """For how many runs somebody waits."""
        return len(self._waits)

    @property
    def is_running(self) -> bool:
        """Whether it has a thread."""
        return self._thread is not None

    def _go_on(self) -> None:
        self._pause = FIRST_PAUSE
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=f"ends of {self._client.address}"[:60], daemon=True)
            thread.start()  # the system may refuse: then there is none
            self._thread = thread
        elif self._client.poll_interval is None and not self._silent:
            self._bell.set()

    # --- The thread ---

    def _run(self) -> None:
        while self._is_wanted():
            try:
                self._round()
                self._silent, self._asked = 0, 0.0
            except (UnreachableError, HomeError) as error:
                self._silent += 1
                self._asked = min(getattr(error, "retry_after", None) or 0.0, LONGEST_ASKED)
                if self._silent % FEWEST == 1:
                    log.warning("Nothing is known of the runs that are waited for; asking again: %s", error)
            except Exception:
                self._silent += 1
                log.exception("trouble with waiting for runs of %s; going on", self._client.address)
            if self._bell.wait(self._next_pause()):
                self._bell.clear()
                time.sleep(FIRST_PAUSE)  # those who begin to wait at the same time are looked at together

    def _is_wanted(self) -> bool:
        with self._lock:  # whoever adds something from now on starts another thread
            if not self._waits and not self._listening:
                self._thread = None
                self._forget()
                return False
            return True

    def _forget(self) -> None:
        """Nobody shares it any more: who begins to wait later may have another token."""
        with _shared_lock:
            for key in [key for key, watch in _shared.items() if watch is self]:
                del _shared[key]

    def _next_pause(self) -> float:
        with self._lock:
            interval = self._client.poll_interval
            if interval is None:
                interval, self._pause = self._pause, min(POLL_INTERVAL, self._pause * GROWTH)
        if self._silent:
            interval = max(interval, min(LONGEST_PAUSE, interval * 2 ** min(self._silent, 10)))
        return max(self._asked, patience.jittered(interval, self._client.jitter))

    def _round(self) -> None:
        with self._lock:
            names, listening = list(self._waits), list(self._listening.values())
        try:
            found = self._client.standings(names) if names else {}
        except (UnreachableError, HomeError):
            raise
        except AirExecutorError as error:
            log.warning("Nobody may say how runs are that are waited for: %s", error)
            for name in names:
                self._tell(name, None, refused=True)
        else:
            for name, standing in found.items():
                self._tell(name, standing)
        for look, told in listening:
            self._look(look, told)

    def _tell(self, name: str, standing: Found, refused: bool = False) -> None:
        with self._lock:
            waits = self._waits.pop(name, [])
            left = [] if refused else [wait for wait in waits if not _is_over(standing, wait.attempt)]
            if left:
                self._waits[name] = left
        for wait in waits:
            if wait not in left:
                _call(wait.told, standing)

    def _look(self, look: Look, told: Callable[[], None]) -> None:
        try:
            found = look()
        except (UnreachableError, HomeError):
            raise
        except AirExecutorError as error:
            log.warning("The API does not tell of ends: %s", error)
            found = True  # whoever listens finds out why
        if found:
            _call(told)


def _is_over(standing: Found, attempt: int | None) -> bool:
    return attempt is not None if standing is None else standing.is_over(attempt)


def _call(told: Callable[..., None], *args: object) -> None:
    try:
        told(*args)
    except Exception:
        log.exception("trouble in what was called at the end of a run; going on")


_shared: dict[tuple[int, Access, float | None, float], RunWatch] = {}
_shared_lock = threading.Lock()


def _forget_shared() -> None:
    """In a forked process: somebody may have held the lock just then."""
    global _shared_lock
    _shared_lock = threading.Lock()
    _shared.clear()


os.register_at_fork(after_in_child=_forget_shared)
