"""Names, graphs and options: what is taken, what is refused, and how it is said."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor import model, validation
from air_executor.errors import InvalidJobError, InvalidNameError

safe = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", fullmatch=True)


def chain(length: int) -> list[model.Task]:
    return [model.Task("true", id=f"t{n}", dependencies=[f"t{n - 1}"] if n else []) for n in range(length)]


# --- Names ---


@given(safe)
def test_safe_names_are_taken(name: str) -> None:
    assert validation.check_name("the job name", name) == name
    assert validation.is_name(name)


@given(st.text())
def test_a_name_that_is_taken_is_one_file_name(name: str) -> None:
    try:
        validation.check_name("the job name", name)
    except InvalidNameError:
        assert not validation.is_name(name)
        return
    assert name.isascii() and 0 < len(name) <= 200
    assert not set(name) & set('/\\\0\n\r\t :*?"<>|') and name[0] not in ".-"


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", "..", ".hidden", "-f", "a b", "a\nb", "a\n", "a\0", "ä", "x" * 201, None, 7, b"a"]
)
def test_unsafe_names_are_refused_and_named(name: Any) -> None:
    with pytest.raises(InvalidNameError, match="the queue") as caught:
        validation.check_name("the queue", name)
    assert caught.value.exit_code == 2
    assert len(str(caught.value)) < 250 and "\n" not in str(caught.value)


@given(st.lists(st.text(), min_size=1, max_size=6), st.text())
def test_made_names_are_safe_whatever_they_are_made_of(parts: list[str], key: str) -> None:
    assert validation.is_name(validation.make_name("airflow", *parts, key=key))


@given(st.text(), st.text(), st.text())
def test_made_names_differ_when_their_keys_do(part: str, one: str, other: str) -> None:
    assert (validation.make_name(part, key=one) == validation.make_name(part, key=other)) == (one == other)


def test_a_made_name_can_be_read() -> None:
    name = validation.make_name("airflow", "my dag", "tâche", "scheduled__2026-01-01T00:00:00+00:00", key="k")
    assert name.startswith("airflow-my_dag-t_che-scheduled__2026_01_01T00_00_00_00_00-")


def test_the_longest_part_of_a_made_name_is_cut_first() -> None:
    name = validation.make_name("airflow", "short", "x" * 500, key="k")
    assert name.startswith("airflow-short-xxx") and len(name) == 200


# --- Graphs ---


def test_a_diamond_is_taken() -> None:
    validation.check_tasks(
        [
            model.Task("a", id="a"),
            model.Task("b", id="b", dependencies=["a"]),
            model.Task("c", id="c", dependencies=["a"]),
            model.Task("d", id="d", dependencies=["b", "c"]),
        ]
    )


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "at least one task"),
        ([model.Task("a", id="a", dependencies=["b"])], "'a' depends on 'b', which is not a task of this job"),
        ([model.Task("a", id="a", dependencies=["a"])], "wait for each other: a -> a"),
        (
            [
                model.Task("x", id="x", dependencies=["b"]),
                model.Task("a", id="a", dependencies=["b"]),
                model.Task("b", id="b", dependencies=["a"]),
            ],
            "wait for each other: b -> a -> b",
        ),
        ([model.Task("", id="a")], "'a' has an empty command"),
        ([model.Task("  ", id="a")], "'a' has an empty command"),
        ([model.Task(None, id="a")], "'a' has an empty command"),  # type: ignore[arg-type]
        ([model.Task("a", id="a"), model.Task("b", id="a")], "two tasks have the id 'a'"),
        ([model.Task("a", ["\0"], id="a")], "must be text that a program can be given"),
        ([model.Task("a", [7], id="a")], "must be text that a program can be given"),  # type: ignore[list-item]
        ([model.Task("a", ["\ud800"], id="a")], "must be text that a program can be given"),
        ([model.Task("a", "bc", id="a")], "args and dependencies are lists"),  # type: ignore[arg-type]
        ([model.Task("a", id="a", cwd="\0")], "cwd must be text"),
        ([model.Task("a", id="a", timeout=0)], "timeout of task 'a' must be a positive number, not 0"),
        ([model.Task("a", id="a", timeout=float("nan"))], "timeout of task 'a'"),
        ([model.Task("a", id="a", env={"A=B": "c"})], "'A=B' is not the name of an environment variable"),
        ([model.Task("a", id="a", env=[])], "env maps names to texts"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_job_is_refused_and_named(tasks: list[model.Task], message: str) -> None:
    with pytest.raises(InvalidJobError, match=message):
        validation.check_tasks(tasks)


@pytest.mark.parametrize("task_id", ["../up", "a/b", "x" * 121, "a\nb"])
def test_a_task_id_is_a_file_name(task_id: str) -> None:
    with pytest.raises(InvalidNameError, match="the task id"):
        validation.check_tasks([model.Task("a", id=task_id)])


def test_a_secret_never_gets_into_a_message() -> None:
    for task in (
        model.Task("a", ["hunter2\0"], id="a"),
        model.Task("a", id="a", env={"PASSWORD": "hunter2\0"}),
        model.Task("a", id="a", env={"PASSWORD": ["hunter2"]}),  # type: ignore[dict-item]
    ):
        with pytest.raises(InvalidJobError) as caught:
            validation.check_tasks([task])
        assert "hunter2" not in str(caught.value)


def test_ten_thousand_tasks_in_a_chain_are_checked_quickly() -> None:
    """Forwards, backwards and closed to a ring; a quadratic check would take minutes, a recursive one the stack."""
    tasks = chain(10_000)
    before = time.process_time()
    validation.check_tasks(tasks)
    validation.check_tasks(tasks[::-1])
    tasks[0].dependencies = ["t9999"]
    with pytest.raises(InvalidJobError, match="wait for each other"):
        validation.check_tasks(tasks)
    tasks[0].id = "t1"
    with pytest.raises(InvalidJobError, match="two tasks have the id 't1'"):
        validation.check_tasks(tasks)
    assert time.process_time() - before < 5


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=10, max_size=10))
def test_cycles_are_found_exactly_where_they_are(edges: list[list[int]]) -> None:
    tasks = [model.Task("true", id=f"t{n}", dependencies=[f"t{k}" for k in ends]) for n, ends in enumerate(edges)]
    try:
        validation.check_tasks(tasks)
    except InvalidJobError:
        assert not _can_be_ordered(edges)
    else:
        assert _can_be_ordered(edges)


def _can_be_ordered(edges: list[list[int]]) -> bool:
    done: set[int] = set()
    while ready := {n for n, ends in enumerate(edges) if n not in done and set(ends) <= done}:
        done |= ready
    return len(done) == len(edges)


@given(st.lists(st.sampled_from(["", "task-1", "task-2", "task-3", "x"]), max_size=8))
def test_every_task_gets_an_id_of_its_own(ids: list[str]) -> None:
    tasks = [model.Task("true", id=task_id) for task_id in ids]
    validation.number_tasks(tasks)
    given_ids = [task_id for task_id in ids if task_id]
    made = [task.id for task, task_id in zip(tasks, ids, strict=True) if not task_id]
    assert len(set(made)) == len(made) and not set(made) & set(given_ids) and all(made)


# --- Options ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue": "../x"}, "the queue"),
        ({"queue": "q" * 101}, "the queue"),
        ({"priority": 1.5}, "priority must be a whole number, not 1.5"),
        ({"priority": True}, "priority"),
        ({"nice": 20}, "nice must be from -20 to 19"),
        ({"timeout": 0}, "timeout must be a positive number"),
        ({"timeout": -1}, "timeout must be a positive number"),
        ({"timeout": float("inf")}, "timeout"),
        ({"memory_mb": 0}, "memory_mb must be a positive whole number"),
        ({"memory_mb": 1.5}, "memory_mb"),
        ({"max_parallel": 0}, "max_parallel"),
        ({"labels": {"a": 1}}, "labels map text to text"),
        ({"labels": {"": "a"}}, "labels map text to text"),
        ({"labels": ["a"]}, "labels map text to text"),
        ({"trigger": 5}, "trigger must be text"),
        ({"external_id": 5}, "external_id must be text"),
        ({"slurm": {"cpus": "many"}}, "slurm 'cpus' must be a whole number of at least 1, not 'many'"),
        ({"slurm": ["cpus"]}, "slurm must be a table of options, not list"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidJobError, InvalidNameError), match=message):
        validation.check_job(model.Job("a", **options))


def test_all_options_at_their_limits_are_taken() -> None:
    job = model.Job("a", queue="q" * 100, nice=-20, timeout=0.1, memory_mb=1, max_parallel=1, priority=-(10**6))
    validation.check_job(job)


def test_what_a_newer_version_asks_of_slurm_makes_no_stored_job_damaged() -> None:
    job = model.Job("a", created_at=model.now(), updated_at=model.now(), queued_at=model.now(), slurm={"later": 1})
    validation.check_stored_job(job)
    with pytest.raises(InvalidJobError, match="slurm has the unknown option 'later'"):
        validation.check_job(job)
    job.slurm = {"cpus": []}
    with pytest.raises(InvalidJobError, match="slurm 'cpus'"):
        validation.check_stored_job(job)
