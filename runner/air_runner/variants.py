"""Templates below a template: forks of it that have prepared what some of its jobs have in common.

A job may name a variant. The first job of one is launched as every other; with the second a fork of the template begins
to `prepare` it, and those after that are launched by the fork. What a variant does not answer its template launches
itself, so nothing ever fails because of one.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from air_runner.channel import Channel

GONE = -1
"""The pid of one that was reaped."""

MAX_VARIANTS = 8
"""How many are kept; each costs some MiB, and so does its spare."""

IDLE_SECONDS = 60.0
"""After which one that nobody has used ends."""

MAX_AGE = 60.0
"""Seconds after which one is prepared anew: what has changed may be the time, or what nobody sees."""

PREPARE_TIMEOUT = 60.0
"""Seconds that preparing may take."""

REPEATS_WITHIN = IDLE_SECONDS
"""Seconds within which a second job of a variant makes it worth preparing."""

REFUSED_FOR = 300.0
"""Seconds for which one that could not be prepared is not tried again."""

MAX_REMEMBERED = 1000
"""Variants of which something is remembered."""


@dataclass
class Variant:
    """One of them, as its template sees it."""

    name: str
    pid: int
    channel: Channel
    began: float
    ready: bool = False
    asked: dict[str, None] = field(default_factory=dict)
    """Jobs it was asked to launch and has not answered."""


class Variants:
    """All of a template.

    Args:
        start: forks; in the fork it does not return. Called with the name; returns the process and the channel to it.
        tell: passes a message on to the runner.
        launch: launches a job without any variant.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        start: Callable[[str], tuple[int, Channel]],
        tell: Callable[[dict[str, Any]], object],
        launch: Callable[[str], None],
    ) -> None:
        self._selector, self._start, self._tell, self._launch = selector, start, tell, launch
        self._all: OrderedDict[str, Variant] = OrderedDict()
        self._wanted: OrderedDict[str, float] = OrderedDict()
        """When a job of each was last seen; or, for what cannot be prepared, until when that is to be forgotten."""

    def ended(self, pid: int) -> bool:
        """Whether a child that was reaped is one of them; the rest follows from its channel."""
        for variant in self._all.values():
            if variant.pid == pid:
                variant.pid = GONE
                return True
        return False

    def ask(self, name: str, job: str) -> bool:
        """Let the variant launch a job; False if the template has to."""
        variant = self._all.get(name)
        if variant is None:
            self._prepare_if_repeated(name)
            return False
        self._all.move_to_end(name)
        if not variant.ready or not variant.channel.send({"launch": job}):
            return False
        variant.asked[job] = None
        return True

    def _prepare_if_repeated(self, name: str) -> None:
        moment = time.monotonic()
        last = self._wanted.get(name)
        self._remember(name, max(moment, last or 0.0))
        if last is None or not moment - REPEATS_WITHIN < last <= moment:
            return
        while len(self._all) >= MAX_VARIANTS:
            self._let_go(next(iter(self._all.values())))
        pid, channel = self._start(name)
        variant = self._all[name] = Variant(name, pid, channel, moment)
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._listen(variant))

    def _remember(self, name: str, moment: float) -> None:
        self._wanted[name] = moment
        self._wanted.move_to_end(name)
        while len(self._wanted) > MAX_REMEMBERED:
            self._wanted.popitem(last=False)

    def _listen(self, variant: Variant) -> None:
        for message in variant.channel.receive():
            if "ready" in message:
                variant.ready = True
            elif "refused" in message:
                sys.stderr.write(f"template: not prepared: {variant.name}: {message['refused']}\n")
                self._remember(variant.name, time.monotonic() + REFUSED_FOR)
            else:
                variant.asked.pop(message.get("launched", ""), None)
                self._tell(message)
        if variant.channel.closed:
            self._let_go(variant)

    def _let_go(self, variant: Variant) -> None:
        """It ends when it sees that; its children become the runner's."""
        if self._all.get(variant.name) is variant:
            del self._all[variant.name]
            self._selector.unregister(variant.channel)
            variant.channel.close()
            for job in variant.asked:
                self._launch(job)

    def check(self) -> None:
        """Give up those that are not ready in time."""
        for variant in list(self._all.values()):
            if not variant.ready and time.monotonic() > variant.began + PREPARE_TIMEOUT:
                if variant.pid != GONE:
                    os.kill(variant.pid, signal.SIGKILL)
                self._remember(variant.name, time.monotonic() + REFUSED_FOR)
                self._let_go(variant)

    @property
    def next_moment(self) -> float | None:
        """Seconds until `check` may have something to do."""
        begun = [variant.began for variant in self._all.values() if not variant.ready]
        return max(0.0, min(begun) + PREPARE_TIMEOUT - time.monotonic()) + 0.01 if begun else None

    @property
    def owe(self) -> bool:
        """Whether one has yet to answer."""
        return any(variant.asked for variant in self._all.values())

    def forget(self) -> None:
        """In a fork of the template: these are not its own."""
        for variant in self._all.values():
            variant.channel.close()
        self._all.clear()
