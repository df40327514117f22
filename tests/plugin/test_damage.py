"""Damage to the jobs of a living executor: no exception reaches the scheduler, and each task fails with the reason."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.utils.state import TaskInstanceState

from air_executor import repair, store
from air_executor.paths import Home
from airflow_plugin.executor import AirExecutor
from tests.faults import nasty
from tests.plugin import fleet
from tests.plugin.test_adoption import instance

DAMAGES = [*nasty.contents(), *nasty.values_of_state(), *nasty.things()]


def damage_the_rest(home: Home) -> None:
    for path, name in itertools.product((home.runners, home.components, home.jobs), nasty.ODD):
        nasty.ODD[name](path / f"{name}.json")
    home.config.write_bytes(b"[runner\nslots = \xff")
    (home.runners / "evil.json").write_text('{"id": "evil", "process": {"pid": -1}}')


def events_of(executor: AirExecutor) -> dict[Any, Any]:
    executor._collector.check_all = True
    for _ in range(3):
        executor.sync()
    return executor.get_event_buffer()


@pytest.fixture(autouse=True)
def nothing_is_caught_that_nobody_foresaw(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def test_each_damaged_job_fails_its_task_with_the_reason(executor: AirExecutor, home: Home) -> None:
    executor.parallelism = 1000
    tasks = [fleet.make_task() for _ in DAMAGES]
    innocent, other = fleet.make_task(), fleet.make_task()
    fleet.hand_over(executor, *tasks, innocent, other)
    for task, damage in zip(tasks, DAMAGES, strict=True):
        damage.apply(home.job(fleet.name_of(task)).state, home.job(fleet.name_of(other)).state)
    for directory in (home.finished, home.cancel_requests, home.control, home.waiting, home.queue("default")):
        nasty.litter(directory)
    damage_the_rest(home)
    successor = fleet.start_executor(parallelism=1000)
    ours = [instance(task, TaskInstanceState.RUNNING) for task in (*tasks, innocent)]
    assert successor.try_adopt_task_instances(ours) == [], "their bodies may be running"
    reported = events_of(successor)
    list(repair.repair(home))  # as a runner does
    reported |= events_of(successor)
    for task, damage in zip(tasks, DAMAGES, strict=True):
        state, reason = reported[fleet.key_of(task)]
        assert state == fleet.FAILED and "damaged" in reason and "state.json" in reason, (damage.name, reason)
    assert fleet.key_of(innocent) not in reported
    fleet.finish(home, fleet.name_of(innocent))
    assert events_of(successor) == {fleet.key_of(innocent): (fleet.SUCCESS, None)}
    events_of(executor)  # the first one is still there, as with two schedulers
    assert store.read(home, fleet.name_of(other)).state.value == "waiting"


def test_a_task_whose_job_is_damaged_can_be_queued_anew(executor: AirExecutor, home: Home) -> None:
    executor.parallelism = 1000
    tasks = [fleet.make_task() for _ in DAMAGES[::2]]
    fleet.hand_over(executor, *tasks)
    for task, damage in zip(tasks, DAMAGES[::2], strict=True):
        damage.apply(home.job(fleet.name_of(task)).state, Path("nowhere"))
    damage_the_rest(home)
    successor = fleet.start_executor(parallelism=1000)
    queued = [instance(task, TaskInstanceState.QUEUED) for task in tasks]
    assert successor.try_adopt_task_instances(queued) == queued
    fleet.hand_over(successor, *map(fleet.again, tasks))
    for task, damage in zip(tasks, DAMAGES[::2], strict=True):
        assert store.read(home, fleet.name_of(task)).state.value == "waiting", damage.name
    assert not [key for key, (state, _) in events_of(successor).items() if state == fleet.SUCCESS]
    for task in tasks:
        executor.revoke_task(ti=instance(task, TaskInstanceState.QUEUED))
