"""What keeps trouble out of the scheduler's loop: an exception there ends the scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

REPEAT = 60.0
"""Seconds between two log lines of the same trouble."""
MAX_TROUBLES = 1000


class Safely(Protocol):
    """How something is done for which nobody may be sorry."""

    def __call__(self, what: str, action: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """As `Guarded._safely`."""


class Guarded:
    """Mixed into the executor."""

    log: Any

    def _safely(self, what: str, action: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Whatever goes wrong is logged, and ends here."""
        try:
            action(*args, **kwargs)
        except Exception as error:
            if self._may_say(f"{what} {type(error).__name__}"):
                self.log.exception("Trouble with %s; the scheduler goes on", what)

    def _may_say(self, what: str) -> bool:
        """Whether it was not said within the last minute."""
        said: dict[str, float] = self.__dict__.setdefault("_said", {})
        now = time.monotonic()
        if len(said) > MAX_TROUBLES:
            said.clear()
        if now - said.get(what, -REPEAT) < REPEAT:
            return False
        said[what] = now
        return True
