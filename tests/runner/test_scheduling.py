"""Decisions, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor import model, repair, spool
from air_runner import recovery, scheduling


def marker(priority: int, second: int, name: str = "job") -> spool.Marker:
    job = model.Job(name=name, priority=priority, queued_at=f"2026-01-01T00:00:{second:02d}.000000Z")
    return spool.marker_of(job)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 59)), unique=True), st.integers(0, 10))
def test_backlog_gives_highest_priority_first_then_oldest(waiting: list[tuple[int, int]], found_first: int) -> None:
    backlog = scheduling.Backlog()
    markers = [marker(priority, second, f"j{number}") for number, (priority, second) in enumerate(waiting)]
    backlog.replace(markers[:found_first])
    for each in markers[found_first:]:
        backlog.add(each)
    assert len(backlog) == backlog.known == len(waiting)
    order = []
    while (found := backlog.pop()) is not None:
        order.append(waiting[int(found.job[1:])])
    assert order == sorted(waiting, key=lambda item: (-item[0], item[1]))


def test_backlog_knows_a_marker_once() -> None:
    backlog = scheduling.Backlog()
    backlog.add(marker(0, 0))
    backlog.add(marker(0, 0))
    assert len(backlog) == 1
    backlog.replace([marker(0, 0), marker(0, 0), marker(1, 0)])
    assert len(backlog) == 2


def test_backlog_keeps_the_jobs_of_paused_queues_back() -> None:
    backlog = scheduling.Backlog()
    light, heavy, late = marker(0, 0, "light"), marker(1, 0, "heavy")._replace(queue="heavy"), marker(0, 9, "late")
    backlog.add(light)
    backlog.add(heavy)
    backlog.pause({"heavy"})
    backlog.add(late._replace(queue="heavy"))
    assert (len(backlog), backlog.known) == (1, 3)
    assert backlog.pop() == light and backlog.pop() is None
    backlog.replace([light, heavy])
    assert (len(backlog), backlog.known) == (1, 2)
    backlog.pause(())
    assert [backlog.pop(), backlog.pop(), backlog.pop()] == [heavy, light, None]
    assert backlog.known == 0


def test_backlog_forgets_queues_that_are_not_served_any_more() -> None:
    backlog = scheduling.Backlog()
    backlog.replace([marker(0, 0, "light"), marker(1, 0, "heavy")._replace(queue="heavy")])
    backlog.keep_only(["default"])
    assert backlog.pop() == marker(0, 0, "light") and backlog.known == 0


def tasks(**dependencies: list[str]) -> list[model.Task]:
    return [model.Task(command="true", id=name, dependencies=needs) for name, needs in dependencies.items()]


def test_tasks_become_ready_when_all_they_need_is_completed() -> None:
    graph = scheduling.TaskGraph.of(tasks(a=[], b=["a"], c=["a", "b"]))
    assert list(graph.ready) == ["a"]
    graph.ready.clear()
    graph.completed("a")
    assert list(graph.ready) == ["b"]
    graph.completed("b")
    assert list(graph.ready) == ["b", "c"]


def test_all_that_needs_a_failed_task_is_skipped_and_nothing_else() -> None:
    graph = scheduling.TaskGraph.of(tasks(a=[], b=["a"], c=["b"], d=["c", "e"], e=[]))
    assert graph.failed("a") == ["b", "c", "d"]
    graph.completed("e")
    assert "d" not in graph.ready


def test_a_dependency_named_twice_counts_once() -> None:
    graph = scheduling.TaskGraph.of(tasks(a=[], b=["a", "a"]))
    graph.completed("a")
    assert "b" in graph.ready


@pytest.mark.parametrize(
    ("alive", "locked", "fate"),
    [
        (True, True, recovery.Fate.ADOPT),
        (True, False, recovery.Fate.ADOPT),
        (False, True, recovery.Fate.LEAVE),
        (None, True, recovery.Fate.LEAVE),
        (False, False, recovery.Fate.RESOLVE),
        (None, False, recovery.Fate.RESOLVE),
    ],
)
def test_what_becomes_of_a_claimed_job_that_nobody_watches(
    alive: bool | None, locked: bool, fate: recovery.Fate
) -> None:
    assert recovery.decide(alive=alive, locked=locked) is fate


@pytest.mark.parametrize(
    ("state", "started", "cancel_asked", "crashes", "verdict"),
    [
        ("waiting", False, False, 0, "queue"),
        ("waiting", False, False, 3, "queue"),
        ("waiting", False, False, 4, "fail"),
        ("waiting", False, True, 0, "cancel"),
        ("working", False, False, 0, "queue"),
        ("working", False, False, 4, "fail"),
        ("working", True, False, 0, "fail"),
        ("working", True, True, 0, "cancel"),
        ("completed", True, True, 0, "settle"),
        ("failed", True, False, 0, "settle"),
        ("cancelled", False, True, 0, "settle"),
    ],
)
def test_what_becomes_of_a_job_whose_process_is_gone(
    state: str, started: bool, cancel_asked: bool, crashes: int, verdict: str
) -> None:
    job = model.Job(name="j", state=model.JobState(state), crashes=crashes)
    assert repair.judge(job, started=started, cancel_asked=cancel_asked).value == verdict
