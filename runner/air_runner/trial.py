"""Importing more into a template without endangering it: a fork of it tries, and takes its place if all went well.

::

    template ── fork ──> trial: imports, checks after each
       │  <── trying, loaded, refused ──┤
       │  <────────── done ─────────────┤        or the trial ends, and the template goes on as it was
       ├────────────── go ───────────>  │
      ends                         is the template

So what turns out to be unsafe has never been in the template, what hangs or crashes does so elsewhere, and nothing that
is loaded already is loaded again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from air_runner import preloading, sharing
from air_runner.channel import Channel

PATIENCE = 30.0
"""Seconds that one module may take."""

HOLD = 1.0
"""Seconds that launches wait for a trial: the next job would need as long to import the same."""


@dataclass
class Trial:
    """A trial as the template sees it."""

    pid: int
    channel: Channel
    began: float = field(default_factory=time.monotonic)
    loaded: dict[str, float] = field(default_factory=dict)
    """What took how many milliseconds."""
    refused: tuple[str, str] | None = None
    """The module that was the end of the trial, and why."""
    done: bool = False
    reaped: bool = False
    """Whether its process has ended, and its pid may be another's."""
    _trying: str | None = None
    _trying_since: float = field(default_factory=time.monotonic)

    def listen(self) -> None:
        """Take what the trial says."""
        for message in self.channel.receive():
            if "trying" in message:
                self._trying, self._trying_since = message["trying"], time.monotonic()
            elif "loaded" in message:
                self.loaded[message["loaded"]] = message["ms"]
            elif "refused" in message:
                self.refused = message["refused"], message["why"]
            else:
                self.done = True
        if self.channel.closed:
            self._blame("the process that imported it died")

    def give_up_if_late(self) -> None:
        """End one that hangs; the rest follows from its socket."""
        if time.monotonic() > self._trying_since + PATIENCE:
            self._blame(f"importing it took longer than {PATIENCE:.0f} s")
            self.kill()

    def kill(self) -> None:
        """Nobody wants it any more."""
        if not self.reaped:
            os.kill(self.pid, signal.SIGKILL)

    def _blame(self, why: str) -> None:
        if self._trying is not None and self._trying not in self.loaded and not self.done:
            self.refused = self.refused or (self._trying, why)

    @property
    def holds(self) -> bool:
        """Whether a launch had better wait for it."""
        return time.monotonic() < self.began + HOLD

    @property
    def next_moment(self) -> float:
        """Seconds until something about it changes by itself."""
        moment = self.began + HOLD if self.holds else self._trying_since + PATIENCE
        return max(0.0, moment - time.monotonic()) + 0.01


def run(channel: Channel, names: Iterable[str]) -> bool:
    """In the fork: import, tell, and wait; whether this process is to be the template now."""
    for name in names:
        if preloading.is_loaded(name):  # by one of those before it
            continue
        channel.send({"trying": name})
        try:
            took = preloading.load(name)
        except preloading.NotPreloadableError as error:
            channel.send({"refused": name, "why": str(error)})
            return False
        channel.send({"loaded": name, "ms": took})
    preloading.freeze()
    sharing.enlarge_pages()
    channel.send({"done": True})
    return any("go" in message for message in channel.receive())
