"""Removes old jobs beside the loop, as the table `[retention]` says; nothing waits for it."""

from __future__ import annotations

import logging
import threading

from air_executor import pruning
from air_executor.errors import AirExecutorError
from air_executor.paths import Home
from air_executor.settings import RetentionSettings

log = logging.getLogger(__name__)

FIRST_PASS = 180.0
"""Seconds after the start: by then the runner has taken over what a runner before it left."""


class Pruner:
    """A thread that removes jobs now and then; of several runners of a home one does it at a time."""

    def __init__(self, home: Home, settings: RetentionSettings) -> None:
        self._home, self._policy, self._interval = home, settings.policy, settings.interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pruner", daemon=True)

    def start(self) -> None:
        """Begin, unless there is nothing that would ever be removed."""
        if self._interval > 0 and not self._policy.limits_nothing:
            self._thread.start()

    def stop(self) -> None:
        """Remove nothing more."""
        self._ended.set()

    def _run(self) -> None:
        pause = min(FIRST_PASS, self._interval)
        while not self._ended.wait(pause):
            try:
                self._prune()
            except (OSError, AirExecutorError):
                log.exception("old jobs could not be removed; trying again in %.0f s", self._interval)
            pause = self._interval

    def _prune(self) -> None:
        removed = 0
        for _ in pruning.prune_if_due(self._home, self._policy, self._interval):
            removed += 1
            if self._ended.is_set():
                break
        if removed:
            log.info("removed %d old jobs, as [retention] says", removed)
