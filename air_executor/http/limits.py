"""How often somebody may ask, and how much at once. Pure but for the clock that is given.

How often is counted with token buckets, which refill with time.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

KNOWN = 10_000
"""So many who ask are told apart; of more, those are forgotten that asked longest ago."""


@dataclass
class Bucket:
    """What is left to somebody."""

    left: float
    at: float
    """When that was."""


def take(bucket: Bucket, now: float, rate: float, burst: int) -> float:
    """Take one from a bucket that holds up to `burst` and gets `rate` a second.

    Returns:
        0.0 if there was one, else the seconds until there is.
    """
    bucket.left = min(float(burst), bucket.left + max(0.0, now - bucket.at) * rate)
    bucket.at = now
    if bucket.left >= 1.0:
        bucket.left -= 1.0
        return 0.0
    return (1.0 - bucket.left) / rate


class Shares:
    """How many requests of each are under way: one alone may have three quarters of what there is for all.

    All of it belongs to one event loop.
    """

    def __init__(self, total: int) -> None:
        self.most = max(1, total * 3 // 4)
        self.under_way: Counter[str] = Counter()

    def enter(self, who: str) -> bool:
        """Count one more of somebody; False if that is one too many."""
        if self.under_way[who] >= self.most:
            return False
        self.under_way[who] += 1
        return True

    def leave(self, who: str) -> None:
        """One that was let in has ended."""
        self.under_way[who] -= 1
        if not self.under_way[who]:
            del self.under_way[who]


class Limiter:
    """The buckets of all who ask. Thread-safe.

    Args:
        rate: how many a second; 0: any number.
        burst: how many at once.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, who: str) -> float:
        """Count one request of somebody; the seconds to wait before another, 0.0 if this one is allowed."""
        if not self._rate:
            return 0.0
        with self._lock:
            now = self._clock()
            bucket = self._buckets.pop(who, None) or Bucket(float(self._burst), now)
            self._buckets[who] = bucket
            if len(self._buckets) > KNOWN:
                self._buckets.popitem(last=False)
            return take(bucket, now, self._rate, self._burst)
