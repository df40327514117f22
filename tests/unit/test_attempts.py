"""Which tasks a new attempt has, and which need not run again."""

from __future__ import annotations

from air_executor import attempts
from air_executor.model import Task, TaskStatus


def done(name: str, *dependencies: str, **options: object) -> Task:
    fields = {"status": TaskStatus.COMPLETED, "tries": 1, "exit_code": 0, **options}
    return Task("true", id=name, dependencies=list(dependencies), **fields)  # type: ignore[arg-type]


def kept(tasks: list[Task], new: list[Task] | None = None) -> list[str]:
    return [task.id for task in attempts.next_tasks(tasks, new, keep_completed=True) if task.was_kept]


def test_what_completed_is_kept_unless_something_it_needs_runs_again() -> None:
    tasks = [done("a"), done("b", "a"), done("c", "x"), done("d", "c"), done("x", status=TaskStatus.FAILED)]
    assert kept(tasks) == ["a", "b"]


def test_what_is_defined_otherwise_runs_again_and_all_that_needs_it() -> None:
    old = [done("a"), done("b", "a"), done("c", "b"), done("d")]
    new = [Task("true", id="a"), Task("true", ["x"], "b", dependencies=["a"]), Task("true", id="c", dependencies=["b"])]
    assert kept(old, new) == ["a"]


def test_what_was_added_is_kept_with_the_task_that_added_it() -> None:
    tasks = [done("a"), done("b", status=TaskStatus.FAILED), done("x", added_by="a"), done("y", added_by="b")]
    assert [task.id for task in attempts.next_tasks(tasks, None, keep_completed=True)] == ["a", "b", "x"]
    assert [task.id for task in attempts.next_tasks(tasks, None, keep_completed=False)] == ["a", "b"]


def test_a_long_chain_is_no_matter() -> None:
    """A search that begins anew after each task would take minutes."""
    chain = [done("t0", status=TaskStatus.FAILED), *(done(f"t{n}", f"t{n - 1}") for n in range(1, 50_000))]
    assert kept(chain[::-1]) == []


def test_nothing_is_left_of_an_earlier_attempt() -> None:
    [task] = attempts.next_tasks([done("a", error="x", signal=9, completed_at="y")], None, keep_completed=False)
    assert task == Task("true", id="a")
