"""Whatever goes wrong below the executor, nothing of it reaches the scheduler's loop, and nothing is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from air_executor import runners, spool, store
from air_executor.client import AirExecutorClient
from air_executor.errors import CorruptFileError, HomeError
from air_executor.paths import Home
from airflow_plugin import guard, handover, jobs, keeper, keys, obstacles, results, tasknotes
from airflow_plugin.executor import AirExecutor
from tests.plugin import fleet

ERRORS: list[Exception] = [
    OSError(5, "Input/output error"),
    HomeError("no space left on device"),
    CorruptFileError("state.json", "is empty"),
    RuntimeError("a fault of ours"),
]
BELOW: list[tuple[Any, str]] = [
    (store, "submit_batch"),
    (store, "read"),
    (store, "read_or_damaged"),
    (store, "ensure_home"),
    (store, "check_home"),
    (spool, "finished"),
    (spool, "waiting"),
    (spool, "collect_finished"),
    (runners, "alive_runners"),
    (runners, "keep_alive"),
    (runners, "unserved"),
    (keeper.RunnerKeeper, "tick"),
    (AirExecutorClient, "cancel"),
    (AirExecutorClient, "get_job"),
    (AirExecutorClient, "resubmit"),
    (handover, "hand_over"),
    (handover, "stop"),
    (jobs, "submission"),
    (keys, "take_from_queue"),
    (results, "report"),
    (obstacles, "find_stuck_in_slurm"),
    (obstacles, "find_unanswered"),
    (obstacles, "find_without_pilots"),
    (tasknotes, "tell_end"),
    (tasknotes, "tell_refusal"),
    (tasknotes, "take_back"),
    (AirExecutor, "log_task_event"),
]


def fail_with(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def call_everything(executor: AirExecutor, queued: Any, taken: Any) -> None:
    """All that the scheduler calls."""
    for _ in range(2):
        executor._collector.check_all, executor._next_queues, executor._door._next_try = True, 0.0, 0.0
        executor.heartbeat()
    executor.sync()
    executor.trigger_tasks(3)
    executor.trigger_connection_tests()
    with contextlib.suppress(NotImplementedError):  # with which Airflow lets a task wait
        executor.revoke_task(ti=queued.ti)
    executor.change_state(taken.key, fleet.FAILED)
    executor.fail_connection_test(fleet.make_connection_test().key)
    executor.debug_dump()
    executor.get_task_log(taken.ti, 1)
    executor.get_event_buffer()
    executor.end()
    executor.terminate()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("where", "name"), BELOW, ids=lambda value: getattr(value, "__name__", value))
def test_nothing_reaches_the_scheduler(
    executor: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, error: Exception
) -> None:
    taken, over, callback = fleet.make_task(), fleet.make_task(), fleet.make_callback()
    fleet.hand_over(executor, taken, over, callback)
    fleet.finish(home, fleet.name_of(over))
    queued = fleet.make_task()
    executor.queue_workload(queued, session=None)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fail_with(error))
        call_everything(executor, queued, taken)


@pytest.mark.parametrize(
    ("where", "name"),
    [(store, "read"), (spool, "finished"), (spool, "collect_finished"), (keeper.RunnerKeeper, "tick")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_result_is_reported_once_the_trouble_is_over(
    executor: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    task = fleet.make_task()
    [job] = fleet.hand_over(executor, task)
    fleet.finish(home, job)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fail_with(OSError("I/O error")))
        executor.sync()
    executor.sync()
    assert executor.get_event_buffer() == {task.key: (fleet.SUCCESS, None)}


def test_trouble_with_one_job_does_not_hold_up_the_others(
    executor: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [fleet.make_task() for _ in range(3)]
    fleet.hand_over(executor, *tasks)
    for task in tasks:
        fleet.finish(home, fleet.name_of(task))
    bad, real = fleet.name_of(tasks[1]), store.read

    def read(home: Home, name: str) -> Any:
        return fail_with(RuntimeError("no"))() if name == bad else real(home, name)

    monkeypatch.setattr(store, "read", read)
    executor.sync()
    assert set(executor.get_event_buffer()) == {tasks[0].key, tasks[2].key}


def test_the_same_trouble_is_logged_once_a_minute(executor: AirExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(executor.log, "exception", lambda message, *_: said.append(message))
    for _ in range(5):
        executor._safely("a test", fail_with(RuntimeError("no")))
    assert len(said) == 1
    executor._safely("a test", fail_with(OSError("no")))
    executor._safely("another test", fail_with(RuntimeError("no")))
    assert len(said) == 3
    monkeypatch.setattr(guard, "REPEAT", 0.0)
    executor._safely("a test", fail_with(RuntimeError("no")))
    assert len(said) == 4


def test_a_flood_of_different_troubles_does_not_fill_the_memory(executor: AirExecutor) -> None:
    for number in range(guard.MAX_TROUBLES + 10):
        executor._may_say(f"trouble {number}")
    assert len(executor.__dict__["_said"]) <= guard.MAX_TROUBLES + 1


def test_what_ends_the_process_is_not_trouble(executor: AirExecutor) -> None:
    with pytest.raises(SystemExit):
        executor._safely("a test", fail_with(SystemExit(0)))  # type: ignore[arg-type]


def test_errors_of_the_database_are_airflows_own(executor: AirExecutor) -> None:
    class Detached:
        @property
        def key(self) -> Any:
            raise ConnectionError("the database went away")

    with pytest.raises(ConnectionError):
        executor.try_adopt_task_instances([Detached()])  # type: ignore[list-item]


def test_task_events_live_until_airflow_has_written_them(executor: AirExecutor, home: Home) -> None:
    fleet.hand_over(executor, fleet.make_task(queue="not a queue"))
    assert executor._events == list(executor._task_event_logs)
    executor.heartbeat()
    assert len(executor._events) == 1
    executor._task_event_logs.clear()
    executor.heartbeat()
    assert executor._events == []
