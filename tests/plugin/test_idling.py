"""Waiting in `sync` for what comes, and never for longer than somebody can spare."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.dagbag import DBDagBag
from airflow.utils.session import create_session

from air_executor import load, model, spool
from air_executor.paths import Home
from airflow_plugin import idling
from airflow_plugin.executor import AirExecutor
from airflow_plugin.idling import Rules, Situation
from airflow_plugin.ledger import Entry
from airflow_plugin.successes import Successes
from tests.plugin import fleet

LONG = 25.0
"""More than any of these tests takes: whoever waits so long was not woken."""
RUNNING = Situation(news=False, to_send=0, sent=False, follows=False, woken=False, running=3, free_slots=29)


def having(**changes: object) -> Situation:
    return dataclasses.replace(RUNNING, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "ordinary", "taking_over", "one_of_several"),
    [
        (RUNNING, 1.0, 1.0, idling.PAUSE),
        (having(running=0), 0.0, 1.0, idling.PAUSE),
        (having(news=True), 0.0, 0.0, 0.0),
        (having(woken=True), 0.0, 0.0, 0.0),
        (having(sent=True, follows=True), 0.0, 0.0, 0.0),
        (having(sent=True), idling.AFTER_SENDING, idling.AFTER_SENDING, 0.0),
        (having(sent=True, free_slots=0), 1.0, 1.0, idling.PAUSE),
        (having(to_send=2), 0.0, idling.PAUSE, idling.PAUSE),
        (having(to_send=2, free_slots=0), 1.0, 1.0, idling.PAUSE),
    ],
)
def test_how_long(now: Situation, ordinary: float, taking_over: float, one_of_several: float) -> None:
    assert Rules(1.0).seconds(now) == ordinary
    assert Rules(1.0, takes_over=True).seconds(now) == taking_over
    assert Rules(1.0, takes_over=True, alone=False).seconds(now) == one_of_several
    assert Rules(1.0, alone=False).seconds(now) == 0.0, "another executor may have work to do"
    assert Rules(0.0, takes_over=True).seconds(now) == 0.0, "switched off"


def test_it_is_learned_whether_the_scheduler_has_more_after_it_handed_something_over(
    waiting: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Situation] = []
    monkeypatch.setattr(Rules, "seconds", lambda _, now: seen.append(now) or 0.0)

    def beat(*, sends: bool) -> None:
        if sends:
            fleet.hand_over(waiting, fleet.make_task())
        else:
            waiting.heartbeat()

    for sends in (True, True, True, False, False, True):
        beat(sends=sends)
    assert [(now.sent, now.follows) for now in seen] == [
        (True, False),
        (True, True),
        (True, True),
        (False, False),
        (False, False),
        (True, False),
    ]
    fleet.finish(home, fleet.hand_over(waiting, fleet.make_task())[0])
    waiting.heartbeat()
    waiting.get_event_buffer()
    beat(sends=True)
    assert seen[-1].sent and not seen[-1].follows, "that came of the end"


@pytest.fixture
def waiting(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[AirExecutor]:
    """An executor that waits, also when nothing runs, and is not woken by looking."""
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__SYNC_WAIT", str(LONG))
    monkeypatch.setenv("AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "0")
    monkeypatch.setattr(idling, "LOOK_INTERVAL", LONG)
    executor = fleet.start_executor()
    for _ in range(2):  # what was done before it began to listen is looked at
        executor.sync()
    yield executor
    executor.end()


def sync_beside(executor: AirExecutor, act: Callable[[], object]) -> float:
    """Let something happen while `sync` waits; returns how long it took."""
    asked = threading.Event()
    assert executor._door.site is not None
    wait = executor._door.site.bell.wait

    def tell_and_wait(seconds: float) -> None:
        executor._door.site.bell._begin()  # type: ignore[union-attr]
        asked.set()
        wait(seconds)

    executor._door.site.bell.wait = tell_and_wait  # type: ignore[method-assign]
    other = threading.Thread(target=lambda: (asked.wait(), act()))
    other.start()
    began = time.monotonic()
    executor.sync()
    other.join()
    return time.monotonic() - began


def succeed(executor: AirExecutor, home: Home, name: str) -> None:
    """As a supervisor announces it before and after it has told Airflow; the scheduler looks each time."""
    for _ in range(2):
        assert sync_beside(executor, lambda: spool.announce_success(home, name)) < LONG
        executor.get_event_buffer()


def test_the_end_of_a_job_wakes_the_scheduler(waiting: AirExecutor, home: Home) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(waiting, task)
    assert sync_beside(waiting, lambda: fleet.finish(home, name)) < LONG
    assert waiting.get_event_buffer() == {fleet.key_of(task): (fleet.SUCCESS, None)}


def test_the_success_of_a_task_wakes_the_scheduler_and_the_end_of_its_job_does_not_again(
    waiting: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(waiting, task)
    assert sync_beside(waiting, lambda: spool.announce_success(home, name)) < LONG
    assert list(home.told.iterdir()) == []
    buffer = waiting.get_event_buffer()
    assert buffer == {} and len(buffer) == 1, "the scheduler shall look again at once"
    assert sync_beside(waiting, lambda: spool.announce_success(home, name)) < LONG
    monkeypatch.setattr(waiting, "_rules", Rules(0.5))
    fleet.hand_over(waiting, fleet.make_task())
    waiting.get_event_buffer()
    assert sync_beside(waiting, lambda: fleet.finish(home, name)) >= 0.5
    monkeypatch.setattr(waiting, "_rules", Rules(0.0))
    waiting.sync()
    assert waiting.get_event_buffer() == {fleet.key_of(task): (fleet.SUCCESS, None)}


@pytest.mark.parametrize(
    ("run", "comes_back", "again"), [("one", False, False), ("two", False, True), ("one", True, True)]
)
def test_the_scheduler_looks_as_airflow_is_told_and_again_if_nothing_of_the_run_followed(
    run: str, comes_back: bool, again: bool
) -> None:
    """What was handed over before the scheduler came round once more may have been of another branch."""
    successes = Successes()
    entry = Entry("job", fleet.key_of(fleet.make_task(run_id="one")))
    assert successes.hear(entry, quiet=True, may_follow=True)
    successes.handed_over(fleet.key_of(fleet.make_task(run_id=run)))
    if comes_back:
        successes.nothing_handed_over()
    assert successes.hear(entry, quiet=True, may_follow=True) is again
    assert entry.known


def test_where_much_is_going_on_only_what_airflow_has_noted_wakes_the_scheduler(
    waiting: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "processors", lambda: 1)
    name, _ = fleet.hand_over(waiting, fleet.make_task(), fleet.make_task())
    monkeypatch.setattr(waiting, "_rules", Rules(0.5))
    assert sync_beside(waiting, lambda: spool.announce_success(home, name)) >= 0.5
    monkeypatch.setattr(waiting, "_rules", Rules(LONG))
    assert sync_beside(waiting, lambda: spool.announce_success(home, name)) < LONG


def test_the_success_of_a_task_is_heard_while_the_scheduler_works(waiting: AirExecutor, home: Home) -> None:
    sync_beside(waiting, lambda: home.wake.write_bytes(b""))
    [name] = fleet.hand_over(waiting, fleet.make_task())
    assert waiting._door.site is not None
    rung = waiting._door.site.bell._rung
    rung.clear()
    spool.announce_success(home, name)
    assert rung.wait(LONG)
    began = time.monotonic()
    waiting.sync()
    assert time.monotonic() - began < LONG


def test_the_end_of_the_last_job_wakes_the_scheduler(waiting: AirExecutor, home: Home) -> None:
    [name] = fleet.hand_over(waiting, fleet.make_task())
    succeed(waiting, home, name)
    assert sync_beside(waiting, lambda: fleet.finish(home, name)) < LONG
    assert not waiting.running


def test_a_failure_that_follows_a_success_is_news(waiting: AirExecutor, home: Home) -> None:
    """A task may have told Airflow, and its process may have been lost then; Airflow is told of both."""
    [name] = fleet.hand_over(waiting, fleet.make_task())
    succeed(waiting, home, name)
    lost = model.Exit(model.ExitKind.RUNNER_LOST, "its ephemeral runner is gone")
    assert sync_beside(waiting, lambda: fleet.finish(home, name, lost)) < LONG


def test_without_a_free_slot_the_end_of_the_job_wakes_the_scheduler_and_the_success_of_its_task_does_not(
    waiting: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    [name] = fleet.hand_over(waiting, fleet.make_task())
    monkeypatch.setattr(waiting, "parallelism", 1)
    monkeypatch.setattr(waiting, "_rules", Rules(0.5))
    assert sync_beside(waiting, lambda: spool.announce_success(home, name)) >= 0.5
    monkeypatch.setattr(waiting, "_rules", Rules(LONG))
    assert sync_beside(waiting, lambda: fleet.finish(home, name)) < LONG


def test_the_scheduler_does_not_sleep_after_an_end(
    waiting: AirExecutor, home: Home, database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor after a wait; it does where there was nothing to wait for."""

    def count() -> int:
        with create_session() as session:
            return SchedulerJobRunner.process_executor_events(
                executor=waiting, job_id=1, scheduler_dag_bag=DBDagBag(), session=session
            )

    assert count() == 0
    [name] = fleet.hand_over(waiting, fleet.make_task())
    monkeypatch.setattr(waiting, "_rules", Rules(0.01))
    waiting.sync()
    assert count() == 1
    fleet.finish(home, name)
    waiting.sync()
    assert count() == 1
    waiting.sync()
    assert count() == 0


def test_whoever_touches_the_wake_file_wakes_the_scheduler(waiting: AirExecutor, home: Home) -> None:
    assert sync_beside(waiting, lambda: home.wake.write_bytes(b"")) < LONG


def test_the_ends_of_others_and_those_that_are_known_wake_nobody(
    waiting: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_beside(waiting, lambda: home.wake.write_bytes(b""))
    waiting.sync()
    fleet.finish(home, fleet.hand_over(waiting, fleet.make_task())[0])
    waiting.sync()
    waiting.get_event_buffer()
    monkeypatch.setattr(waiting, "_rules", Rules(0.3, takes_over=True))
    assert sync_beside(waiting, (home.finished / "somebody-elses").touch) >= 0.3
    assert sync_beside(waiting, lambda: spool.announce_success(home, "somebody-elses")) >= 0.3


def test_whoever_wakes_the_scheduler_while_it_works_is_heard(waiting: AirExecutor, home: Home) -> None:
    sync_beside(waiting, lambda: home.wake.write_bytes(b""))
    waiting.sync()
    assert waiting._door.site is not None
    rung = waiting._door.site.bell._rung
    home.wake.write_bytes(b"")
    assert rung.wait(LONG)
    began = time.monotonic()
    waiting.sync()
    assert time.monotonic() - began < LONG


def test_work_that_was_made_before_it_listened_is_looked_at(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__SYNC_WAIT", str(LONG))
    monkeypatch.setenv("AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "0")
    executor = fleet.start_executor()
    began = time.monotonic()
    executor.sync()
    assert executor._rounds.woken and time.monotonic() - began < LONG
    executor.end()


def test_a_spool_that_was_made_anew_is_watched(waiting: AirExecutor, home: Home) -> None:
    home.spool.rename(home.spool.with_name("old"))
    home.finished.mkdir(parents=True)
    waiting.sync()
    waiting.sync()
    assert sync_beside(waiting, lambda: home.wake.write_bytes(b"")) < LONG


def test_what_comes_together_is_taken_together(
    waiting: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = fleet.hand_over(waiting, *(fleet.make_task() for _ in range(3)))
    rest = iter(names[1:])

    def idle() -> int:
        name = next(rest, None)
        if name is not None:
            fleet.finish(home, name)
        return int(name is None)

    monkeypatch.setattr(load, "idle_processors", idle)
    monkeypatch.setattr(idling, "TOGETHER", LONG)
    assert sync_beside(waiting, lambda: fleet.finish(home, names[0])) < LONG
    assert len(waiting.get_event_buffer()) == 3


@pytest.mark.parametrize(("crowd", "seconds"), [(3, 1.0), (5, 3.0)])
def test_it_waits_longer_where_what_waits_already_keeps_the_processors_busy(
    waiting: AirExecutor, monkeypatch: pytest.MonkeyPatch, crowd: int, seconds: float
) -> None:
    moments = iter(range(100))
    monkeypatch.setattr(load, "processors", lambda: 2)
    monkeypatch.setattr(load, "idle_processors", lambda: 0)
    monkeypatch.setattr(idling.time, "monotonic", lambda: next(moments) / 8)
    monkeypatch.setattr(idling.time, "sleep", lambda _: None)
    fleet.hand_over(waiting, *(fleet.make_task() for _ in range(crowd)))
    assert waiting._door.site is not None
    began = next(moments)
    waiting._door.site.bell.gather(["default"], 1.0)
    assert next(moments) - began == pytest.approx(seconds * 8, abs=2)


@pytest.mark.parametrize("when", ["before the end", "with the end", "while ends are gathered"])
def test_whoever_makes_work_does_not_wait_until_ends_have_come_together(
    waiting: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(load, "processors", lambda: 1)
    monkeypatch.setattr(load, "idle_processors", lambda: 0)
    monkeypatch.setattr(idling, "TOGETHER", LONG)
    names = fleet.hand_over(waiting, *(fleet.make_task() for _ in range(3)))
    assert waiting._door.site is not None
    bell = waiting._door.site.bell
    bell._begin()
    bell.mute()

    def make_work() -> None:
        home.wake.write_bytes(b"")
        while home.wake not in bell._hear():  # the system has told of it
            time.sleep(0.001)

    call_before = {"with the end": "mute", "while ends are gathered": "gather"}.get(when)
    if call_before is None:
        make_work()
    else:
        original = getattr(bell, call_before)
        monkeypatch.setattr(bell, call_before, lambda *given: (make_work(), original(*given))[1])
    fleet.finish(home, names[0])
    began = time.monotonic()
    waiting.sync()
    assert time.monotonic() - began < LONG
    assert waiting.get_event_buffer()


def test_a_success_that_airflow_notes_late_is_looked_for_again(waiting: AirExecutor, home: Home) -> None:
    """What followed was of another branch of the same run, and the scheduler came round once more."""
    [name] = fleet.hand_over(waiting, fleet.make_task(run_id="one"))
    assert sync_beside(waiting, lambda: spool.announce_success(home, name)) < LONG
    waiting.get_event_buffer()
    fleet.hand_over(waiting, fleet.make_task(run_id="one"))
    assert sync_beside(waiting, lambda: home.wake.write_bytes(b"")) < LONG
    waiting.sync()
    waiting.get_event_buffer()
    assert sync_beside(waiting, lambda: spool.announce_success(home, name)) < LONG
    assert waiting._rounds.news


def test_nothing_is_kept_of_a_job_that_was_stopped(waiting: AirExecutor, home: Home) -> None:
    task = fleet.make_task()
    [name] = fleet.hand_over(waiting, task)
    sync_beside(waiting, lambda: spool.announce_success(home, name))
    waiting.fail(fleet.key_of(task))
    assert not waiting._successes._early


def test_an_end_that_the_system_does_not_tell_of_is_found(
    waiting: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idling, "LOOK_INTERVAL", 0.02)
    task = fleet.make_task()
    [name] = fleet.hand_over(waiting, task)
    assert waiting._door.site is not None
    monkeypatch.setattr(waiting._door.site.bell, "_begin", lambda: None)
    threading.Thread(target=fleet.finish, args=(home, name)).start()
    began = time.monotonic()
    waiting.sync()
    assert time.monotonic() - began < LONG and waiting.event_buffer


def test_a_home_that_cannot_be_used_does_not_make_a_scheduler_spin(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "0")
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__SYNC_WAIT", "0.03")
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__BASE_PATH", "/dev/null/home")
    executor = fleet.start_executor()
    began = time.monotonic()
    executor.sync()
    assert executor._door.site is None or not executor._door.is_open
    assert time.monotonic() - began >= 0.03


def test_a_home_that_refuses_after_a_wait_lets_the_scheduler_sleep(
    waiting: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.hand_over(waiting, fleet.make_task())
    monkeypatch.setattr(waiting, "_rules", Rules(0.01))
    waiting.sync()
    waiting.sync()
    assert len(waiting.get_event_buffer()) == 1, "it waited"
    monkeypatch.setattr(waiting._door, "is_open", False)
    monkeypatch.setattr(waiting._door, "_next_try", time.monotonic() + LONG)
    waiting.sync()
    assert len(waiting.get_event_buffer()) == 0
