"""How often to look: as often as is wanted, and less often where a look takes long."""

from __future__ import annotations

from dataclasses import dataclass

_REST = 20.0
"""After a look, so many times as long as it took."""
_LONGEST = 60.0


@dataclass
class Pace:
    """When something is to be looked at again; moments are seconds of a monotonic clock."""

    period: float
    due: float = 0.0

    def looked(self, began: float, ended: float) -> None:
        """A look took so long."""
        self.due = max(began + self.period, ended + min(_LONGEST, _REST * (ended - began)))

    def hurry(self) -> None:
        """Look at once: something was done, or something else is wanted."""
        self.due = 0.0
