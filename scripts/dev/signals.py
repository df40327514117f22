"""Requests to end: SIGTERM, SIGINT, SIGHUP. The first ends in good order, the second at once."""

from __future__ import annotations

import signal
import types

from dev.errors import StopRequested

_NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """Remembers requests until somebody looks; nothing is interrupted in the middle."""

    def __init__(self) -> None:
        self._requests: list[int] = []
        for number in _NUMBERS:
            # Ignored is on purpose: nohup, or a job in the background of a script.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        self.request(number)

    def request(self, number: int) -> None:
        """As if the signal had come."""
        self._requests.append(number)

    def check(self) -> None:
        """Raises: StopRequested: somebody has asked."""
        if self._requests:
            raise StopRequested(self._requests[0])

    @property
    def hurry(self) -> bool:
        """Whether somebody has asked twice."""
        return len(self._requests) > 1
