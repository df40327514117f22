"""Repair beside the loop: with 100,000 jobs in the home it takes seconds, and nothing waits for it."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator

from air_executor import repair, respool
from air_executor.errors import AirExecutorError
from air_executor.paths import Home

log = logging.getLogger(__name__)

RECENT_INTERVAL = 30.0
"""Seconds between looks at the jobs that were changed lately: a submitter may have died before it queued its job."""
FULL_INTERVAL = 600.0
"""Seconds between looks at all jobs, for what nobody can have foreseen: somebody deleted single files of the spool."""


def last_look(moment: float, now: float, looked_at: float, looked_at_by_home: float) -> float:
    """When the last look was, by a clock that may have been set since. Pure."""
    return min(looked_at_by_home, now - (moment - looked_at))


class Upkeep:
    """A thread that repairs the home at its start, now and then, and when asked.

    Args:
        by: who repairs, for the journals.
        on_change: called from the thread when something was changed.
    """

    def __init__(self, home: Home, by: str, on_change: Callable[[], None]) -> None:
        self._home, self._by, self._on_change = home, by, on_change
        self._wake = threading.Event()
        self._ended = False
        self._full_due = 0.0
        self._looked_at = (-math.inf, -math.inf)
        """When the last look began, by the monotonic clock and by that of the home."""
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin; the first look is at all jobs."""
        self._thread.start()

    def repair_soon(self) -> None:
        """Look at all jobs now."""
        self._full_due = 0.0
        self._wake.set()

    def stop(self) -> None:
        """Look no more; a look that is under way ends with the process."""
        self._ended = True
        self._wake.set()

    def _run(self) -> None:
        while not self._ended:
            self._wake.clear()
            try:
                self._repair()
            except (OSError, AirExecutorError):
                log.exception("repair did not come to its end; trying again in %.0f s", RECENT_INTERVAL)
            self._wake.wait(RECENT_INTERVAL)

    def _repair(self) -> None:
        for change in self._look():
            if change.failed:
                log.warning("%s: %s", change.job, change.what)
            else:
                log.info("repaired %s: %s", change.job, change.what)
                self._on_change()
            if self._ended:
                return

    def _look(self) -> Iterator[respool.Change]:
        moment, now = time.monotonic(), repair.home_time(self._home)
        since = last_look(moment, now, *self._looked_at)
        self._looked_at = (moment, now)
        if moment >= self._full_due:
            yield from repair.repair(self._home, by=self._by)
            self._full_due = moment + FULL_INTERVAL
        else:
            yield from repair.repair_recent(self._home, since, by=self._by)
