"""How many jobs start at a time. Where no processor is idle, a job that starts only slows those that started before it.

Many that start at once take turns on the processors, and each turn begins with caches full of another's: they all end
later, and need more processor time for it. So a job starts at once if few others are starting or a processor is idle;
otherwise when one of those is over, or has run for so long that it is no start any more.
"""

from __future__ import annotations

from collections.abc import Container

from air_executor import load

START_SECONDS = 1.0
"""How long a job that began counts as starting: one more each time it is over, however busy the host is."""

LOOK_SECONDS, LOOK_SECONDS_BUSY = 0.005, 0.02
"""Between looks at whether a processor is idle, after one that was and after none. What was just launched is seen by
the next."""


class Pacer:
    """Knows which jobs are starting."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most or load.starts_at_a_time()
        self._begun: dict[str, float] = {}
        self._look_at = 0.0
        self._idle = 0

    def begin(self, name: str, moment: float) -> None:
        """A job is launched."""
        self._begun[name] = moment
        self._idle -= 1

    def seconds_to_wait(self, running: Container[str], moment: float) -> float:
        """How long the next job had better wait until this is asked again; 0: it may start now."""
        if len(self._begun) >= self._most:
            self._begun = {
                name: began for name, began in self._begun.items() if began > moment - START_SECONDS and name in running
            }
        if len(self._begun) < self._most:
            return 0.0
        if moment >= self._look_at:
            idle = load.idle_processors()
            self._idle = self._most if idle is None else idle
            self._look_at = moment + (LOOK_SECONDS if self._idle else LOOK_SECONDS_BUSY)
        return 0.0 if self._idle > 0 else self._look_at - moment
