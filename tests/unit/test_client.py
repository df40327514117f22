"""The face for programs, without a runner."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

import pytest

import air_executor
from air_executor import _files, held, journal, processes, pruning, retention, spool, store
from air_executor.client import AirExecutorClient
from air_executor.errors import (
    HomeError,
    InvalidJobError,
    InvalidNameError,
    JobBusyError,
    JobExistsError,
    NotFoundError,
    WaitTimeoutError,
)
from air_executor.model import ExitKind, JobState, Task, TaskStatus
from air_executor.paths import Home
from tests.unit.conftest import Submit, finish


def test_public_names() -> None:
    assert air_executor.AirExecutorClient is AirExecutorClient
    assert set(air_executor.__all__) - {"__version__"} <= set(air_executor._HOMES)
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        air_executor.Nope  # noqa: B018


def test_a_job_from_dictionaries(api: AirExecutorClient, home: Home) -> None:
    job_id = api.create_job(
        "a",
        [
            {"id": "one", "command": "echo", "args": ["x"], "env": {"A": "b"}, "cwd": "/", "timeout": 3},
            Task("true", id="two", dependencies=["one"]),
        ],
        queue="big",
        labels={"k": "v"},
    )
    job = api.get_job("a")
    assert (job.id, job.queue, job.labels, job.trigger) == (job_id, "big", {"k": "v"}, "api")
    assert [task.id for task in api.get_tasks("a")] == ["one", "two"]


def test_a_name_is_made_up(api: AirExecutorClient) -> None:
    api.create_job(None, [Task("true")])
    (job,) = api.list_jobs()
    assert job.name.startswith("job-")


@pytest.mark.parametrize(
    ("name", "tasks", "options", "error", "message"),
    [
        ("../x", [{"command": "a"}], {}, InvalidNameError, "the job name '../x'"),
        ("a\nb", [{"command": "a"}], {}, InvalidNameError, "the job name"),
        ("n" * 300, [{"command": "a"}], {}, InvalidNameError, "300 characters long"),
        ("a", [], {}, InvalidJobError, "at least one task"),
        ("a", [{"command": ""}], {}, InvalidJobError, "empty command"),
        ("a", [{}], {}, InvalidJobError, "command"),
        ("a", ["echo"], {}, InvalidJobError, "a task is a dictionary or a Task, not a str"),
        ("a", [{"command": "a", "arg": []}], {}, InvalidJobError, "a task has no 'arg'; it has args, command"),
        ("a", [{"command": "a", "args": "b"}], {}, InvalidJobError, "'args' should be list"),
        ("a", [{"command": "a", "dependencies": ["b"]}], {}, InvalidJobError, "not a task of this job"),
        ("a", [{"command": "a"}], {"quue": "x"}, InvalidJobError, "unknown option: 'quue'"),
        ("a", [{"command": "a"}], {"queue": 7}, InvalidNameError, "the queue"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_written(
    api: AirExecutorClient, home: Home, name: Any, tasks: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        api.create_job(name, tasks, **options)
    assert list(home.jobs.iterdir()) == [] and spool.queues(home) == []


def test_a_taken_name(api: AirExecutorClient) -> None:
    api.create_job("a", [Task("true")])
    with pytest.raises(JobExistsError):
        api.create_job("a", [Task("true")])


def test_a_home_is_created_by_the_first_job_and_a_bad_one_refused(tmp_path: Path) -> None:
    AirExecutorClient(tmp_path / "new").create_job("a", [Task("true")])
    (tmp_path / "file").touch()
    with pytest.raises(HomeError):
        AirExecutorClient(tmp_path / "file").create_job("a", [Task("true")])


def test_lists_are_filtered_newest_first_and_show_the_damaged(api: AirExecutorClient, home: Home) -> None:
    for name, queue, label in (("a", "x", "1"), ("b", "y", "1"), ("c", "x", "2")):
        api.create_job(name, [Task("true")], queue=queue, labels={"n": label})
    finish(home, "a")
    assert [job.name for job in api.list_jobs()] == ["c", "b", "a"]
    assert [job.name for job in api.list_jobs(queue="x")] == ["c", "a"]
    assert [job.name for job in api.list_jobs(labels={"n": "1"})] == ["b", "a"]
    assert [job.name for job in api.list_jobs(state=JobState.COMPLETED)] == ["a"]
    home.job("b").state.write_text("")
    assert [job.name for job in api.list_jobs(state=JobState.FAILED)] == ["b"]


def test_tasks_are_up_to_the_last_event_while_the_job_works(api: AirExecutorClient, submit: Submit, home: Home) -> None:
    submit("a")
    with held.HeldJob.acquire(home, "a") as job:
        job.set_task(job.tasks[0], TaskStatus.RUNNING)
        assert api.get_tasks("a")[0].status is TaskStatus.RUNNING


def test_waiting_ends_with_the_job_or_too_early(api: AirExecutorClient, submit: Submit, home: Home) -> None:
    submit("a")
    with pytest.raises(WaitTimeoutError, match=r"the job a is still waiting after 0\.05 s; it goes on") as caught:
        api.wait("a", 0.05)
    assert caught.value.exit_code == 124
    finish(home, "a")
    assert api.wait("a", 0).state is JobState.COMPLETED
    with pytest.raises(NotFoundError):
        api.wait("b", 0)


# --- Stopping ---


def test_a_waiting_job_is_cancelled_at_once(api: AirExecutorClient, submit: Submit, home: Home) -> None:
    submit("a")
    job = api.cancel("a", by="me", why="wrong one")
    assert job.state is JobState.CANCELLED and job.exit is not None
    assert (job.exit.kind, job.exit.reason) == (ExitKind.CANCELLED, "cancelled by me: wrong one")
    assert list(spool.waiting(home, "default")) == [] and spool.holders(home) == []
    assert list(journal.read(home.job("a").events))[-1]["by"] == "me"
    assert api.cancel("a").updated_at == job.updated_at, "the second time nothing changes"


def test_a_working_job_is_asked(api: AirExecutorClient, submit: Submit, home: Home) -> None:
    submit("a")
    home.claims("r").mkdir()
    spool.claim(home, spool.marker_of(store.read(home, "a")), "r")
    assert api.cancel("a", by="first").state is JobState.WAITING
    api.cancel("a", by="second")
    assert spool.cancel_requests(home) == ["a"]
    assert _files.read_object(home.job("a").cancel)["by"] == "first"


def test_a_job_without_a_place_in_its_queue_can_be_cancelled(
    api: AirExecutorClient, submit: Submit, home: Home
) -> None:
    import shutil

    submit("a")
    shutil.rmtree(home.spool)
    assert api.cancel("a").state is JobState.CANCELLED
    assert spool.holders(home) == [] and list(spool.waiting(home, "default")) == []


def test_a_user_without_a_name_can_cancel(
    api: AirExecutorClient, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    submit("a")
    job = api.cancel("a")
    assert job.exit is not None and job.exit.reason == f"cancelled by user {os.getuid()}@{processes.host_name()}"


def test_a_job_that_is_not_there_cannot_be_cancelled(api: AirExecutorClient) -> None:
    with pytest.raises(NotFoundError):
        api.cancel("a")
    with pytest.raises(InvalidNameError):
        api.cancel("../a")


# --- New attempts ---


def test_retry(api: AirExecutorClient, submit: Submit, home: Home) -> None:
    submit("a")
    finish(home, "a", JobState.FAILED)
    job = api.retry("a", by="me")
    assert (job.state, job.attempt) == (JobState.WAITING, 2)
    assert [marker.job for marker in spool.waiting(home, "default")] == ["a"]


def test_a_job_that_is_not_over_is_refused_without_a_wait_for_its_lock(
    api: AirExecutorClient, submit: Submit, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit("a")
    monkeypatch.delattr(held.HeldJob, "acquire")
    with pytest.raises(JobBusyError, match="only one that is over"):
        api.retry("a")


def test_a_job_of_airflow_is_not_retried_by_hand(api: AirExecutorClient, submit: Submit, home: Home) -> None:
    submit("a", trigger="executor")
    submit("b", [Task("python", ["my-workload.json"])])
    for name in ("a", "b"):
        finish(home, name)
    with pytest.raises(JobBusyError, match="clear its task in Airflow"):
        api.retry("a")
    assert api.retry("b").attempt == 2


def test_resubmitting_checks_before_it_changes_anything(api: AirExecutorClient, submit: Submit, home: Home) -> None:
    from air_executor.model import Job

    submit("a")
    done = finish(home, "a")
    with pytest.raises(InvalidJobError):
        api.resubmit("a", store.Submission(Job("a"), [Task("")]))
    assert api.get_job("a").updated_at == done.updated_at


# --- Logs and pruning ---


def test_logs(api: AirExecutorClient, submit: Submit, home: Home) -> None:
    submit("a", [Task("true", id="one"), Task("true", id="two")])
    assert api.logs("a") == ""
    home.job("a").log("two").write_bytes(b"2\xff\n")
    home.job("a").log("one").write_bytes(b"1\n")
    assert api.logs("a") == "1\n2�\n" and api.logs("a", "two") == "2�\n"
    with pytest.raises(NotFoundError, match="has no task 'three'; it has one, two"):
        api.logs("a", "three")
    home.job("a").tasks.write_text("")
    assert api.logs("a") == "1\n2�\n"


def test_pruning_takes_what_is_over_and_old_enough(api: AirExecutorClient, submit: Submit, home: Home) -> None:
    for name in ("waiting", "done", "failed", "locked"):
        submit(name)
    for name in ("done", "locked"):
        finish(home, name)
    finish(home, "failed", JobState.FAILED)
    with held.HeldJob.acquire(home, "locked"):
        assert api.prune(older_than=3600) == []
        assert sorted(api.prune(older_than=0, failed_older_than=3600, dry_run=True)) == ["done", "locked"]
        assert api.prune(older_than=0, failed_older_than=3600) == ["done"]
    assert api.prune(older_than=3600, failed_older_than=0) == ["failed"]
    assert sorted(store.names(home)) == ["locked", "waiting"]
    assert sorted(path.name for path in home.jobs.iterdir()) == ["locked", "waiting"]


def test_two_may_prune_at_the_same_time(
    api: AirExecutorClient, submit: Submit, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    for name in ("a", "b"):
        submit(name)
        finish(home, name)
    chosen = pruning.choose(home, retention.Policy(completed_age=-1))
    shutil.rmtree(home.job("a").root)  # by the other
    monkeypatch.setattr(pruning, "choose", lambda *_: chosen)
    assert api.prune(older_than=-1) == ["b"]


# --- Ids ---


def test_a_job_is_known_by_its_name_and_by_its_id(api: AirExecutorClient) -> None:
    job_id = api.create_job("a.b", [{"command": "true"}])
    assert job_id.startswith("a.b.")
    assert api.get_job(job_id) == api.get_job("a.b") and api.get_tasks(job_id) == api.get_tasks("a.b")
    assert api.cancel(job_id).state is JobState.CANCELLED
    assert api.retry(job_id).attempt == 2 and api.log_paths(job_id) == []
    api.cancel(job_id)
    assert api.wait(job_id, 0).name == "a.b"


def test_an_id_is_of_one_job_alone(api: AirExecutorClient) -> None:
    """One that was pruned is not taken for a later one of its name; a name that looks like an id is a name."""
    job_id = api.create_job("a", [{"command": "true"}])
    other = f"a.{int(job_id[-8:], 16) ^ 1:08x}"
    with pytest.raises(NotFoundError, match="but another one named a"):
        api.get_job(other)
    api.create_job(other, [{"command": "true"}])
    assert api.get_job(other).name == other
    with pytest.raises(NotFoundError, match=r"no job named b\.00000000"):
        api.get_job("b.00000000")
    with pytest.raises(InvalidNameError):
        api.get_job("../a.00000000")
