"""Events, and tasks brought up to what they say."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from air_executor import journal, model
from air_executor.model import Job, JobState, Task, TaskStatus


def write(path: Path, job: Job, steps: list[tuple[Task, TaskStatus]]) -> None:
    for task, status in steps:
        old, task.status = task.status, status
        journal.record_task(path, job, task, old, model.now())


def test_tasks_are_brought_up_to_the_events(tmp_path: Path) -> None:
    path, job = tmp_path / "events.jsonl", Job("j")
    one, two = Task("a", id="one"), Task("b", id="two")
    one.exit_code, one.started_at = 3, model.now()
    write(path, job, [(one, TaskStatus.RUNNING), (one, TaskStatus.FAILED), (two, TaskStatus.SKIPPED)])
    fresh = [Task("a", id="one"), Task("b", id="two"), Task("c", id="three")]
    journal.replay(fresh, journal.read(path), 1)
    assert [task.status.value for task in fresh] == ["failed", "skipped", "pending"]
    assert (fresh[0].exit_code, fresh[0].started_at) == (3, one.started_at)


def test_events_of_another_attempt_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, Job("j", attempt=1), [(Task("a", id="one"), TaskStatus.FAILED)])
    fresh = [Task("a", id="one")]
    journal.replay(fresh, journal.read(path), 2)
    assert fresh[0].status is TaskStatus.PENDING


def test_what_cannot_be_read_never_happened(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        b'[]\n\n7\n{"event":"task","task":"gone","attempt":1,"to":"failed"}\n'
        b'{"event":"task","task":"one","attempt":1,"to":"exploded"}\n'
        b'{"event":"task","task":"one","attempt":1,"to":"running"}\n'
        b'{"event":"task","task":"one","attempt":1,"to":"comp'
    )
    fresh = [Task("a", id="one")]
    journal.replay(fresh, journal.read(path), 1)
    assert fresh[0].status is TaskStatus.RUNNING
    assert list(journal.read(tmp_path / "missing")) == []


@given(cut=st.integers(0, 2000))
def test_cut_anywhere_the_tasks_are_as_after_some_event(cut: int) -> None:
    """The prefix of a journal is a moment of the past, and what is appended after the cut is not lost."""
    with tempfile.TemporaryDirectory() as name:
        path, job = Path(name) / "events.jsonl", Job("j")
        tasks = [Task("a", id=f"t{n}") for n in range(3)]
        steps = [(task, status) for task in tasks for status in (TaskStatus.RUNNING, TaskStatus.COMPLETED)]
        write(path, job, steps)
        moments = [["pending"] * 3]
        for task, status in steps:
            moments.append(list(moments[-1]))
            moments[-1][tasks.index(task)] = status.value
        path.write_bytes(path.read_bytes()[:cut])
        fresh = [Task("a", id=task.id) for task in tasks]
        journal.replay(fresh, journal.read(path), 1)
        assert [task.status.value for task in fresh] in moments
        write(path, job, [(fresh[2], TaskStatus.FAILED)])
        assert list(journal.read(path))[-1]["to"] == "failed"


def test_a_change_of_the_job_says_who_and_why(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    journal.record_job(path, Job("j", state=JobState.FAILED, updated_at="now"), JobState.WORKING, by="me", why="so")
    assert list(journal.read(path)) == [
        {"at": "now", "event": "job", "attempt": 1, "from": "working", "to": "failed", "by": "me", "why": "so"}
    ]
