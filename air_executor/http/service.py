"""What all requests share: one home, what is known of it, and who waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from air_executor import health, model, remedies, runners, status
from air_executor.awaiting import JobWatch
from air_executor.client import AirExecutorClient
from air_executor.http.limits import Limiter, Shares
from air_executor.index import Index
from air_executor.paths import Home
from air_executor.settings import HttpSettings
from air_executor.sightings import Sightings

LOOK_EVERY = 0.5
"""Seconds that a look at the home serves all who ask."""
BUDGET = 0.25
"""Seconds that one look may spend on reading jobs for the index."""


class Closing:
    """Whether the server is about to end: whoever waits for something in the home waits no more.

    All of it belongs to one event loop.
    """

    def __init__(self) -> None:
        self._is_closing = False
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def now(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """Wake all who wait."""
        self._is_closing = True
        for each in self._waiting:
            wake(each)

    @contextlib.contextmanager
    def waking(self, future: asyncio.Future[None]) -> Iterator[None]:
        """Have the future come true when the server is about to end."""
        self._waiting.add(future)
        if self._is_closing:
            wake(future)
        try:
            yield
        finally:
            self._waiting.discard(future)


def wake(future: asyncio.Future[None]) -> None:
    """Let it come true; nothing happens if it has."""
    if not future.done():
        future.set_result(None)


@dataclass
class Service:
    """One home, for the requests of one process."""

    home: Home
    settings: HttpSettings
    clock: Callable[[], float] = time.time
    """Seconds since the epoch: when tokens expire."""
    closing: Closing = field(default_factory=Closing)

    def __post_init__(self) -> None:
        self.client = AirExecutorClient(self.home.root)
        self.limiter = Limiter(self.settings.rate, self.settings.burst)
        self.strangers = Limiter(self.settings.stranger_rate, self.settings.stranger_burst)
        self.shares = Shares(self.settings.max_requests)
        self._index = Index(self.home)
        self._seen = Sightings(guess=True)  # kept, so nobody ever waits for the heartbeat of another host
        self._indexing, self._looking = threading.Lock(), threading.Lock()
        self._indexed_at = self._looked_at = float("-inf")
        self._status: health.Status | None = None
        self.unread = 0
        """How many jobs the index does not know yet."""

    def index(self) -> Index:
        """The index, brought up to date as far as that takes no longer than `BUDGET`."""
        with self._indexing:
            if time.monotonic() - self._indexed_at >= LOOK_EVERY and self.home.jobs.is_dir():
                self.unread = self._index.refresh(BUDGET).unread
                self._indexed_at = time.monotonic()
        return self._index

    def status(self) -> health.Status:
        """Runners and queues, as they were half a second ago at most."""
        with self._looking:
            if self._status is None or time.monotonic() - self._looked_at >= LOOK_EVERY:
                self._status = self._look()
                self._looked_at = time.monotonic()
            return self._status

    def _look(self) -> health.Status:
        infos = runners.all_runners(self.home)
        alive = [info for info in infos if self._seen.is_alive(info)]
        return health.Status(
            str(self.home.root),
            model.now(),
            exists=self.home.jobs.is_dir(),
            start=runners.start_command(self.home),
            runners=status.gather_runners(self.home, infos, self._seen),
            queues=status.gather_queues(self.home, alive),
            drained=remedies.draining(self.home, alive),
            settings=status.gather_settings(self.home),
            given_up=status.gather_given_up(self.home),
        )

    async def until_over(self, name: str, seconds: float) -> None:
        """Wait for the end of a job, but no longer than that, nor for the server's own end. Holds no thread.

        Raises:
            InvalidNameError: that is no job's name.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def told(_: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(wake, future)

        watch = JobWatch.shared(self.home)
        watch.add(name, told)
        try:
            with self.closing.waking(future):
                await asyncio.wait([future], timeout=seconds)
        finally:
            watch.discard(name, told)

    def close(self) -> None:
        """Close what is open."""
        self._index.close()


def of(request: Request) -> Service:
    """What the requests of this app share."""
    found: Service = request.app.state.service
    return found


ServiceDep = Annotated[Service, Depends(of)]
