"""Hearing of ends of runs that are not known yet, over HTTP: the methods of `listeners.Listener`."""

from __future__ import annotations

import time
from collections.abc import Callable

from air_executor import ends, validation
from air_executor.errors import InvalidInputError
from air_executor.remote.client import RemoteClient
from air_executor.remote.watch import RunWatch

SHOWN_EVERY = 3600.0
"""Seconds after which a listener shows that it is still there: what is kept for one that does not is dropped."""


class RemoteListener:
    """Hears of ends that a home keeps for it until it has dealt with them.

    Args:
        kind: `job` or `pipeline`.
        name: of the job or the pipeline.
        listener_id: tells it from others that listen to the same.

    Raises:
        InvalidInputError: that cannot be listened to.
    """

    def __init__(self, client: RemoteClient, kind: str, name: str, listener_id: str) -> None:
        if kind not in ends.KINDS:
            raise InvalidInputError(f"a listener listens to one of {', '.join(ends.KINDS)}, not to {kind!r:.60}")
        validation.check_name(f"the {kind} to listen to", name)
        validation.check_name("the id of a listener", listener_id, ends.MAX_ID_BYTES)
        self._client, self._impatient = client, client.impatient()  # who listens asks again and again
        self._path = f"/ends/{kind}/{name}/{listener_id}"
        self._shown_at = float("-inf")
        self._watching: dict[Callable[[], None], int] = {}

    def open(self) -> None:
        """Begin to listen, or go on: ends that come from now on are kept until they are dealt with."""
        self._client.transport.ask("PUT", self._path)
        self._shown_at = time.monotonic()

    def pending(self) -> list[ends.End]:
        """The ends that were not dealt with, the first first."""
        told = self._impatient.transport.ask("GET", self._path)["ends"]
        return [ends.End(each["run"], each["attempt"]) for each in told]

    def done(self, job: str, attempt: int) -> None:
        """An end was dealt with: it is not told again."""
        self._client.transport.ask("DELETE", f"{self._path}/{job}/{attempt}")

    def watch(self, told: Callable[[], None]) -> None:
        """Have `told()` called from another thread as long as there is something pending."""
        self._watching[told] = RunWatch.shared(self._client).listen(self._look, told)

    def _look(self) -> bool:
        if time.monotonic() - self._shown_at > SHOWN_EVERY:
            self.open()
        return bool(self._impatient.transport.ask("GET", self._path)["ends"])

    def unwatch(self, told: Callable[[], None]) -> None:
        """Have it called no more; what ends meanwhile is kept."""
        if (number := self._watching.pop(told, None)) is not None:
            RunWatch.shared(self._client).unlisten(number)

    def forget(self) -> None:
        """Listen no more, and drop what is pending. Not while it is watched."""
        self._client.transport.ask("DELETE", self._path)
