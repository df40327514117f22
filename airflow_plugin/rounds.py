"""What there is for the scheduler to find, from one of its rounds to the next. No I/O.

How long `sync` may wait is decided by it, in `idling.Rules`.
"""

from __future__ import annotations

from airflow_plugin.idling import Situation


class Rounds:
    """What happened since the scheduler last came round."""

    def __init__(self) -> None:
        self.news = False
        """Whether something happened, since the scheduler last looked, after which something else may start."""
        self.woken = False
        """Whether somebody has made work, in which one round of the scheduler finds more."""
        self.sent = False
        """Whether something was handed over in this heartbeat."""
        self.waited = False
        """Whether the scheduler need not sleep: because this heartbeat waited, or because there may be more to do."""
        self._follows = self._came_back = False
        """Whether more followed the last time that the scheduler came back with no other news; whether it will come
        back so."""

    @property
    def calls(self) -> bool:
        """Whether there is something that the scheduler shall find at once."""
        return self.woken or self.news

    def begin_to_wait(self, *, to_send: int, running: int, free_slots: int) -> Situation:
        """How things are after everything known is done; begins a new heartbeat."""
        sent, self.sent = self.sent, False
        woken, self.woken = self.woken, False
        if self._came_back:
            self._follows = sent
        return Situation(
            news=self.news,
            to_send=to_send,
            sent=sent,
            follows=self._follows,
            woken=woken,
            running=running,
            free_slots=free_slots,
        )

    def end_to_wait(self, then: Situation, *, waited: bool) -> None:
        """The scheduler comes round again.

        Args:
            then: how things were when the wait began.
            waited: whether it was long enough to stand for the scheduler's own sleep.
        """
        self._came_back = then.sent and not self.calls
        self.waited = waited or self.news
