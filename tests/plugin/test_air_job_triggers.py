"""The trigger: one event for a deferred task, one for each end for an asset; cancelled, timed out, restarted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from airflow.serialization.serialized_objects import BaseSerialization
from airflow.triggers.base import BaseEventTrigger
from airflow.triggers.shared_stream import AdvanceItem, AdvanceOutcome

from air_executor import model, store, testing
from air_executor.awaiting import JobWatch
from air_executor.client import AirExecutorClient
from air_executor.errors import InvalidInputError
from air_executor.paths import Home
from airflow_plugin import endings, triggers
from airflow_plugin.triggers import AirJobTrigger

CLEAN, FAILED = AdvanceOutcome(acked=1, failed=0), AdvanceOutcome(acked=0, failed=1)
SECONDS = 20.0


def submit(api: AirExecutorClient, name: str, **labels: str) -> model.Job:
    return api.submit(store.Submission(model.Job(name=name, labels=labels), [model.Task("true", id="only")]))


def once(home: Home, name: str, **given: Any) -> AirJobTrigger:
    return AirJobTrigger(home=str(home.root), job_name=name, once=True, **given)


async def first(trigger: AirJobTrigger) -> Any:
    async for event in trigger.run():
        return event.payload
    raise AssertionError("no event")


async def within(work: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.wait_for(work, SECONDS)


async def watched(home: Home, count: int) -> None:
    """Wait until so many jobs are waited for."""
    await asyncio.to_thread(testing.wait_for, lambda: len(JobWatch.shared(home)._waits) == count)


def rebuilt(trigger: AirJobTrigger) -> AirJobTrigger:
    """As the triggerer makes it from the database."""
    path, arguments = trigger.serialize()
    assert path == "airflow_plugin.triggers.AirJobTrigger"
    stored = BaseSerialization.deserialize(BaseSerialization.serialize(arguments))
    return AirJobTrigger(**stored)


# --- A deferred task ---


def test_the_end_of_a_job_is_an_event(home: Home, api: AirExecutorClient) -> None:
    job = submit(api, "one")

    async def scene() -> Any:
        waiting = asyncio.create_task(first(rebuilt(once(home, "one", attempt=1))))
        await watched(home, 1)
        await asyncio.to_thread(api.cancel, job.name)
        return await waiting

    event = asyncio.run(within(scene()))
    assert event == {"job": "one", "state": "cancelled", "attempt": 1, "timed_out": False, "deadline": None}


def test_a_job_that_is_over_is_an_event_at_once(home: Home, api: AirExecutorClient) -> None:
    api.cancel(submit(api, "one").name)
    assert asyncio.run(within(first(once(home, "one"))))["state"] == "cancelled"


def test_a_job_that_was_removed_is_an_event(home: Home, api: AirExecutorClient) -> None:
    event = asyncio.run(within(first(once(home, "gone", attempt=1))))
    assert (event["job"], event["state"], event["timed_out"]) == ("gone", None, False)


def test_a_job_that_does_not_exist_yet_is_waited_for(
    home: Home, api: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "LOOK_INTERVAL", 0.02)
    looks = threading.Event()

    class Looking(AirJobTrigger):
        def _look(self, client: AirExecutorClient) -> model.Job | None:
            looks.set()
            return super()._look(client)

    async def scene() -> Any:
        waiting = asyncio.create_task(first(Looking(home=str(home.root), job_name="late", once=True)))
        await asyncio.to_thread(looks.wait, SECONDS)
        await asyncio.to_thread(submit, api, "late")
        await watched(home, 1)
        await asyncio.to_thread(api.cancel, "late")
        return await waiting

    assert asyncio.run(within(scene()))["state"] == "cancelled"


@pytest.mark.parametrize("exists", [True, False])
def test_it_gives_up_at_the_deadline(home: Home, api: AirExecutorClient, exists: bool) -> None:
    if exists:
        submit(api, "slow")
    event = asyncio.run(within(first(once(home, "slow", deadline=time.time() + 0.1))))
    assert event["timed_out"] and event["state"] == ("waiting" if exists else None)
    assert JobWatch.shared(home)._waits == {}


def test_stopping_the_task_cancels_the_job(home: Home, api: AirExecutorClient) -> None:
    submit(api, "one")
    asyncio.run(within(once(home, "one", attempt=1, stopper="try 1 of d.t").on_kill()))
    job = api.get_job("one")
    assert job.exit is not None
    assert job.exit.reason == "cancelled by try 1 of d.t: its deferred Airflow task was stopped"


def test_stopping_the_task_leaves_a_later_attempt_alone(home: Home, api: AirExecutorClient) -> None:
    api.cancel(submit(api, "one").name)
    api.retry("one")
    asyncio.run(within(once(home, "one", attempt=1, stopper="try 1 of d.t").on_kill()))
    assert api.get_job("one").state is model.JobState.WAITING


def test_a_sensor_that_is_stopped_cancels_nothing(home: Home, api: AirExecutorClient) -> None:
    submit(api, "one")
    asyncio.run(within(once(home, "one").on_kill()))
    assert api.get_job("one").state is model.JobState.WAITING


def test_the_end_of_the_triggerer_cancels_nothing(home: Home, api: AirExecutorClient) -> None:
    submit(api, "one")

    async def scene() -> None:
        trigger = once(home, "one", attempt=1, stopper="try 1 of d.t")
        waiting = asyncio.create_task(first(trigger))
        await watched(home, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await trigger.cleanup()

    asyncio.run(within(scene()))
    assert api.get_job("one").state is model.JobState.WAITING
    assert JobWatch.shared(home)._waits == {}


def test_many_triggers_have_one_watch_and_one_thread(home: Home, api: AirExecutorClient) -> None:
    names = [submit(api, f"job-{number}").name for number in range(50)]
    before = threading.active_count()

    async def scene() -> list[Any]:
        waiting = [asyncio.create_task(first(once(home, name, attempt=1))) for name in names]
        await watched(home, len(names))
        watching = [thread for thread in threading.enumerate() if thread.name.startswith("ends of")]
        assert len(watching) == 1
        for name in names:
            await asyncio.to_thread(api.cancel, name)
        return await asyncio.gather(*waiting)

    events = asyncio.run(within(scene()))
    assert [event["job"] for event in events] == names
    testing.wait_for(lambda: not JobWatch.shared(home).is_running)
    testing.wait_for(lambda: threading.active_count() <= before)


def test_a_deferred_task_has_the_queue_of_its_task_and_no_stream(home: Home) -> None:
    trigger = once(home, "one")
    assert trigger.supports_triggerer_queue and trigger.shared_stream_key() is None


@pytest.mark.parametrize(
    "given",
    [{}, {"job_name": "a", "pipeline": "b"}, {"pipeline": "b", "once": True}, {"job_name": "a", "states": ["working"]}],
)
def test_what_cannot_be_waited_for_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        AirJobTrigger(**given)


# --- Assets ---


def watcher(home: Home, **given: Any) -> AirJobTrigger:
    return AirJobTrigger(**{"home": str(home.root), "pipeline": "nightly", **given})


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


def test_airflow_takes_it_for_assets() -> None:
    from airflow.sdk import Asset, AssetWatcher

    trigger = AirJobTrigger(pipeline="nightly")
    assert isinstance(trigger, BaseEventTrigger) and not trigger.supports_triggerer_queue
    assert trigger.shared_stream_key() == rebuilt(trigger).shared_stream_key()
    assert trigger.shared_stream_key() != AirJobTrigger(pipeline="weekly").shared_stream_key()
    Asset("a", watchers=[AssetWatcher("w", trigger=trigger)])
    path, arguments = trigger.serialize()
    assert BaseEventTrigger.hash(path, arguments) == BaseEventTrigger.hash(*rebuilt(trigger).serialize())


def test_the_end_of_a_job_of_a_pipeline_is_told_with_what_is_known(home: Home, api: AirExecutorClient) -> None:
    trigger = watcher(home)
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


def test_an_end_that_airflow_has_not_stored_is_told_again(home: Home, api: AirExecutorClient) -> None:
    trigger = watcher(home, pipeline=None, job_name="ours")
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


def test_only_the_states_that_count_are_events(home: Home) -> None:
    async def raw() -> AsyncIterator[Any]:
        for number, state in enumerate(["completed", "failed", "cancelled"]):
            yield {"job": str(number), "state": state}

    async def scene(trigger: AirJobTrigger) -> list[str]:
        return [event.payload["state"] async for event in trigger.filter_shared_stream(raw())]

    assert asyncio.run(scene(watcher(home))) == ["completed"]
    assert asyncio.run(scene(watcher(home, states=["failed", "cancelled"]))) == ["failed", "cancelled"]


def test_an_earlier_attempt_is_told_as_it_ended(home: Home, api: AirExecutorClient) -> None:
    end(api, "ours", pipeline="nightly")
    api.retry("ours")
    told = endings.describe(home, endings.End("ours", 1))
    assert told is not None and (told["state"], told["attempt"], told["result"]) == ("cancelled", 1, {})


def test_a_job_that_is_gone_is_passed_over(home: Home, api: AirExecutorClient) -> None:
    trigger = watcher(home)
    trigger.find_listener().open()
    end(api, "gone", pipeline="nightly")
    assert api.prune(older_than=0) == ["gone"]
    end(api, "there", pipeline="nightly")

    async def take(producer: endings.Endings, opened: AsyncIterator[Any]) -> Any:
        return (await anext(opened))[1]

    assert asyncio.run(stream(trigger, take)) == ("there", 1)
    assert trigger.find_listener().pending() == [("there", 1)]


def test_when_no_dag_wants_it_any_more_nobody_listens(home: Home, api: AirExecutorClient) -> None:
    trigger = watcher(home)
    trigger.find_listener().open()
    asyncio.run(trigger.cleanup())
    assert trigger.find_listener().directory.is_dir()  # the triggerer was stopped, and comes back
    asyncio.run(trigger.on_kill())
    asyncio.run(trigger.cleanup())
    assert not trigger.find_listener().directory.exists()
