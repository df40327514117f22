"""Workloads become jobs: in one batch, private, counted against the parallelism, refused with a reason."""

from __future__ import annotations

import json
import stat
from typing import Any

import pytest

from air_executor import model, spool, store
from air_executor.errors import HomeError
from air_executor.model import JobState
from air_executor.paths import Home
from airflow_plugin import handover
from airflow_plugin.executor import AirExecutor
from tests.plugin import fleet


def test_a_task_becomes_a_waiting_job(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task(priority_weight=7, run_id="manual__2026-01-01")
    [name] = fleet.hand_over(executor, task)
    job, [command] = store.read(home, name), store.read_tasks(home, name)
    assert (job.state, job.queue, job.priority) == (model.JobState.WAITING, "default", 7)
    assert (job.trigger, job.notify, job.template) == ("executor", True, "airflow_plugin.workload")
    assert job.external_id == task.ti.external_executor_id
    assert job.labels == {
        "kind": "task",
        "dag_id": "sales",
        "task_id": "load",
        "run_id": "manual__2026-01-01",
        "map_index": "-1",
        "try_number": "1",
        "ti_id": str(task.ti.id),
    }
    assert command.args[:4] == ["-m", "airflow_plugin.workload", "--server", "http://localhost:8080/execution/"]
    assert command.args[4:] == [str(home.job(name).workload)]


def test_the_token_is_in_a_private_file_only(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    paths = home.job(name)
    assert json.loads(paths.workload.read_text())["token"] == task.token
    assert stat.S_IMODE(paths.workload.stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.root.stat().st_mode) == 0o700
    others = [path for path in paths.root.rglob("*") if path.is_file() and path != paths.workload]
    assert all(task.token not in path.read_text() for path in others)


def test_what_was_handed_over_is_running_and_not_queued(executor: AirExecutor) -> None:
    task = fleet.make_task()
    fleet.hand_over(executor, task)
    assert executor.running == {fleet.key_of(task)}
    assert not executor.queued_tasks
    assert executor.has_task(task.ti)
    assert executor.slots_available == executor.parallelism - 1
    assert executor.get_event_buffer() == {}


def test_parallelism_limits_what_is_handed_over(home: Home) -> None:
    executor = fleet.start_executor(parallelism=2)
    tasks = [fleet.make_task(priority_weight=weight) for weight in (1, 3, 2)]
    assert len(fleet.hand_over(executor, *tasks)) == 2
    assert list(executor.queued_tasks) == [fleet.key_of(tasks[0])]
    fleet.finish(home, fleet.name_of(tasks[1]))
    executor.heartbeat()
    assert len(fleet.hand_over(executor)) == 3


def test_one_heartbeat_is_one_batch(executor: AirExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    real = store.submit_batch
    monkeypatch.setattr(store, "submit_batch", lambda home, each: batches.append(len(each)) or real(home, each))
    fleet.hand_over(executor, *[fleet.make_task() for _ in range(20)])
    assert batches == [20]


def test_a_callback_is_running_at_once_and_goes_first(executor: AirExecutor, home: Home) -> None:
    callback = fleet.make_callback()
    names = fleet.hand_over(executor, callback, fleet.make_task(priority_weight=2**31 - 1))
    assert executor.get_event_buffer() == {callback.key: (fleet.CALLBACK_RUNNING, None)}
    first = min(spool.waiting(home, "default"))
    assert first.job == next(name for name in names if name.startswith("airflow-callback-notify-"))


def test_connection_tests_begin_however_many_wait(home: Home) -> None:
    executor = fleet.start_executor(parallelism=1)
    tests = [fleet.make_connection_test() for _ in range(3)]
    [name] = fleet.hand_over(executor, *tests)
    assert name.startswith("airflow-connection_test-warehouse-")
    assert executor.running == {tests[0].key}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"executor_config": {"memroy_mb": 1}}, "did you mean 'memory_mb'?"),
        ({"executor_config": {"slurm": {"extra": ["--wrap=x"]}}}, "'slurm' 'extra' may not hold --wrap"),
        ({"queue": "not a queue"}, "the queue 'not a queue'"),
    ],
)
def test_what_cannot_become_a_job_fails_with_the_reason(
    executor: AirExecutor, changes: dict[str, Any], reason: str
) -> None:
    bad, good = fleet.make_task(**changes), fleet.make_task(task_id="good")
    assert fleet.hand_over(executor, bad, good) == [fleet.name_of(good)]
    [(key, (state, info))] = executor.get_event_buffer().items()
    assert (key, state) == (fleet.key_of(bad), fleet.FAILED)
    assert reason in info
    [(event, extra)] = fleet.events_of(executor)
    assert event == "job refused" and reason in extra
    assert fleet.key_of(bad) not in executor.running and not executor.queued_tasks


def test_a_workload_of_which_no_job_can_be_made_holds_up_no_other(
    executor: AirExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = fleet.make_task(), fleet.make_task(task_id="good")
    monkeypatch.setattr(type(bad), "model_dump_json", _unless(bad, type(bad).model_dump_json))
    assert fleet.hand_over(executor, bad, good) == [fleet.name_of(good)]
    assert executor.get_event_buffer()[fleet.key_of(bad)][0] == fleet.FAILED


def _unless(bad: Any, real: Any) -> Any:
    def dump(self: Any, **options: Any) -> Any:
        if self is bad:
            raise RuntimeError("cannot be written")
        return real(self, **options)

    return dump


def test_while_the_home_refuses_tasks_stay_queued(executor: AirExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise HomeError("no space left on device")

    task = fleet.make_task()
    with monkeypatch.context() as patch:
        patch.setattr(store, "submit_batch", refuse)
        fleet.hand_over(executor, task)
        for _ in range(2):
            executor._door._next_try = 0.0
            executor.heartbeat()
    assert list(executor.queued_tasks) == [fleet.key_of(task)]
    assert executor.get_event_buffer() == {}
    assert [event for event, _ in fleet.events_of(executor)] == ["job not submitted"]
    executor._door._next_try = 0.0
    assert fleet.hand_over(executor) == [fleet.name_of(task)]


def test_an_unusable_home_at_the_start_is_tried_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__BASE_PATH", str(home.root / "file" / "home"))
    (home.root / "file").touch()
    executor, task = fleet.start_executor(), fleet.make_task()
    executor._door._next_try = 0.0
    fleet.hand_over(executor, task)
    [(event, extra)] = fleet.events_of(executor)
    assert event == "job not submitted" and "is not a directory" in extra
    (home.root / "file").unlink()
    executor._door._next_try = 0.0
    assert fleet.hand_over(executor) == [fleet.name_of(task)]


def test_a_wrong_option_is_named_and_stops_nothing_else(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__SLTOS", "3")
    executor = fleet.start_executor()
    executor._door._next_try = 0.0
    fleet.hand_over(executor, fleet.make_task())
    assert "did you mean slots?" in fleet.events_of(executor)[0][1]
    assert executor.get_event_buffer() == {}


# --- The same try again ---


def test_a_deferred_task_comes_back_in_the_same_directory(executor: AirExecutor, home: Home) -> None:
    first = fleet.make_task()
    [name] = fleet.hand_over(executor, first)
    fleet.finish(home, name, fleet.done("deferred"))
    executor.sync()
    second = fleet.again(first)
    assert fleet.hand_over(executor, second) == [name]
    job = store.read(home, name)
    assert (job.attempt, job.state, job.external_id) == (2, model.JobState.WAITING, second.ti.external_executor_id)
    assert json.loads(home.job(name).workload.read_text())["token"] == second.token


def test_a_task_whose_previous_run_is_about_to_end_waits_for_that(executor: AirExecutor, home: Home) -> None:
    first = fleet.make_task()
    [name] = fleet.hand_over(executor, first)
    second = fleet.again(first)
    with fleet.begin(home, name) as running:
        fleet.hand_over(executor, second)
        assert list(executor.queued_tasks) == [second.key]
        fleet.end(running, fleet.done("deferred"))
    fleet.hand_over(executor)
    assert not executor.queued_tasks
    assert store.read(home, name).attempt == 2
    assert executor.running == {second.key}


def test_the_end_of_the_previous_run_does_not_end_the_next(executor: AirExecutor, home: Home) -> None:
    first = fleet.make_task()
    [name] = fleet.hand_over(executor, first)
    fleet.finish(home, name, fleet.done("deferred"))
    executor.queue_workload(fleet.again(first), session=None)  # type: ignore[arg-type]
    executor.trigger_tasks(10)
    executor.sync()
    assert executor.running == {first.key}
    assert executor.get_event_buffer() == {}


def test_a_previous_run_that_never_started_gives_way(executor: AirExecutor, home: Home) -> None:
    first = fleet.make_task()
    [name] = fleet.hand_over(executor, first)
    second = fleet.again(first)
    fleet.hand_over(executor, second)
    job = store.read(home, name)
    assert (job.attempt, job.external_id) == (2, second.ti.external_executor_id)
    assert len(list(spool.waiting(home, "default"))) == 1


def test_what_was_handed_over_before_is_not_handed_over_twice(home: Home) -> None:
    task = fleet.make_task()
    fleet.hand_over(fleet.start_executor(), task)
    executor = fleet.start_executor()
    [name] = fleet.hand_over(executor, task)
    assert store.read(home, name).attempt == 1
    assert executor.running == {task.key}


def test_a_hand_over_that_was_cut_off_before_the_queue_is_completed(home: Home) -> None:
    """The disk was full, or the scheduler killed, after the job was written and before its marker was."""
    task = fleet.make_task()
    [name] = fleet.hand_over(fleet.start_executor(), task)
    spool.marker_of(store.read(home, name)).path(home).unlink()
    fleet.hand_over(fleet.start_executor(), task)
    assert [marker.job for marker in spool.waiting(home, "default")] == [name]


def test_without_an_id_of_airflow_two_runs_of_a_try_are_still_told_apart(executor: AirExecutor, home: Home) -> None:
    first = fleet.make_task(external_executor_id=None)
    [name] = fleet.hand_over(executor, first)
    fleet.finish(home, name, fleet.done("deferred"))
    ti = first.ti.model_copy()
    fleet.hand_over(executor, first.model_copy(update={"ti": ti, "token": "another"}))
    assert store.read(home, name).attempt == 2


def test_a_damaged_previous_run_is_set_aside(executor: AirExecutor, home: Home) -> None:
    first = fleet.make_task()
    [name] = fleet.hand_over(executor, first)
    fleet.finish(home, name, fleet.done("deferred"))
    executor.sync()
    home.job(name).state.write_text("{")
    fleet.hand_over(executor, fleet.again(first))
    assert store.read(home, name).state is model.JobState.WAITING
    assert list(home.job(name).root.glob("state.json.damaged-*"))


def test_damaged_tasks_refuse_the_task_with_the_reason(executor: AirExecutor, home: Home) -> None:
    first = fleet.make_task()
    [name] = fleet.hand_over(executor, first)
    fleet.finish(home, name, fleet.done("deferred"))
    executor.sync()
    home.job(name).tasks.write_text("{")
    executor._task_event_logs.clear()
    fleet.hand_over(executor, fleet.again(first))
    assert executor.get_event_buffer()[first.key][0] == fleet.FAILED
    assert "are damaged" in fleet.events_of(executor)[0][1]


def test_stop_says_whether_there_was_something_to_stop(executor: AirExecutor, home: Home) -> None:
    [name] = fleet.hand_over(executor, fleet.make_task())
    assert executor._door.site is not None
    assert handover.stop(executor._door.site.client, name, "a test")
    assert not handover.stop(executor._door.site.client, name, "a test")
    assert not handover.stop(executor._door.site.client, "airflow-unknown", "a test")


def test_a_stop_that_was_late_does_not_end_the_next_run(executor: AirExecutor, home: Home) -> None:
    [name] = fleet.hand_over(executor, fleet.make_task())
    assert executor._door.site is not None
    stops = handover.Stops()
    stops.add(name, "a test", "another run")
    stops.ask(executor._door.site.client)
    assert store.read(home, name).state is JobState.WAITING
    stops.add(name, "a test", store.read(home, name).external_id)
    stops.ask(executor._door.site.client)
    assert store.read(home, name).state is JobState.CANCELLED
