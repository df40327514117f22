"""The only way to change a job: under its lock, along the table, safe to repeat."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor import _files, held, journal, model, processes, spool, store, temporaries
from air_executor.errors import CorruptFileError, JobBusyError, NotFoundError
from air_executor.model import ExitKind, JobState, Task, TaskStatus
from air_executor.paths import Home
from tests.unit.conftest import Submit, finish

SUCCESS = model.Exit(ExitKind.SUCCESS, "all tasks completed")
FAILURE = model.Exit(ExitKind.EXIT_CODE, "exit code 1", code=1)


def claim(home: Home, name: str) -> None:
    home.claims("r").mkdir(exist_ok=True)
    assert spool.claim(home, spool.marker_of(store.read(home, name)), "r")


def test_one_holder_at_a_time(home: Home, submit: Submit) -> None:
    submit("a")
    with held.HeldJob.acquire(home, "a"), pytest.raises(JobBusyError, match="the job a is held"):
        held.HeldJob.acquire(home, "a")
    held.HeldJob.acquire(home, "a").release()


def test_a_job_that_is_not_there_stays_away(home: Home) -> None:
    with pytest.raises(NotFoundError):
        held.HeldJob.acquire(home, "a")
    assert not home.job("a").root.exists()


def test_what_was_read_before_the_lock_counts_while_it_holds(
    home: Home, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit("a")
    look = held.Look.at(home, "a")
    monkeypatch.setattr(store, "read", lambda *_: pytest.fail("was read again"))
    with held.HeldJob.acquire(home, "a", look=look) as job:
        assert job.job is look.job and job.tasks is look.tasks


def start_elsewhere(home: Home) -> None:
    with held.HeldJob.acquire(home, "a") as job:
        job.start(processes.identify(1, "r"), by="another")


def note_an_event(home: Home) -> None:
    job, [task] = store.read(home, "a"), store.read_tasks(home, "a")
    task.status = TaskStatus.RUNNING
    journal.record_task(home.job("a").events, job, task, TaskStatus.PENDING, model.now())


def begin_an_attempt(home: Home) -> None:
    """As a holder that died between the files of a new attempt."""
    tasks = [Task("false", id="task-1", job_name="a", created_at=model.now())]
    text = json.dumps(store.tasks_content(store.read(home, "a"), tasks))
    temporaries.of_attempt(home.job("a").tasks, 1).write_text(text)


@pytest.mark.parametrize("change", [start_elsewhere, note_an_event, begin_an_attempt])
def test_what_has_changed_before_the_lock_is_read_again(
    home: Home, submit: Submit, change: Callable[[Home], None]
) -> None:
    submit("a")
    look = held.Look.at(home, "a")
    change(home)
    with held.HeldJob.acquire(home, "a", look=look) as job:
        found = job.job, job.tasks
    with held.HeldJob.acquire(home, "a") as job:
        assert (job.job, job.tasks) == found != (look.job, look.tasks)


def test_a_damaged_job_is_not_left_locked(home: Home, submit: Submit) -> None:
    submit("a")
    home.job("a").tasks.write_text("{")
    with pytest.raises(CorruptFileError):
        held.HeldJob.acquire(home, "a")
    assert not _files.is_locked(home.job("a").lock)


def test_a_life(home: Home, submit: Submit) -> None:
    submit("a", [Task("true", id="one"), Task("true", id="two", dependencies=["one"])], notify=True)
    claim(home, "a")
    home.job("a").workload.write_text("{}")
    home.job("a").cancel.write_text("{}")
    spool.request_cancel(home, "a")
    with held.HeldJob.acquire(home, "a") as job:
        job.start(processes.identify(1, "r"), by="runner r")
        assert store.read(home, "a").state is JobState.WORKING
        for task in job.tasks:
            job.set_task(task, TaskStatus.RUNNING)
            job.set_task(task, TaskStatus.COMPLETED, exit_code=0)
        job.finish(JobState.COMPLETED, SUCCESS, by="runner r", used={"cpu_s": 1})
        job.settle()
    done = store.read(home, "a")
    assert (done.state, done.exit, done.usage) == (JobState.COMPLETED, SUCCESS, {"cpu_s": 1})
    assert done.created_at <= (done.started_at or "") <= (done.finished_at or "") <= done.updated_at
    assert [task.status.value for task in store.read_tasks(home, "a")] == ["completed", "completed"]
    assert not home.job("a").workload.exists(), "it carries a token"
    assert spool.finished(home) == ["a"] and spool.claimed(home, "r") == [] and spool.cancel_requests(home) == []
    changes = [event["to"] for event in journal.read(home.job("a").events) if event["event"] == "job"]
    assert changes == ["waiting", "working", "completed"]


@pytest.mark.parametrize(
    ("state", "outcome", "statuses"),
    [
        (JobState.FAILED, FAILURE, ["failed", "skipped"]),
        (JobState.CANCELLED, model.Exit(ExitKind.CANCELLED, "by me"), ["cancelled", "cancelled"]),
    ],
)
def test_tasks_that_are_not_over_are_closed(
    home: Home, submit: Submit, state: JobState, outcome: model.Exit, statuses: list[str]
) -> None:
    submit("a", [Task("true", id="one"), Task("true", id="two", dependencies=["one"])])
    with held.HeldJob.acquire(home, "a") as job:
        job.start(processes.identify(1), by="test")
        job.set_task(job.tasks[0], TaskStatus.RUNNING)
        job.finish(state, outcome, by="test")
    tasks = store.read_tasks(home, "a")
    assert [task.status.value for task in tasks] == statuses
    assert {task.error for task in tasks} == {outcome.reason}


def test_what_the_table_forbids_is_not_written(home: Home, submit: Submit) -> None:
    submit("a")
    before = home.job("a").state.read_bytes()
    with held.HeldJob.acquire(home, "a") as job:
        with pytest.raises(model.TransitionError):
            job.finish(JobState.COMPLETED, SUCCESS, by="test")
        with pytest.raises(model.TransitionError):
            job.set_task(job.tasks[0], TaskStatus.PENDING)
    assert home.job("a").state.read_bytes() == before


def test_a_job_of_which_nothing_ran_goes_back(home: Home, submit: Submit) -> None:
    submit("a")
    with held.HeldJob.acquire(home, "a") as job:
        job.start(processes.identify(1), by="test")
        job.back_to_queue(by="test", why="its runner died")
    again = store.read(home, "a")
    assert (again.state, again.crashes, again.runner, again.started_at, again.attempt) == (
        JobState.WAITING,
        1,
        None,
        None,
        1,
    )


def test_a_new_attempt_starts_from_nothing_and_keeps_the_history(home: Home, submit: Submit) -> None:
    first = submit("a", notify=True)
    done = finish(home, "a", JobState.FAILED)
    home.job("a").cancel.touch()
    with held.HeldJob.acquire(home, "a") as job:
        job.new_attempt(by="me", why="again")
    again = store.read(home, "a")
    assert (again.state, again.attempt, again.exit, again.id) == (JobState.WAITING, 2, None, first.id)
    assert again.queued_at > done.queued_at
    assert [task.status for task in store.read_tasks(home, "a")] == [TaskStatus.PENDING]
    assert not home.job("a").cancel.exists() and spool.finished(home) == []
    assert [event["attempt"] for event in journal.read(home.job("a").events)][-1] == 2


def test_a_new_attempt_with_another_submission(home: Home, submit: Submit) -> None:
    first = submit("a", extra={"kept": 1})
    finish(home, "a")
    new = store.Submission(model.Job("a", queue="other"), [Task("false", id="new")], workload=b"{}")
    with held.HeldJob.acquire(home, "a") as job:
        job.new_attempt(new, by="me", why="again")
    again = store.read(home, "a")
    assert (again.id, again.created_at, again.attempt, again.queue, again.extra) == (
        first.id,
        first.created_at,
        2,
        "other",
        {"kept": 1},
    )
    assert [task.id for task in store.read_tasks(home, "a")] == ["new"]
    assert home.job("a").workload.read_bytes() == b"{}"


def test_a_job_that_is_not_over_gets_no_new_attempt(home: Home, submit: Submit) -> None:
    submit("a")
    with held.HeldJob.acquire(home, "a") as job, pytest.raises(JobBusyError, match="the job a is waiting"):
        job.new_attempt(by="me", why="again")


def test_unknown_keys_survive(home: Home, submit: Submit) -> None:
    submit("a")
    paths = home.job("a")
    paths.state.write_text(paths.state.read_text().replace('"schema"', '"later": {"a": [1]}, "schema"'))
    paths.tasks.write_text(paths.tasks.read_text().replace('"command"', '"gpu": 1, "command"'))
    finish(home, "a")
    assert store.read(home, "a").extra == {"later": {"a": [1]}}
    assert store.read_tasks(home, "a")[0].extra == {"gpu": 1}


def test_an_ephemeral_runner_that_died_before_it_wrote_its_tasks(home: Home, submit: Submit) -> None:
    submit("a")
    with held.HeldJob.acquire(home, "a") as job:
        job.start(processes.identify(1), by="test")
        job.set_task(job.tasks[0], TaskStatus.RUNNING)
    assert store.read_tasks(home, "a")[0].status is TaskStatus.PENDING, "tasks.json may lag"
    with held.HeldJob.acquire(home, "a") as job:
        assert job.tasks[0].status is TaskStatus.RUNNING, "the journal does not"


def test_a_damaged_state_is_condemned_and_kept_aside(home: Home, submit: Submit) -> None:
    submit("a")
    for cut in (b'{"name": "a"', b'{"again"'):
        home.job("a").state.write_bytes(cut)
        error = CorruptFileError(home.job("a").state, "is not valid JSON")
        job = held.condemn(home, "a", error, by="test")
        assert job.state is JobState.FAILED and job.exit is not None and "state.json" in job.exit.reason
    assert store.read(home, "a").state is JobState.FAILED
    kept = sorted(Path(home.job("a").root).glob("state.json.damaged-*"))
    assert [path.read_bytes() for path in kept] == [b'{"name": "a"', b'{"again"']


def test_a_job_that_is_sound_by_now_is_not_condemned(home: Home, submit: Submit) -> None:
    submit("a")
    error = CorruptFileError(home.job("a").state, "was damaged when somebody looked")
    assert held.condemn(home, "a", error, by="test").state is JobState.WAITING
    assert store.read(home, "a").state is JobState.WAITING


def test_a_job_that_is_over_is_not_condemned_for_its_tasks(home: Home, submit: Submit) -> None:
    submit("a")
    done = finish(home, "a")
    error = CorruptFileError(home.job("a").tasks, "is empty")
    assert held.condemn(home, "a", error, by="test").state is JobState.COMPLETED
    assert store.read(home, "a").updated_at == done.updated_at
