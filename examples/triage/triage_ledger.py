"""What became of each issue of a run, and thereby when the run is over.

A network does not say that it has nothing left to do, and an actor that fails takes its message with it in silence. So
each issue is counted in `extract`, and again where it ends; when the source has no more and both counts are the
same, the day is done. Nothing is guessed from a pause.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator

from triage_errors import StageError, TriageError

QUIET = 0.05
"""Seconds without a tick after which a network that was ended has emptied its channels."""


class Ledger:
    """Shared by the stages of one network; safe for their threads."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.issues = 0
        self.peak = 0
        """The most issues that were in the network at once."""
        self.error: TriageError | None = None
        self._pages = 0
        self._complete = False
        self._ticks = 0
        self._last_tick = 0.0
        self._changed = threading.Condition()

    # For the stages

    @contextlib.contextmanager
    def tick(self, stage: str) -> Iterator[None]:
        """Around each tick of a stage: what it raises ends the run."""
        with self._changed:
            self._ticks += 1
        try:
            yield
        except Exception as error:
            self.fail(stage, error)
        finally:
            with self._changed:
                self._ticks -= 1
                self._last_tick = time.monotonic()
                self._changed.notify_all()

    def begin_page(self) -> None:
        """A page has come from the source; `extract` will say what is on it."""
        with self._changed:
            self._pages += 1

    def end_page(self, issues: int, last: bool) -> None:
        """So many issues were on it, and whether no other page follows."""
        with self._changed:
            self._pages -= 1
            self.issues += issues
            self.peak = max(self.peak, self.in_flight)
            self._complete = last
            self._changed.notify_all()

    def leave(self, outcome: str) -> None:
        """One issue has come to its end."""
        with self._changed:
            self.outcomes[outcome] += 1
            self._changed.notify_all()

    def fail(self, stage: str, error: Exception) -> None:
        """The first failure is the one that is told."""
        known = error if isinstance(error, TriageError) else StageError(f"{stage}: {type(error).__name__}: {error}")
        with self._changed:
            self.error = self.error or known
            self._changed.notify_all()

    def wait_for_room(self, window: int, seconds: float) -> bool:
        """Whether fewer than `window` issues are on their way, soon or now."""
        with self._changed:
            return self._changed.wait_for(lambda: self.in_flight < window, seconds)

    # For whoever runs the network

    @property
    def in_flight(self) -> int:
        return self.issues - self.outcomes.total()

    @property
    def done(self) -> bool:
        return self._complete and self._idle

    @property
    def _idle(self) -> bool:
        return self._pages == 0 and self.in_flight == 0 and self._ticks == 0

    def wait_idle(self, seconds: float) -> bool:
        """Until whatever has begun is at its end; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle or self.error is not None, seconds)

    def wait(self, seconds: float) -> bool:
        """Until the run is over, well or not; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.done or self.error is not None, seconds)

    def close(self, seconds: float) -> None:
        """No stage begins anything more. Waits until those that were at it have ended."""
        self.closed.set()
        deadline = time.monotonic() + seconds
        with self._changed:
            while time.monotonic() < deadline and not self._is_quiet():
                self._changed.wait(QUIET)

    def _is_quiet(self) -> bool:
        return self._ticks == 0 and time.monotonic() - self._last_tick >= QUIET

    def describe(self) -> str:
        ends = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items())) or "none at its end"
        more = "" if self._complete else "; the source had more"
        return f"{self.issues} issues, {ends}, {self.in_flight} on their way{more}"
