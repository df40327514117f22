"""Who goes on when a scheduler is gone: the table of `airflow_plugin.adoption`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.utils.state import TaskInstanceState

from air_executor import model, spool, store
from air_executor.errors import AirExecutorError
from air_executor.paths import Home
from airflow_plugin import adoption
from airflow_plugin.executor import AirExecutor
from airflow_plugin.workload import ExitCode
from tests.plugin import fleet

QUEUED, RUNNING, RESTARTING = TaskInstanceState.QUEUED, TaskInstanceState.RUNNING, TaskInstanceState.RESTARTING


def instance(task: Any, state: TaskInstanceState, **changes: Any) -> Any:
    """The database's task instance of a workload."""
    names = ("id", "dag_id", "task_id", "run_id", "map_index", "try_number", "external_executor_id", "key")
    values = {name: getattr(task.ti, name) for name in names}
    return SimpleNamespace(**{**values, "state": state, **changes})


def adopt(executor: AirExecutor, *tis: Any) -> list[Any]:
    """Returns those that were adopted."""
    left = executor.try_adopt_task_instances(list(tis))
    return [ti for ti in tis if ti not in left]


@pytest.fixture
def task() -> Any:
    return fleet.make_task()


@pytest.fixture
def name(home: Home, task: Any) -> str:
    """A job that a scheduler submitted that is gone."""
    [name] = fleet.hand_over(fleet.start_executor(), task)
    return name


@pytest.mark.parametrize("state", [QUEUED, RUNNING, RESTARTING])
def test_a_job_of_this_run_is_adopted(executor: AirExecutor, home: Home, task: Any, name: str, state: Any) -> None:
    ti = instance(task, state)
    assert adopt(executor, ti) == [ti]
    assert executor.running == {task.key}
    fleet.finish(home, name)
    executor.sync()
    assert executor.get_event_buffer() == {task.key: (fleet.SUCCESS, None)}


def test_an_end_that_nobody_reported_is_reported_at_once(
    executor: AirExecutor, home: Home, task: Any, name: str
) -> None:
    fleet.finish(home, name, fleet.ended(ExitCode.NOT_DELIVERED, "the server was away"))
    spool.collect_finished(home, name)
    adopt(executor, instance(task, RUNNING))
    executor.sync()
    assert executor.get_event_buffer() == {task.key: (fleet.FAILED, "the server was away")}


@pytest.mark.parametrize("state", [QUEUED, RUNNING])
def test_a_live_job_of_another_run_is_stopped(
    executor: AirExecutor, home: Home, task: Any, name: str, state: Any
) -> None:
    assert adopt(executor, instance(task, state, external_executor_id="another")) == []
    assert store.read(home, name).state is model.JobState.CANCELLED
    assert not executor.running


def test_an_old_job_of_another_run_is_left(executor: AirExecutor, home: Home, task: Any, name: str) -> None:
    fleet.finish(home, name)
    assert adopt(executor, instance(task, QUEUED, external_executor_id="another")) == []
    assert store.read(home, name).state is model.JobState.COMPLETED


@pytest.mark.parametrize("state", [QUEUED, RUNNING])
def test_without_a_job_there_is_nothing_to_adopt(executor: AirExecutor, task: Any, state: Any) -> None:
    assert adopt(executor, instance(task, state)) == []


@pytest.mark.parametrize(("state", "adopted"), [(QUEUED, False), (RUNNING, True), (RESTARTING, True)])
def test_a_damaged_job_may_be_running(
    executor: AirExecutor, home: Home, task: Any, name: str, state: Any, adopted: bool
) -> None:
    home.job(name).state.write_text("{")
    assert bool(adopt(executor, instance(task, state))) is adopted


@pytest.mark.parametrize(("state", "adopted"), [(QUEUED, False), (RUNNING, True), (RESTARTING, True)])
def test_in_a_home_that_cannot_be_read_a_body_may_be_running(
    executor: AirExecutor, home: Home, task: Any, name: str, state: Any, adopted: bool
) -> None:
    away = home.root.rename(home.root.with_name("away"))
    assert bool(adopt(executor, instance(task, state))) is adopted
    away.rename(home.root)
    fleet.finish(home, name)
    executor.sync()
    assert len(executor.get_event_buffer()) == adopted


@pytest.mark.parametrize(("state", "adopted"), [(QUEUED, False), (RUNNING, True)])
def test_whatever_goes_wrong_a_body_is_not_run_twice(
    executor: AirExecutor, task: Any, monkeypatch: pytest.MonkeyPatch, state: Any, adopted: bool
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(adoption, "judge", fail)
    assert bool(adopt(executor, instance(task, state))) is adopted


@pytest.mark.parametrize("error", [OSError("I/O error"), AirExecutorError("no")])
def test_an_unreadable_job_may_be_running(
    home: Home, name: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(store, "read", fail)
    assert adoption.judge(home, name, "id", queued=False) is adoption.Adoption.ADOPT
    assert adoption.judge(home, name, "id", queued=True) is adoption.Adoption.LEAVE


def test_without_an_id_of_airflow_only_a_live_job_is_adopted(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task(external_executor_id=None)
    [name] = fleet.hand_over(fleet.start_executor(), task)
    assert adopt(executor, instance(task, RUNNING))
    fleet.finish(home, name)
    assert not adopt(fleet.start_executor(), instance(task, RUNNING))


def test_many_are_sorted_out_in_one_call(executor: AirExecutor, home: Home) -> None:
    tasks = [fleet.make_task() for _ in range(6)]
    fleet.hand_over(fleet.start_executor(), *tasks[::2])
    tis = [instance(task, QUEUED) for task in tasks]
    assert adopt(executor, *tis) == tis[::2]
    assert len(executor.running) == 3
