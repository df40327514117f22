"""What became of the jobs reaches Airflow once, also if an announcement was lost or another scheduler was there."""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from air_executor import held, model, pauses, processes, runners, spool, store
from air_executor.client import AirExecutorClient
from air_executor.model import ExitKind
from air_executor.paths import Home
from airflow_plugin import ledger, obstacles
from airflow_plugin.executor import AirExecutor
from airflow_plugin.workload import ExitCode
from tests.plugin import fleet


def check_all(executor: AirExecutor) -> None:
    executor._collector.check_all = True
    executor.sync()


def test_success_is_reported_once(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    executor.sync()
    assert executor.get_event_buffer() == {}
    fleet.finish(home, name)
    executor.sync()
    assert executor.get_event_buffer() == {fleet.key_of(task): (fleet.SUCCESS, None)}
    assert not executor.running and spool.finished(home) == []
    check_all(executor)
    assert executor.get_event_buffer() == {}
    assert fleet.events_of(executor) == []


def test_a_failure_carries_its_reason(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    fleet.finish(home, name, fleet.ended(ExitCode.TASK_FAILED, "ValueError: no (failed)"))
    executor.sync()
    assert executor.get_event_buffer() == {fleet.key_of(task): (fleet.FAILED, "ValueError: no (failed)")}
    assert fleet.events_of(executor) == [("job failed", f"{name}: ValueError: no (failed)")]


def test_what_airflow_stopped_is_no_failure(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    fleet.finish(home, name, fleet.ended(ExitCode.STOPPED_BY_AIRFLOW, "stopped by Airflow"))
    executor.sync()
    assert executor.get_event_buffer() == {fleet.key_of(task): (fleet.SUCCESS, None)}
    assert fleet.events_of(executor) == [("job stopped", f"{name}: stopped by Airflow")]


@pytest.mark.parametrize("outcome", [fleet.done("deferred"), fleet.ended(ExitCode.ALREADY_RUNNING)])
def test_a_slot_is_freed_without_an_event(executor: AirExecutor, home: Home, outcome: model.Exit) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    fleet.finish(home, name, outcome)
    executor.sync()
    assert executor.get_event_buffer() == {} and not executor.running


def test_a_callback_tells_its_output(executor: AirExecutor, home: Home) -> None:
    good, bad = fleet.make_callback(), fleet.make_callback("alerts.raise")
    names = fleet.hand_over(executor, good, bad)
    for name in names:
        failed = "raise" in name
        fleet.finish(home, name, fleet.ended(ExitCode.TASK_FAILED, "RuntimeError: no") if failed else None)
    executor.sync()
    assert executor.get_event_buffer() == {
        good.key: (fleet.CALLBACK_SUCCESS, None),
        bad.key: (fleet.CALLBACK_FAILED, "RuntimeError: no"),
    }


def test_a_lost_announcement_is_made_up_for(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    fleet.finish(home, name)
    assert spool.collect_finished(home, name)
    check_all(executor)
    assert executor.get_event_buffer() == {fleet.key_of(task): (fleet.SUCCESS, None)}


def test_a_lost_place_in_the_queue_is_made_up_for(executor: AirExecutor, home: Home) -> None:
    [name] = fleet.hand_over(executor, fleet.make_task())
    spool.marker_of(store.read(home, name)).path(home).unlink()
    check_all(executor)
    assert [marker.job for marker in spool.waiting(home, "default")] == [name]
    fleet.claim(home, name)
    check_all(executor)
    assert list(spool.waiting(home, "default")) == []


def test_an_announcement_of_a_job_that_somebody_removed_is_swept_up(executor: AirExecutor, home: Home) -> None:
    spool.announce_finished(home, "airflow-gone")
    executor._collector._strangers._seen["airflow-gone"] = (-1e9, 0)
    executor.sync()
    assert spool.finished(home) == []


def test_all_jobs_are_looked_at_in_turn() -> None:
    book = ledger.Ledger()
    for number in range(5):
        book.add(ledger.Entry(f"job-{number}", number))
    seen = [entry.name for _ in range(3) for entry in book.next_to_check(2)]
    assert seen == ["job-0", "job-1", "job-2", "job-3", "job-4", "job-0"]
    assert len(book.next_to_check(100)) == 5


@pytest.fixture
def looked(executor: AirExecutor, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that are looked at, of which there are 60."""
    seen: list[str] = []
    monkeypatch.setattr(executor._collector, "_settle", lambda _home, entry, announced: seen.append(entry.name))
    for number in range(60):
        executor._ledger.add(ledger.Entry(f"job-{number}", number))
    return seen


@pytest.mark.parametrize(
    ("check_all", "looks"),
    [
        (False, [(1.1, 1, 1), (1.1, 100, 2), (30.1, 100, 60), (30.1, 100, 60), (1e6, 100, 120)]),
        (True, [(0.1, 1, 60), (0.2, 100, 60), (1.2, 100, 62)]),
    ],
)
def test_what_is_due_to_be_looked_at_and_not_done_is_done_as_soon_as_there_is_time(
    executor: AirExecutor, looked: list[str], check_all: bool, looks: list[tuple[float, int, int]]
) -> None:
    assert executor._door.site is not None
    began, executor._collector.check_all = executor._collector._checked_at, check_all
    for seconds, most, altogether in looks:
        executor._collector.check_some(executor._door.site.home, began + seconds, most)
        assert len(looked) == altogether


def test_after_a_while_without_jobs_none_is_due(executor: AirExecutor, looked: list[str]) -> None:
    assert executor._door.site is not None
    jobs, later = list(executor._ledger), executor._collector._checked_at + 1e6
    for entry in jobs:
        executor._ledger.close(entry)
    executor._collector.check_some(executor._door.site.home, later, 100)
    executor._ledger.add(jobs[0])
    executor._collector.check_some(executor._door.site.home, later + 1, 100)
    assert not looked


def test_an_announcement_of_a_job_that_runs_is_stale(executor: AirExecutor, home: Home) -> None:
    [name] = fleet.hand_over(executor, fleet.make_task())
    with fleet.begin(home, name) as job:
        spool.announce_finished(home, name)
        executor.sync()
        assert spool.finished(home) == [] and len(executor.running) == 1
        fleet.end(job)
    executor.sync()
    assert not executor.running


def test_a_job_that_was_removed_is_a_failure(executor: AirExecutor, home: Home, api: AirExecutorClient) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    fleet.finish(home, name)
    assert api.prune(older_than=-1) == []  # its end was not collected yet
    shutil.rmtree(home.job(name).root)
    check_all(executor)
    [(state, info)] = executor.get_event_buffer().values()
    assert state == fleet.FAILED and "was removed" in info


def test_a_home_that_is_gone_says_nothing_of_its_jobs(executor: AirExecutor, home: Home) -> None:
    fleet.hand_over(executor, fleet.make_task())
    away = home.root.rename(home.root.with_name("away"))
    check_all(executor)
    assert executor.get_event_buffer() == {} and len(executor.running) == 1
    away.rename(home.root)
    check_all(executor)
    assert len(executor.running) == 1


def test_a_damaged_job_fails_with_that_reason(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    fleet.claim(home, name)
    home.job(name).state.write_text('{"name": ')
    check_all(executor)
    [(state, info)] = executor.get_event_buffer().values()
    assert state == fleet.FAILED and "damaged" in info
    assert spool.finished(home) == []


def test_a_damaged_job_that_a_process_holds_is_left_to_it(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    with fleet.begin(home, name) as job:
        home.job(name).state.write_text("")
        check_all(executor)
        assert executor.get_event_buffer() == {}
        fleet.end(job)
    check_all(executor)
    assert executor.get_event_buffer() == {fleet.key_of(task): (fleet.SUCCESS, None)}


# --- Other schedulers ---


def test_the_answer_of_another_scheduler_is_left_alone(executor: AirExecutor, home: Home) -> None:
    other = fleet.start_executor()
    [name] = fleet.hand_over(other, fleet.make_task())
    fleet.finish(home, name)
    executor.sync()
    assert spool.finished(home) == [name]
    other.sync()
    assert spool.finished(home) == [] and executor.get_event_buffer() == {}


def test_a_try_that_another_scheduler_runs_again_is_its_own(executor: AirExecutor, home: Home) -> None:
    first = fleet.make_task()
    [name] = fleet.hand_over(executor, first)
    fleet.finish(home, name, fleet.done("deferred"))
    other, second = fleet.start_executor(), fleet.again(first)
    fleet.hand_over(other, second)
    fleet.finish(home, name)
    executor.sync()
    assert not executor.running and executor.get_event_buffer() == {}
    other.sync()
    assert other.get_event_buffer() == {second.key: (fleet.SUCCESS, None)}


def look_later(executor: AirExecutor, seconds: float) -> None:
    """Collect as if the answers had been lying there for so long."""
    assert executor._door.site is not None
    executor._collector.collect(executor._door.site.home, 0.0)
    executor._collector.collect(executor._door.site.home, seconds)


def test_a_callback_of_a_scheduler_that_is_gone_is_reported(executor: AirExecutor, home: Home) -> None:
    callback = fleet.make_callback()
    [name] = fleet.hand_over(fleet.start_executor(), callback)
    fleet.finish(home, name)
    look_later(executor, 29)
    assert executor.get_event_buffer() == {}
    look_later(executor, 31)
    assert executor.get_event_buffer() == {callback.key: (fleet.CALLBACK_SUCCESS, None)}
    assert spool.finished(home) == []


def test_two_schedulers_report_it_once(home: Home) -> None:
    callback = fleet.make_callback()
    [name] = fleet.hand_over(fleet.start_executor(), callback)
    fleet.finish(home, name)
    found = [fleet.start_executor() for _ in range(2)]
    for executor in found:
        look_later(executor, 31)
    assert [len(executor.get_event_buffer()) for executor in found] == [1, 0]


def test_an_answer_for_a_task_that_nobody_adopts_is_swept_up(executor: AirExecutor, home: Home) -> None:
    [name] = fleet.hand_over(fleet.start_executor(), fleet.make_task())
    fleet.finish(home, name)
    look_later(executor, 31)
    assert spool.finished(home) == [name]
    look_later(executor, 601)
    assert spool.finished(home) == [] and executor.get_event_buffer() == {}


def test_answers_for_others_than_airflow_are_never_touched(
    executor: AirExecutor, home: Home, api: AirExecutorClient
) -> None:
    for name in ("mine", "airflow-mine"):
        api.create_job(name, [{"command": "true"}], notify=True)
        fleet.finish(home, name)
    look_later(executor, 31)
    look_later(executor, 601)
    assert sorted(spool.finished(home)) == ["airflow-mine", "mine"]


def test_an_answer_that_comes_late_is_swept_up(executor: AirExecutor, home: Home) -> None:
    [name] = fleet.hand_over(executor, fleet.make_task())
    fleet.finish(home, name)
    spool.collect_finished(home, name)
    check_all(executor)
    executor.get_event_buffer()
    spool.announce_finished(home, name)
    executor.sync()
    assert spool.finished(home) == [] and executor.get_event_buffer() == {}


# --- What Airflow gives up ---


def test_a_task_without_heartbeat_is_stopped(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    with fleet.begin(home, name):
        executor.change_state(fleet.key_of(task), fleet.FAILED, remove_running=True)
        assert home.job(name).cancel.exists() and spool.cancel_requests(home) == [name]
    assert executor.get_event_buffer() == {fleet.key_of(task): (fleet.FAILED, None)}
    assert not executor.running
    executor.sync()
    assert executor.get_event_buffer() == {}


def test_a_task_that_airflow_gives_up_while_it_waits_never_starts(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    executor.fail(fleet.key_of(task))
    job = store.read(home, name)
    assert job.state is model.JobState.CANCELLED
    assert job.exit is not None and job.exit.kind is ExitKind.CANCELLED
    assert "Airflow" in job.exit.reason
    executor.sync()
    assert executor.get_event_buffer() == {fleet.key_of(task): (fleet.FAILED, None)}
    assert spool.finished(home) == []


def test_a_task_stuck_in_queued_is_revoked_and_runs_again(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    executor.revoke_task(ti=task.ti)  # type: ignore[arg-type]
    assert store.read(home, name).state is model.JobState.CANCELLED
    assert not executor.running and executor.get_event_buffer() == {}
    fleet.hand_over(executor, fleet.again(task))
    assert store.read(home, name).attempt == 2
    assert executor.get_event_buffer() == {}


def test_a_stop_that_could_not_be_written_is_asked_for_again(
    executor: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = fleet.make_task(), fleet.make_task()
    names = fleet.hand_over(executor, first, second)
    with fleet.begin(home, names[0]), fleet.begin(home, names[1]):
        with monkeypatch.context() as broken:
            broken.setattr(AirExecutorClient, "cancel", _no_space)
            for task in (first, second):
                executor.change_state(fleet.key_of(task), fleet.FAILED)
            executor.sync()
        assert not any(home.job(name).cancel.exists() for name in names)
        executor.sync()
        assert all(home.job(name).cancel.exists() for name in names)


def test_a_stop_that_comes_too_late_does_not_meet_the_next_run(
    executor: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    with fleet.begin(home, name) as job:
        with monkeypatch.context() as broken:
            broken.setattr(AirExecutorClient, "cancel", _no_space)
            executor.change_state(fleet.key_of(task), fleet.FAILED)
        fleet.end(job)
    fleet.hand_over(executor, fleet.again(task))
    executor.sync()
    assert store.read(home, name).state is model.JobState.WAITING


def _no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_task_is_revoked_before_it_was_handed_over(executor: AirExecutor) -> None:
    task = fleet.make_task()
    executor.queue_workload(task, session=None)  # type: ignore[arg-type]
    executor.revoke_task(ti=task.ti)  # type: ignore[arg-type]
    assert not executor.queued_tasks and executor.get_event_buffer() == {}


def test_a_connection_test_that_took_too_long_is_stopped(executor: AirExecutor, home: Home) -> None:
    test = fleet.make_connection_test()
    [name] = fleet.hand_over(executor, test)
    executor.fail_connection_test(test.key)
    assert store.read(home, name).state is model.JobState.CANCELLED
    assert not executor.running


def test_a_job_that_a_person_cancelled_is_a_failure_that_names_them(
    executor: AirExecutor, home: Home, api: AirExecutorClient
) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    api.cancel(name, by="user ana", why="too slow")
    executor.sync()
    [(state, info)] = executor.get_event_buffer().values()
    assert state == fleet.FAILED and info == "cancelled by user ana: too slow"


# --- The end of the scheduler ---


def test_the_end_of_the_scheduler_takes_no_answer_away(executor: AirExecutor, home: Home) -> None:
    callback = fleet.make_callback()
    [name] = fleet.hand_over(executor, callback)
    fleet.finish(home, name)
    executor.end()
    executor.terminate()
    assert spool.finished(home) == [name]


def test_callbacks_that_wait_are_handed_over_at_the_end(executor: AirExecutor, home: Home) -> None:
    executor.queue_workload(fleet.make_callback(), session=None)  # type: ignore[arg-type]
    executor.queue_workload(fleet.make_task(), session=None)  # type: ignore[arg-type]
    executor.end()
    [name] = store.names(home)
    assert name.startswith("airflow-callback-")


# --- Queues ---


def test_a_queue_that_nobody_serves_is_told_once(executor: AirExecutor, home: Home) -> None:
    task = fleet.make_task(queue="gpu")
    [name] = fleet.hand_over(executor, task)
    assert executor._door.site is not None
    for _ in range(2):
        executor._next_queues = 0.0
        executor.sync()
    [(event, extra)] = fleet.events_of(executor)
    assert event == "job waits"
    assert name in extra and "runner start --detach --queues gpu" in extra and "AIRFLOW_HOME" in extra


def served_queues(executor: AirExecutor) -> list[str]:
    site = executor._door.site
    assert site is not None
    return obstacles.served(site.home, executor._ledger, site.keeper.seen)


def test_that_a_queue_is_paused_is_told_once_and_nobody_gathers_for_it(executor: AirExecutor, home: Home) -> None:
    [name] = fleet.hand_over(executor, fleet.make_task())
    moment = model.now()
    me = processes.identify(os.getpid())
    runners.write(home, runners.RunnerInfo("r", me, ["default"], 2, "fork", "0", moment, moment, 3.0))
    assert served_queues(executor) == ["default"]
    pauses.pause(home, "default", by="ana", why="a move")
    for _ in range(2):
        executor._next_queues = 0.0
        executor.sync()
    [(event, extra)] = fleet.events_of(executor)
    assert event == "job waits" and name in extra and "by ana: a move; resume it with: air-executor" in extra
    assert served_queues(executor) == []


def test_a_job_that_runs_in_a_queue_without_a_runner_is_no_trouble(executor: AirExecutor, home: Home) -> None:
    [name] = fleet.hand_over(executor, fleet.make_task(queue="gpu"))
    with fleet.begin(home, name):
        executor._next_queues = 0.0
        executor.sync()
    assert fleet.events_of(executor) == []


def test_held_jobs_are_never_changed_by_the_executor(executor: AirExecutor, home: Home) -> None:
    [name] = fleet.hand_over(executor, fleet.make_task())
    with fleet.begin(home, name) as job:
        before = home.job(name).state.read_bytes()
        check_all(executor)
        assert home.job(name).state.read_bytes() == before
        assert isinstance(job, held.HeldJob)
