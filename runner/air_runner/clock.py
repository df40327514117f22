"""When each thing is due that the daemon does by the clock. Monotonic seconds: a clock that is set changes nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

LOOK_PAUSE = 0.1
"""Seconds that a look is put off which something new in the spool makes necessary: more may follow."""
START_PAUSE = 2.0
"""Seconds without a start when the system or the home refuses one: the next would meet the same."""


@dataclass
class Clock:
    """When each thing is due next; what it never heard of is due now."""

    due: dict[str, float] = field(default_factory=dict)

    def is_due(self, what: str, moment: float) -> bool:
        """Whether `what` is due by now."""
        return moment >= self.due.get(what, 0.0)

    def every(self, what: str, seconds: float, moment: float) -> bool:
        """Whether `what` is due now; if so, it is due again after so many seconds."""
        if not self.is_due(what, moment):
            return False
        self.due[what] = moment + seconds
        return True

    def at_latest(self, what: str, moment: float) -> None:
        """Make it due then, unless it is due before."""
        self.due[what] = min(self.due.get(what, 0.0), moment)

    def not_before(self, what: str, moment: float) -> None:
        """Make it due then."""
        self.due[what] = moment

    def soon(self, what: str) -> None:
        """Make it due now."""
        self.due[what] = 0.0

    def look_soon(self) -> None:
        """There is something new in the spool."""
        self.at_latest("look", time.monotonic() + LOOK_PAUSE)

    def start_later(self) -> None:
        """Nothing can be started now."""
        self.not_before("start", time.monotonic() + START_PAUSE)

    def seconds_left(self, names: list[str], moment: float) -> float:
        """Until the first of these is due."""
        return max(0.0, min(self.due.get(name, 0.0) for name in names) - moment)
