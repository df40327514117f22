"""The ends of jobs as a stream of events for Airflow's assets: each at least once, and confirmed when it is stored."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from air_executor import model
from air_executor.clients import Client
from air_executor.ends import End
from air_executor.errors import AirExecutorError, NotFoundError, UnreachableError
from airflow_plugin.ways import Hearer

RESULT_LIMIT = 256 * 1024
"""Bytes of a result, as JSON, that go into an event: Airflow stores it in its database, once for each asset."""

log = logging.getLogger(__name__)


class Endings(SharedStreamProducer):
    """The ends that one listener hears of.

    Args:
        find: gives it, and who says more of an end; called in a thread when the stream begins.
    """

    def __init__(self, find: Callable[[], tuple[Hearer, Client]]) -> None:
        self._find = find
        self._listener: Hearer | None = None
        self._given: set[End] = set()
        """Ends that are on their way: they stay in the listener's directory until Airflow has stored them."""
        self._bell = asyncio.Event()

    async def open_stream(self) -> AsyncIterator[tuple[dict[str, Any], End]]:
        """Yield what is told of each end, and which one it is."""
        listener, client = await asyncio.to_thread(self._open)
        self._listener = listener
        loop = asyncio.get_running_loop()

        def ring() -> None:
            loop.call_soon_threadsafe(self._bell.set)

        listener.watch(ring)
        try:
            while True:
                await self._bell.wait()
                self._bell.clear()
                for end in await asyncio.to_thread(_pending, listener):
                    if end not in self._given and (ending := await asyncio.to_thread(_describe, listener, client, end)):
                        self._given.add(end)
                        yield ending, end
        finally:
            listener.unwatch(ring)

    def _open(self) -> tuple[Hearer, Client]:
        listener, client = self._find()
        listener.open()
        return listener, client

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Airflow has stored what came of these ends: they are not told again. What failed stays for another time."""
        for item in batch:
            if item.outcome.is_clean and self._listener is not None:
                await asyncio.to_thread(self._listener.done, *item.broker_payload)
            self._given.discard(item.broker_payload)  # the others are told again with the next listing


def _pending(listener: Hearer) -> list[End]:
    """Nothing while a home that is far away does not answer: the next ring asks again."""
    try:
        return listener.pending()
    except UnreachableError as error:
        log.warning("Which jobs have ended cannot be asked: %s", error)
        return []


def _describe(listener: Hearer, client: Client, end: End) -> dict[str, Any] | None:
    """None if nothing can be told of it: now, or ever."""
    try:
        ending = describe(client, end)
    except (AirExecutorError, OSError) as error:  # the next listing tells of it again
        log.warning("The end of %s (attempt %d) cannot be told yet: %s", end.job, end.attempt, error)
        return None
    if ending is None:
        log.warning("Nothing is known any more of the end of %s (attempt %d); nobody is told", end.job, end.attempt)
        listener.done(*end)
    return ending


def describe(client: Client, end: End) -> dict[str, Any] | None:
    """What is told of the end of a job; None if the job is gone.

    `{"job", "id", "attempt", "state", "reason", "pipeline", "labels", "result"}`: of an attempt that another one has
    followed already only the state is known.
    """
    try:
        job = client.get_job(end.job)
    except NotFoundError:
        return None
    current = job.attempt == end.attempt and job.state.terminal
    state = job.state if current else _state_of_attempt(client, end)
    if state is None:
        return None
    return {
        "job": job.name,
        "id": job.id,
        "attempt": end.attempt,
        "state": state.value,
        "reason": job.exit.reason if current and job.exit else "",
        "pipeline": job.labels.get("pipeline"),
        "labels": dict(job.labels),
        **(_result(client, job) if current else {"result": {}}),
    }


def _state_of_attempt(client: Client, end: End) -> model.JobState | None:
    """How an earlier attempt ended, as the job's history has it."""
    for event in client.events(end.job):
        if event.get("event") == "job" and event.get("attempt") == end.attempt:
            for state in model.TERMINAL_JOB_STATES:
                if event.get("to") == state.value:
                    return state
    return None


def _result(client: Client, job: model.Job) -> dict[str, Any]:
    try:
        result = client.outcome(job.name)["result"]
    except AirExecutorError as error:
        return {"result": {}, "result_omitted": str(error)}
    size = len(json.dumps(result))
    if size > RESULT_LIMIT:
        return {"result": {}, "result_omitted": f"{size} bytes: read it with AirExecutorClient.get_result"}
    return {"result": result}
