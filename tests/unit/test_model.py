"""States, transition tables, and what survives being written and read."""

from __future__ import annotations

import json
from datetime import timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor import model
from air_executor.model import JobState, TaskStatus

JOB_CHANGES = {
    ("waiting", "working"),
    ("waiting", "failed"),
    ("waiting", "cancelled"),
    ("working", "waiting"),
    ("working", "completed"),
    ("working", "failed"),
    ("working", "cancelled"),
    ("completed", "waiting"),
    ("failed", "waiting"),
    ("cancelled", "waiting"),
}
TASK_CHANGES = {
    ("pending", "running"),
    ("pending", "failed"),
    ("pending", "cancelled"),
    ("pending", "skipped"),
    ("running", "completed"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("running", "pending"),
    ("completed", "pending"),
    ("failed", "pending"),
    ("cancelled", "pending"),
    ("skipped", "pending"),
}

texts = st.text(max_size=20)


@pytest.mark.parametrize("old", JobState)
@pytest.mark.parametrize("new", JobState)
def test_job_transitions(old: JobState, new: JobState) -> None:
    if (old.value, new.value) in JOB_CHANGES:
        model.check_job_transition(old, new)
    else:
        with pytest.raises(model.TransitionError, match=f"from {old} to {new}"):
            model.check_job_transition(old, new)


@pytest.mark.parametrize("old", TaskStatus)
@pytest.mark.parametrize("new", TaskStatus)
def test_task_transitions(old: TaskStatus, new: TaskStatus) -> None:
    if (old.value, new.value) in TASK_CHANGES:
        model.check_task_transition(old, new)
    else:
        with pytest.raises(model.TransitionError, match=f"from {old} to {new}"):
            model.check_task_transition(old, new)


def test_terminal_states() -> None:
    assert {state.value for state in JobState if state.terminal} == {"completed", "failed", "cancelled"}
    assert {each.value for each in TaskStatus if each.terminal} == {"completed", "failed", "cancelled", "skipped"}


def test_states_print_as_their_word() -> None:
    assert f"{JobState.WAITING} {TaskStatus.PENDING} {model.ExitKind.MEMORY} {model.Trigger.CLI}" == (
        "waiting pending memory cli"
    )


def test_time_is_utc_and_comes_back() -> None:
    text = model.now()
    assert text.endswith("Z") and len(text) == len("2026-01-01T00:00:00.000000Z")
    assert model.parse_time(text).tzinfo == timezone.utc


@given(
    labels=st.dictionaries(texts, texts, max_size=3),
    priority=st.integers(),
    timeout=st.none() | st.floats(0, 1e9),
    unknown=st.dictionaries(st.text(min_size=1, max_size=8).map("x-{}".format), st.integers(), max_size=3),
)
def test_a_job_comes_back_as_it_was(
    labels: dict[str, str], priority: int, timeout: float | None, unknown: dict[str, int]
) -> None:
    job = model.Job("a", labels=labels, priority=priority, timeout=timeout, extra=dict(unknown))
    job.runner = model.Process("here", "boot", 1, 2, "r", extra={"cgroup": "x"})
    job.exit = model.Exit(model.ExitKind.SIGNAL, "because", signal=9)
    assert model.from_dict(model.Job, json.loads(json.dumps(model.to_dict(job)))) == job


@given(args=st.lists(texts), env=st.dictionaries(texts, texts), dependencies=st.lists(texts))
def test_a_task_comes_back_as_it_was(args: list[str], env: dict[str, str], dependencies: list[str]) -> None:
    task = model.Task("a", args, env=env, dependencies=dependencies, extra={"later": [1]})
    assert model.from_dict(model.Task, json.loads(json.dumps(model.to_dict(task)))) == task


def test_what_an_older_version_did_not_write_takes_its_default() -> None:
    job = model.from_dict(model.Job, {"name": "old", "schema": 1})
    assert (job.queue, job.attempt, job.labels, job.extra) == ("default", 1, {}, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "sleeping"}, "'state' has the unknown value 'sleeping'"),
        ({"state": ["waiting"]}, "'state' has the unknown value"),
        ({"priority": "high"}, "'priority' should be int, is str"),
        ({"priority": True}, "'priority' should be int, is bool"),
        ({"labels": {"a": 1}}, "'labels' should hold text only"),
        ({"labels": []}, "'labels' should be dict"),
        ({"runner": "me"}, "'runner' should be an object"),
        ({"exit": {"kind": "bored", "reason": ""}}, "'kind' has the unknown value 'bored'"),
        ({"exit": {"kind": "signal"}}, "reason"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.from_dict(model.Job, {"name": "a", **change})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ValueError, match="command"):
        model.from_dict(model.Task, {"id": "a"})


def test_the_command_line() -> None:
    assert model.Task("echo", ["a b", ""]).argv == ["echo", "a b", ""]
