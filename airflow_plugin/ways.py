"""The ways to a home: by its files, or over HTTP. What operators, sensors and triggers need of either, in one shape.

The client does what clients do; what is told here besides differs: how one waits, who hears of ends, and why a job
would not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from air_executor import pauses, runners
from air_executor.awaiting import JobWatch
from air_executor.ends import End
from air_executor.listeners import Listener
from air_executor.remote.listener import RemoteListener
from air_executor.remote.watch import RunWatch

if TYPE_CHECKING:
    from air_executor.client import AirExecutorClient
    from air_executor.clients import Client
    from air_executor.model import Job
    from air_executor.remote.client import RemoteClient


class Hearer(Protocol):
    """Who hears of ends; see `listeners.Listener`."""

    def open(self) -> None: ...

    def pending(self) -> list[End]: ...

    def done(self, job: str, attempt: int) -> None: ...

    def watch(self, told: Callable[[], None]) -> None: ...

    def unwatch(self, told: Callable[[], None]) -> None: ...

    def forget(self) -> None: ...


class Way(Protocol):
    """A way to a home."""

    home: str | None
    """Its directory, where this host has it."""

    @property
    def client(self) -> Client: ...

    def place(self, name: str) -> str:
        """Where a job is, for people."""

    def obstacle(self, queue: str) -> str | None:
        """Why jobs of a queue wait, and what to do; None if they do not, or that is not known."""

    def wait(self, job: Job, seconds: float | None) -> bool:
        """Wait for the end of this attempt of a job; False if it did not come in time.

        The handlers of signals run meanwhile, as in any wait of the main thread.
        """

    async def wait_async(self, name: str, attempt: int | None, seconds: float | None) -> bool:
        """The same for an event loop, of any attempt if none is given; costs nothing while nothing ends."""

    def listener(self, kind: str, name: str, listener_id: str) -> Hearer:
        """Who hears of the ends of what is not known yet."""


class FileWay:
    """By the files of the home."""

    def __init__(self, client: AirExecutorClient, poll_interval: float | None = None) -> None:
        self.client = client
        self.home: str | None = str(client.home.root)
        self._poll_interval = poll_interval

    @property
    def _watch(self) -> JobWatch:
        return JobWatch.shared(self.client.home, self._poll_interval)

    def place(self, name: str) -> str:
        return f"Its files are in {self.client.home.job(name).root}"

    def obstacle(self, queue: str) -> str | None:
        home = self.client.home
        if (paused := pauses.describe(home, queue)) is not None:
            return f"The job waits: {paused}"
        if not runners.unserved(home, [queue]):
            return None
        command = runners.start_command(home, queue)
        return f"No runner serves the queue {queue!r} of {home.root}, so the job waits; start one: {command}"

    def wait(self, job: Job, seconds: float | None) -> bool:
        over = threading.Event()

        def tell(_: str) -> None:
            over.set()

        watch = self._watch
        watch.add(job.name, tell, job.attempt)
        try:
            return over.wait(seconds)
        finally:
            watch.discard(job.name, tell)

    async def wait_async(self, name: str, attempt: int | None, seconds: float | None) -> bool:
        return await _told(self._watch, name, attempt, seconds)

    def listener(self, kind: str, name: str, listener_id: str) -> Hearer:
        return Listener(self.client.home, kind, name, listener_id)


class HttpWay:
    """Over HTTP: all who wait in one process for runs behind the same connection share one request."""

    home: str | None = None

    def __init__(self, client: RemoteClient) -> None:
        self.client = client

    def place(self, name: str) -> str:
        return f"It is at {self.client.address}/api/v1/runs/{name}"

    def obstacle(self, queue: str) -> str | None:
        known = {each["name"]: each for each in self.client.queues()}
        found: dict[str, Any] = known.get(queue, {})
        if found.get("paused"):
            paused = found["paused"]
            why = f": {paused['why']}" if paused.get("why") else ""
            return f"The job waits: the queue {queue} of {self.client.address} is paused by {paused.get('by')}{why}"
        if found.get("served_by"):
            return None
        return f"No runner serves the queue {queue!r} of {self.client.address}, so the job waits; start one on its host"

    def wait(self, job: Job, seconds: float | None) -> bool:
        from air_executor.awaiting import is_over

        return is_over(self.client.wait_for_attempt(job.name, job.attempt, seconds), job.attempt)

    async def wait_async(self, name: str, attempt: int | None, seconds: float | None) -> bool:
        return await _told(RunWatch.shared(self.client), name, attempt, seconds)

    def listener(self, kind: str, name: str, listener_id: str) -> Hearer:
        return RemoteListener(self.client, kind, name, listener_id)


async def _told(watch: JobWatch | RunWatch, name: str, attempt: int | None, seconds: float | None) -> bool:
    """Whether a watch told of an end in time."""
    call = _Call()
    watch.add(name, call.tell, attempt)
    try:
        return await call.came(seconds)
    finally:
        watch.discard(name, call.tell)


class _Call:
    """A call from another thread that a coroutine waits for."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def tell(self, _: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._note)

    def _note(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def came(self, seconds: float | None) -> bool:
        """Whether it came in time."""
        try:
            await asyncio.wait_for(self._future, seconds)
        except asyncio.TimeoutError:
            return False
        return True
