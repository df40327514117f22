"""Who lives, as one process has seen it: by the kernel on this host, elsewhere by what changes while it looks.

Clocks of hosts differ and may be set. So heartbeats are not compared with the clock: what counts is when, by the
monotonic clock of the process that looks, a heartbeat was last seen to change.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from air_executor import model, processes, temporaries

if TYPE_CHECKING:
    from air_executor.paths import Home
    from air_executor.runners import RunnerInfo

HEARTBEATS_MISSED = 5
"""A runner of another host is dead after so many heartbeats that did not come: 15 s by default."""

SETTLE_TIME = 15.0
"""Seconds after which claims without a runner are not those of somebody who is just working on them."""


class Sightings:
    """What a process has seen; the longer it is kept the better.

    Args:
        guess: judge a runner of another host, of which only one heartbeat was seen, by what its clock says. Else it
            counts as alive: nobody's jobs are taken away for a clock.
    """

    def __init__(self, *, guess: bool = False) -> None:
        self._guess = guess
        self._beats: dict[str, tuple[str, float]] = {}
        self._changed: set[str] = set()
        self._holders: dict[str, tuple[float, float]] = {}
        self._deaths: dict[str, float] = {}

    def is_alive(self, info: RunnerInfo, now: float | None = None) -> bool:
        """Whether a runner lives; `now` in monotonic seconds."""
        moment = time.monotonic() if now is None else now
        beat, since = self._beats.get(info.id, (None, moment))
        if beat != info.heartbeat_at:
            if beat is not None:
                self._changed.add(info.id)
            self._beats[info.id] = (info.heartbeat_at, since := moment)
        alive = processes.is_alive(info.process)
        if alive is None and self._guess and info.id not in self._changed:
            alive = None if is_fresh(info) else False
        return moment - since < HEARTBEATS_MISSED * info.heartbeat if alive is None else alive

    def dead_for(self, runner_id: str, now: float | None = None) -> float:
        """Seconds since this was first asked of a runner, which is dead."""
        moment = time.monotonic() if now is None else now
        return moment - self._deaths.setdefault(runner_id, moment)

    def last_beat(self, runner_id: str) -> str | None:
        """What the last heartbeat said that was seen of a runner, whose file may be gone by now."""
        return self._beats[runner_id][0] if runner_id in self._beats else None

    def is_old_holder(self, home: Home, holder: str, now: float | None = None) -> bool:
        """Whether a directory of claims is that of a client that is gone, or was seen to be left alone for a while."""
        lives = temporaries.writer_lives(holder)
        if lives is not None:
            return not lives
        try:
            changed = home.claims(holder).stat().st_mtime
        except FileNotFoundError:
            return False
        moment = time.monotonic() if now is None else now
        seen, since = self._holders.get(holder, (None, moment))
        if seen != changed:
            self._holders[holder] = (changed, since := moment)
        return moment - since > SETTLE_TIME


def heartbeat_age(info: RunnerInfo) -> float:
    """Seconds since the last heartbeat, by the clocks of both hosts."""
    return time.time() - model.parse_time(info.heartbeat_at).timestamp()


def is_fresh(info: RunnerInfo) -> bool:
    """Whether the last heartbeat was a moment ago, if the clocks agree; one from the future says that they do not."""
    return abs(heartbeat_age(info)) < HEARTBEATS_MISSED * info.heartbeat
