"""When a request is made again that was not answered, or was asked to come later. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from air_executor import backoff

LATER = frozenset({429, 502, 503, 504})
"""Answers that say: not now."""
REFUSED_UNDONE = frozenset({429})
"""Of them, those that say that nothing was done, whatever was asked for."""


@dataclass(frozen=True)
class Patience:
    """How often and for how long a request is made again."""

    tries: int = 6
    seconds: float = 60.0
    """From the first try that came to nothing to the last, at most."""
    first: float = 0.3
    last: float = 10.0

    def pause(
        self, tried: int, asked: float | None, spent: float, chance: Callable[[], float] = random.random
    ) -> float:
        """Seconds until the next try; a negative number: there is none.

        Args:
            tried: how often it was tried, at least once.
            asked: what `Retry-After` said, which is waited for in any case; clients that come later than that by
                different times do not come all at once.
            spent: seconds that were spent so far.
        """
        if tried >= self.tries:
            return -1.0
        own = backoff.pause(tried, self.first, self.last)
        pause = own * (0.5 + chance() / 2) if asked is None else asked + chance() * min(own, 1.0)
        return pause if spent + pause <= self.seconds else -1.0


PERSISTENT = Patience(tries=60)
"""For programs that nobody watches: a server that is started anew is soon there again."""
AWAY = Patience(tries=1000, seconds=600.0)
"""For who waits for something that goes on meanwhile."""
ONCE = Patience(tries=1)
"""For who asks again and again anyway."""
AT_ONCE = Patience(tries=3, seconds=12.0)
"""For who is about to end, such as a task that was killed: for as long as a busy server asks for, twice."""


def retry_after(text: str | None) -> float | None:
    """What a header `Retry-After` says in seconds; dates, which our server does not give, are passed over."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


def jittered(interval: float, jitter: float, chance: Callable[[], float] = random.random) -> float:
    """An interval that is longer or shorter by up to this part of it, so that many clients do not keep step."""
    return interval * (1 + jitter * (2 * chance() - 1))
