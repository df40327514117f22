"""The trigger: one event for a deferred task, one for each end for an asset; cancelled, timed out, restarted."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException
from airflow.serialization.serialized_objects import BaseSerialization
from airflow.triggers.base import BaseEventTrigger
from airflow.triggers.shared_stream import AdvanceItem, AdvanceOutcome

from air_executor import model, store, testing
from air_executor.awaiting import JobWatch
from air_executor.client import AirExecutorClient
from air_executor.clients import Client
from air_executor.errors import InvalidInputError
from air_executor.paths import Home
from air_executor.remote.watch import RunWatch
from airflow_plugin import endings, triggers
from airflow_plugin.hook import AirJobHook
from airflow_plugin.operators import AirJobOperator
from airflow_plugin.sensors import AirJobSensor
from airflow_plugin.triggers import AirJobTrigger
from airflow_plugin.ways import HttpWay
from tests.plugin import tasks
from tests.plugin.conftest import Way, only_files

pytestmark = pytest.mark.usefixtures("way")
CLEAN, FAILED = AdvanceOutcome(acked=1, failed=0), AdvanceOutcome(acked=0, failed=1)
SECONDS = 20.0


def submit(api: AirExecutorClient, name: str, **labels: str) -> model.Job:
    return api.submit(store.Submission(model.Job(name=name, labels=labels), [model.Task("true", id="only")]))


def once(way: Way, name: str, **given: Any) -> AirJobTrigger:
    return AirJobTrigger(**way.target(), job_name=name, once=True, **given)


async def first(trigger: AirJobTrigger) -> Any:
    async for event in trigger.run():
        return event.payload
    raise AssertionError("no event")


async def within(work: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.wait_for(work, SECONDS)


def waits(way: Way) -> int:
    """How many jobs are waited for, and looked at."""
    if not way.is_http:
        return len(JobWatch.shared(Home(Path(way.place)))._waits)
    found = AirJobHook().find_way()
    assert isinstance(found, HttpWay)
    return RunWatch.shared(found.client).waits


async def watched(way: Way, count: int) -> None:
    """Wait until so many jobs are waited for."""
    await asyncio.to_thread(testing.wait_for, lambda: waits(way) == count)


def rebuilt(trigger: AirJobTrigger) -> AirJobTrigger:
    """As the triggerer makes it from the database."""
    path, arguments = trigger.serialize()
    assert path == "airflow_plugin.triggers.AirJobTrigger"
    stored = BaseSerialization.deserialize(BaseSerialization.serialize(arguments))
    return AirJobTrigger(**stored)


# --- A deferred task ---


def test_the_end_of_a_job_is_an_event(way: Way, api: AirExecutorClient) -> None:
    job = submit(api, "one")

    async def scene() -> Any:
        waiting = asyncio.create_task(first(rebuilt(once(way, "one", attempt=1))))
        await watched(way, 1)
        await asyncio.to_thread(api.cancel, job.name)
        return await waiting

    event = asyncio.run(within(scene()))
    assert event == {"job": "one", "state": "cancelled", "attempt": 1, "timed_out": False, "deadline": None}


def test_a_job_that_is_over_is_an_event_at_once(way: Way, api: AirExecutorClient) -> None:
    api.cancel(submit(api, "one").name)
    assert asyncio.run(within(first(once(way, "one"))))["state"] == "cancelled"


def test_a_job_that_was_removed_is_an_event(way: Way, api: AirExecutorClient) -> None:
    event = asyncio.run(within(first(once(way, "gone", attempt=1))))
    assert (event["job"], event["state"], event["timed_out"]) == ("gone", None, False)


def test_a_job_that_does_not_exist_yet_is_waited_for(
    way: Way, api: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "LOOK_INTERVAL", 0.02)
    looks = threading.Event()

    class Looking(AirJobTrigger):
        def _look(self, client: Client) -> model.Job | None:
            looks.set()
            return super()._look(client)

    async def scene() -> Any:
        waiting = asyncio.create_task(first(Looking(**way.target(), job_name="late", once=True)))
        await (watched(way, 1) if way.is_http else asyncio.to_thread(looks.wait, SECONDS))
        await asyncio.to_thread(submit, api, "late")
        await watched(way, 1)
        await asyncio.to_thread(api.cancel, "late")
        return await waiting

    assert asyncio.run(within(scene()))["state"] == "cancelled"


@pytest.mark.parametrize("exists", [True, False])
def test_it_gives_up_at_the_deadline(way: Way, api: AirExecutorClient, exists: bool) -> None:
    if exists:
        submit(api, "slow")
    event = asyncio.run(within(first(once(way, "slow", deadline=time.time() + 0.1))))
    assert event["timed_out"] and event["state"] == ("waiting" if exists else None)
    assert waits(way) == 0


def test_stopping_the_task_cancels_the_job(way: Way, api: AirExecutorClient) -> None:
    submit(api, "one")
    asyncio.run(within(once(way, "one", attempt=1, stopper="try 1 of d.t").on_kill()))
    job = api.get_job("one")
    assert job.exit is not None
    by = way.of(r"try 1 of d\.t")
    assert re.fullmatch(rf"cancelled by {by}: its deferred Airflow task was stopped", job.exit.reason)


def test_stopping_the_task_leaves_a_later_attempt_alone(way: Way, api: AirExecutorClient) -> None:
    api.cancel(submit(api, "one").name)
    api.retry("one")
    asyncio.run(within(once(way, "one", attempt=1, stopper="try 1 of d.t").on_kill()))
    assert api.get_job("one").state is model.JobState.WAITING


def test_a_sensor_that_is_stopped_cancels_nothing(way: Way, api: AirExecutorClient) -> None:
    submit(api, "one")
    asyncio.run(within(once(way, "one").on_kill()))
    assert api.get_job("one").state is model.JobState.WAITING


def test_the_end_of_the_triggerer_cancels_nothing(way: Way, api: AirExecutorClient) -> None:
    submit(api, "one")

    async def scene() -> None:
        trigger = once(way, "one", attempt=1, stopper="try 1 of d.t")
        waiting = asyncio.create_task(first(trigger))
        await watched(way, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await trigger.cleanup()

    asyncio.run(within(scene()))
    assert api.get_job("one").state is model.JobState.WAITING
    assert waits(way) == 0


def test_many_triggers_have_one_watch_and_one_thread(way: Way, api: AirExecutorClient) -> None:
    names = [submit(api, f"job-{number}").name for number in range(50)]
    before = threading.active_count()

    async def scene() -> list[Any]:
        waiting = [asyncio.create_task(first(once(way, name, attempt=1))) for name in names]
        await watched(way, len(names))
        watching = [each for each in threading.enumerate() if each.name.startswith(f"ends of {way.place}"[:60])]
        assert len(watching) == 1
        for name in names:
            await asyncio.to_thread(api.cancel, name)
        return await asyncio.gather(*waiting)

    events = asyncio.run(within(scene()))
    assert [event["job"] for event in events] == names
    testing.wait_for(lambda: waits(way) == 0)
    testing.wait_for(lambda: threading.active_count() <= before)


@only_files
def test_a_wait_that_is_refused_says_why_in_the_log_of_its_task(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    address = {"conn_type": "air_executor", "host": "https://air.example.org", "password": "not a token"}
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps(address))
    event = asyncio.run(within(first(AirJobTrigger(air_conn_id="broken", job_name="one", once=True))))
    assert (event["job"], event["timed_out"]) == ("one", False)
    operator = AirJobOperator(task_id="work", tasks=[{"command": "true"}])
    for waiting in (operator, AirJobSensor(task_id="wait", job="one")):
        with pytest.raises(AirflowException, match=r"could not wait for the job one: .* the token is none"):
            waiting.resume(tasks.context(waiting), event)


@only_files
def test_a_deferred_task_has_the_queue_of_its_task_and_no_stream(way: Way) -> None:
    trigger = once(way, "one")
    assert trigger.supports_triggerer_queue and trigger.shared_stream_key() is None


@only_files
@pytest.mark.parametrize(
    "given",
    [{}, {"job_name": "a", "pipeline": "b"}, {"pipeline": "b", "once": True}, {"job_name": "a", "states": ["working"]}],
)
def test_what_cannot_be_waited_for_is_refused(way: Way, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        AirJobTrigger(**given)


# --- Assets ---


def way_client(way: Way) -> Client:
    return AirJobTrigger(**way.target(), job_name="any", once=True).find_way().client


def watcher(way: Way, **given: Any) -> AirJobTrigger:
    return AirJobTrigger(**{**way.target(), "pipeline": "nightly", **given})


def end(api: AirExecutorClient, name: str, **labels: str) -> None:
    api.cancel(submit(api, name, **labels).name)


async def stream(
    trigger: AirJobTrigger, work: Callable[[endings.Endings, AsyncIterator[Any]], Coroutine[Any, Any, Any]]
) -> Any:
    """Do something with the stream as Airflow opens it."""
    producer = AirJobTrigger.create_shared_stream_producer(rebuilt(trigger).serialize()[1])
    assert isinstance(producer, endings.Endings)
    opened = producer.open_stream()
    try:
        return await within(work(producer, opened))
    finally:
        await opened.aclose()  # type: ignore[attr-defined]


@only_files
def test_airflow_takes_it_for_assets() -> None:
    from airflow.sdk import Asset, AssetWatcher

    trigger = AirJobTrigger(pipeline="nightly")
    assert isinstance(trigger, BaseEventTrigger) and not trigger.supports_triggerer_queue
    assert trigger.shared_stream_key() == rebuilt(trigger).shared_stream_key()
    assert trigger.shared_stream_key() != AirJobTrigger(pipeline="weekly").shared_stream_key()
    Asset("a", watchers=[AssetWatcher("w", trigger=trigger)])
    path, arguments = trigger.serialize()
    assert BaseEventTrigger.hash(path, arguments) == BaseEventTrigger.hash(*rebuilt(trigger).serialize())


def test_the_end_of_a_job_of_a_pipeline_is_told_with_what_is_known(way: Way, api: AirExecutorClient) -> None:
    trigger = watcher(way)
    trigger.find_listener().open()
    end(api, "other", pipeline="weekly")
    end(api, "ours", pipeline="nightly", day="monday")

    async def take(producer: endings.Endings, opened: AsyncIterator[Any]) -> Any:
        return await anext(opened)

    told, token = asyncio.run(stream(trigger, take))
    assert token == ("ours", 1)
    assert {name: told[name] for name in ("job", "attempt", "state", "pipeline", "labels")} == {
        "job": "ours",
        "attempt": 1,
        "state": "cancelled",
        "pipeline": "nightly",
        "labels": {"pipeline": "nightly", "day": "monday"},
    }
    assert told["reason"].startswith("cancelled by") and told["id"] == api.get_job("ours").id


def test_an_end_that_airflow_has_not_stored_is_told_again(way: Way, api: AirExecutorClient) -> None:
    trigger = watcher(way, pipeline=None, job_name="ours")
    trigger.find_listener().open()
    end(api, "ours")

    async def lose(producer: endings.Endings, opened: AsyncIterator[Any]) -> Any:
        _, token = await anext(opened)
        await producer.advance([AdvanceItem(token, FAILED)])
        return (await anext(opened))[1]

    async def keep(producer: endings.Endings, opened: AsyncIterator[Any]) -> Any:
        _, token = await anext(opened)
        await producer.advance([AdvanceItem(token, CLEAN)])

    assert asyncio.run(stream(trigger, lose)) == ("ours", 1)
    asyncio.run(stream(trigger, keep))  # as after a restart of the triggerer
    assert trigger.find_listener().pending() == []


@only_files
def test_only_the_states_that_count_are_events(way: Way) -> None:
    async def raw() -> AsyncIterator[Any]:
        for number, state in enumerate(["completed", "failed", "cancelled"]):
            yield {"job": str(number), "state": state}

    async def scene(trigger: AirJobTrigger) -> list[str]:
        return [event.payload["state"] async for event in trigger.filter_shared_stream(raw())]

    assert asyncio.run(scene(watcher(way))) == ["completed"]
    assert asyncio.run(scene(watcher(way, states=["failed", "cancelled"]))) == ["failed", "cancelled"]


def test_an_earlier_attempt_is_told_as_it_ended(way: Way, api: AirExecutorClient) -> None:
    end(api, "ours", pipeline="nightly")
    api.retry("ours")
    told = endings.describe(way_client(way), endings.End("ours", 1))
    assert told is not None and (told["state"], told["attempt"], told["result"]) == ("cancelled", 1, {})


def test_a_job_that_is_gone_is_passed_over(way: Way, api: AirExecutorClient) -> None:
    trigger = watcher(way)
    trigger.find_listener().open()
    end(api, "gone", pipeline="nightly")
    assert api.prune(older_than=0) == ["gone"]
    end(api, "there", pipeline="nightly")

    async def take(producer: endings.Endings, opened: AsyncIterator[Any]) -> Any:
        return (await anext(opened))[1]

    assert asyncio.run(stream(trigger, take)) == ("there", 1)
    assert trigger.find_listener().pending() == [("there", 1)]


def test_when_no_dag_wants_it_any_more_nobody_listens(way: Way, home: Home) -> None:
    trigger = watcher(way)
    trigger.find_listener().open()
    asyncio.run(trigger.cleanup())
    assert len(list(home.listeners.iterdir())) == 1  # the triggerer was stopped, and comes back
    asyncio.run(trigger.on_kill())
    asyncio.run(trigger.cleanup())
    assert list(home.listeners.iterdir()) == []
