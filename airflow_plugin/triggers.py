"""What waits for jobs in Airflow's triggerer: for one job of a deferred task, or for all of a name or a pipeline.

One watch of a home serves all triggers of a process, and nothing is asked of anybody while no job ends. Over HTTP, one
request serves all triggers of a connection.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import AsyncIterator, Collection, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from air_executor import awaiting, model, store
from air_executor.client import AirExecutorClient
from air_executor.errors import AirExecutorError, HomeError, InvalidInputError, NotFoundError
from air_executor.paths import Home
from airflow_plugin.hook import DEFAULT_CONNECTION, AirJobHook
from airflow_plugin.ways import FileWay, Hearer, Way

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer

    from air_executor.clients import Client

LOOK_INTERVAL = 5.0
"""Seconds between looks for a job that does not exist yet."""


class AirJobTrigger(BaseEventTrigger):
    """An event when jobs are over.

    For an `AssetWatcher`: `AirJobTrigger(pipeline="nightly")` or `AirJobTrigger(job_name="import")` gives an event at
    each end, with the job's name, state, labels and result (see `endings`). Each end is told at least once, also if the
    triggerer was down when it came.

    For a deferred task (`once`) there is one event: `{"job", "state", "attempt", "timed_out", "deadline"}`.

    Args:
        job_name: the name of a job.
        pipeline: the name of a pipeline, instead.
        states: the ends that count.
        home: the directory; None: what the connection says, which the triggerer asks for: a token is never stored.
        air_conn_id: a connection of the type `air_executor`.
        poll_interval: seconds between looks over HTTP, and where changes of files are not told.
        once: wait for the one job `job_name`.
        attempt: with `once`, which attempt's end; None: whichever is found.
        stopper: with `once`, who asks for the job's cancellation when Airflow stops the task; None: nobody does.
        deadline: with `once`, when to give up, seconds since the epoch.
    """

    def __init__(
        self,
        *,
        job_name: str | None = None,
        pipeline: str | None = None,
        states: Collection[str] = ("completed",),
        home: str | None = None,
        air_conn_id: str = DEFAULT_CONNECTION,
        poll_interval: float | None = None,
        once: bool = False,
        attempt: int | None = None,
        stopper: str | None = None,
        deadline: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's own
        if (job_name is None) == (pipeline is None) or (once and job_name is None):
            raise InvalidInputError("AirJobTrigger needs either job_name or pipeline")
        for state in states:
            if state not in {known.value for known in model.TERMINAL_JOB_STATES}:
                raise InvalidInputError(f"states holds {state!r:.40}; a job ends as completed, failed or cancelled")
        self.job_name = job_name
        self.pipeline = pipeline
        self.states = sorted(states)
        self.home = home
        self.air_conn_id = air_conn_id
        self.poll_interval = poll_interval
        self.once = once
        self.attempt = attempt
        self.stopper = stopper
        self.deadline = deadline
        self._unwanted = False
        self.supports_triggerer_queue = once  # that of the deferred task; there is none for assets

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its arguments."""
        names = ["job_name", "home", "poll_interval"]
        names += ["once", "attempt", "stopper", "deadline"] if self.once else ["pipeline", "states"]
        names += ["air_conn_id"] if self.home is None or not self.once else []
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """The events; for assets, Airflow calls `filter_shared_stream` instead, so that it can confirm them."""
        if self.once:
            yield TriggerEvent(await self._see_through())  # type: ignore[no-untyped-call]
            return
        producer = self.create_shared_stream_producer(self.serialize()[1])
        async for ending, _ in producer.open_stream():
            if ending["state"] in self.states:
                yield TriggerEvent(ending)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Airflow stops the deferred task: cancel its job, unless another attempt of it runs.

        Of assets: no DAG asks for these events any more.
        """
        self._unwanted = not self.once
        if self.once and self.stopper is not None:
            await asyncio.to_thread(self._cancel)

    async def cleanup(self) -> None:
        """Called however it ends; ends that come while the triggerer is down are kept."""
        if self._unwanted:
            await asyncio.to_thread(lambda: self.find_listener().forget())

    def _cancel(self) -> None:
        try:
            client = self.find_way().client
            job = client.get_job(str(self.job_name))
            if self.attempt in (None, job.attempt):
                client.cancel(job.name, by=self.stopper, why="its deferred Airflow task was stopped")
        except (AirExecutorError, OSError) as error:
            self.log.warning("The job %s cannot be cancelled: %s", self.job_name, error)

    def find_way(self) -> Way:
        """The way to the home; raises as `AirJobHook.target`. May ask Airflow, so not in the event loop."""
        if self.home is not None:
            return FileWay(AirExecutorClient(self.home), self.poll_interval)
        return AirJobHook(self.air_conn_id).find_way(self.poll_interval)

    # --- A deferred task ---

    async def _see_through(self) -> dict[str, Any]:
        """The event; of a wait that fails here Airflow would say in the task's log that it did, and nothing more."""
        try:
            return await self._wait()
        except (AirExecutorError, AirflowException) as error:
            self.log.warning("The job %s cannot be waited for: %s", self.job_name, error)
            return {**self._event(None), "timed_out": False, "error": str(error)}

    async def _wait(self) -> dict[str, Any]:
        way = await asyncio.to_thread(self.find_way)
        looks = way.home is not None  # over HTTP, the first look is that of the watch, for all that wait
        while True:
            try:
                job = await asyncio.to_thread(self._look, way.client) if looks else None
            except (OSError, HomeError) as error:  # of a file server, or of a network: nothing is known of the job
                self.log.warning("The job %s cannot be looked at, trying again: %s", self.job_name, error)
                await asyncio.sleep(LOOK_INTERVAL)
                continue
            left = math.inf if self.deadline is None else self.deadline - time.time()
            if looks and (self._is_over(job) or left <= 0):
                return self._event(job)
            if job is None and way.home is not None:
                await asyncio.sleep(min(LOOK_INTERVAL, left))
            else:
                name = job.name if job else str(self.job_name)
                await way.wait_async(name, self.attempt, None if left == math.inf else left)
            looks = True

    def _look(self, client: Client) -> model.Job | None:
        try:
            return client.get_job(str(self.job_name))
        except NotFoundError:
            return None

    def _is_over(self, job: model.Job | None) -> bool:
        """One whose attempt is known was there: it does not come back when it is gone."""
        return (job is not None or self.attempt is not None) and awaiting.is_over(job, self.attempt)

    def _event(self, job: model.Job | None) -> dict[str, Any]:
        return {
            "job": job.name if job else self.job_name,
            "state": job.state.value if job else None,
            "attempt": job.attempt if job else None,
            "timed_out": not self._is_over(job),
            "deadline": self.deadline,
        }

    # --- Assets: each trigger has a stream of its own, for what Airflow has stored is confirmed to streams only ---

    def shared_stream_key(self) -> Hashable | None:
        """Airflow asks where the events come from."""
        return None if self.once else ("air_executor", self.listener_id())

    def listener_id(self) -> str:
        """Tells this trigger from others, and is the same after a restart of the triggerer, or on another host."""
        from airflow.configuration import conf

        airflow = conf.get("api", "base_url", fallback=None) or ""
        text = json.dumps([airflow, *self.serialize()], sort_keys=True)
        return f"airflow-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Where Airflow has the events from, and tells which ones it has stored."""
        from airflow_plugin.endings import Endings

        trigger = cls(**kwargs)
        return Endings(trigger.find_ends)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """The ends that count; Airflow confirms the others as soon as they are passed over."""
        async for ending in shared_stream:
            if ending["state"] in self.states:
                yield TriggerEvent(ending)  # type: ignore[no-untyped-call]

    def find_listener(self) -> Hearer:
        """Who hears of the ends; raises as `AirJobHook.target`. Asks Airflow, so not in the event loop."""
        return self._listener_of(self.find_way())

    def _listener_of(self, way: Way) -> Hearer:
        kind, name = ("job", self.job_name) if self.pipeline is None else ("pipeline", self.pipeline)
        return way.listener(kind, str(name), self.listener_id())

    def find_ends(self) -> tuple[Hearer, Client]:
        """The same, and who says more of an end."""
        way = self.find_way()
        if way.home is not None:
            store.ensure_home(Home(Path(way.home)))
        return self._listener_of(way), way.client
