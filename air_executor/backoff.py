"""How long to wait after failures in a row: twice as long each time, up to a limit."""

from __future__ import annotations

_DOUBLINGS = 64
"""More than any limit needs; a number to the power of thousands is too large for Python to multiply."""


def pause(failures: int, first: float, most: float) -> float:
    """Seconds before the next try. Pure.

    Args:
        failures: how many there were in a row; fewer than one count as one.
        first: the seconds after the first of them.
        most: the seconds after many.
    """
    return min(most, first * 2.0 ** min(max(failures, 1) - 1, _DOUBLINGS))
