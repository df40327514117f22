"""What a runner notes of itself for those who ask who steered it: written beside its loop, which waits for nobody."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from air_executor import audit
from air_executor.paths import Home

log = logging.getLogger(__name__)

LAST_WORDS = 5.0
"""Seconds to wait at the end for what is not written yet."""


class Notes:
    """Writes the events of a runner to `logs/steering.jsonl`, in their order."""

    def __init__(self, home: Home, runner_id: str) -> None:
        self._home, self._id = home, runner_id
        self._waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, what: str, facts: Mapping[str, object] = MappingProxyType({}), *, by: str, why: str = "") -> None:
        """Note something; returns at once."""
        self._waiting.put({"what": what, "by": by, "why": why, **facts})
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="notes", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write what is left."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(LAST_WORDS)
            self._thread = None

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                audit.record_runner(self._home, self._id, **event)
            except OSError as error:  # a full disk: the runner does what it was asked for all the same
                log.error("cannot note %r in %s: %s", event["what"], self._home.steering_log, error.strerror)
            except Exception:
                log.exception("cannot note %r", event["what"])
