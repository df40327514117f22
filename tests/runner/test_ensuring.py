"""Jobs that shall be there, waited for and reported of, under a real runner."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from air_executor import AirExecutorClient, JobState, existing, processes
from air_executor.awaiting import JobWatch
from air_executor.listeners import Listener
from air_executor.model import Job, Task
from air_executor.paths import Home
from air_executor.store import Submission
from air_executor.testing import wait_for
from tests.runner.conftest import StartRunner


def submission(script: str, name: str = "a", **labels: str) -> Submission:
    return Submission(Job(name, labels=labels), [Task("sh", ["-c", script], id="body")])


def counting(record: Path, then: str = "") -> str:
    """A body that is counted."""
    return f"echo ran >>{record}; {then}"


def runs(record: Path) -> int:
    return len(record.read_text().split()) if record.exists() else 0


class Waiter:
    """Waits for the ends of jobs."""

    def __init__(self, home: Home, poll_interval: float) -> None:
        self.watch = JobWatch(home, poll_interval=poll_interval)
        self.told: list[str] = []

    def __call__(self, name: str) -> None:
        self.told.append(name)

    def wait(self, *names: str) -> None:
        wait_for(lambda: sorted(self.told) == sorted(names), 40, f"the ends of {names}, told {self.told},")


def test_a_hundred_jobs_are_waited_for(client: AirExecutorClient, home: Home, start_runner: StartRunner) -> None:
    names = [f"job-{number}" for number in range(100)]
    waiter = Waiter(home, poll_interval=3600.0)  # what is told was heard
    for name in names:
        client.ensure(submission("true", name))
        waiter.watch.add(name, waiter)
    start_runner()
    waiter.wait(*names)
    assert {client.get_job(name).state for name in names} == {JobState.COMPLETED}
    wait_for(lambda: not list(home.awaited.iterdir()), what="the end of all waits")


def test_who_waits_is_told_of_an_end_that_another_runner_writes(
    client: AirExecutorClient, home: Home, start_runner: StartRunner
) -> None:
    """The runner and the ephemeral runner are killed; the next runner brings the job to rest."""
    first = start_runner()
    client.ensure(submission("exec sleep 600"))
    waiter = Waiter(home, poll_interval=3600.0)
    waiter.watch.add("a", waiter)
    wait_for(lambda: client.get_tasks("a")[0].status == "running", what="a running task")
    first.kill()
    process = client.get_job("a").runner
    assert process is not None and waiter.told == []
    processes.kill_tree(process.pid)
    start_runner()
    waiter.wait("a")
    assert client.get_job("a").state is JobState.FAILED


def test_waiters_live_through_the_deletion_of_the_spool_under_a_runner(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path
) -> None:
    start_runner()
    go = tmp_path / "go"
    client.ensure(submission(f"while ! test -e {go}; do sleep 0.05; done"))
    waiter = Waiter(home, poll_interval=0.05)
    waiter.watch.add("a", waiter)
    wait_for(lambda: client.get_tasks("a")[0].status == "running", what="a running task")
    shutil.rmtree(home.spool, ignore_errors=True)  # it is made again while it goes
    wait_for(lambda: (home.awaited / "a").exists(), what="the wait, made again")
    go.touch()
    waiter.wait("a")
    assert client.get_job("a").state is JobState.COMPLETED


def test_a_listener_hears_of_all_jobs_of_a_pipeline(
    client: AirExecutorClient, home: Home, start_runner: StartRunner
) -> None:
    listener, woken = Listener(home, "pipeline", "nightly", "x"), threading.Event()
    listener.open()
    listener.watch(woken.set)
    start_runner()
    for number in range(5):
        client.ensure(submission("true", f"n{number}", pipeline="nightly"))
        client.ensure(submission("true", f"o{number}", pipeline="hourly"))
    expected = [(f"n{number}", 1) for number in range(5)]
    wait_for(lambda: woken.is_set() and sorted(listener.pending()) == expected, what="the ends")
    listener.unwatch(woken.set)


def test_a_retry_joins_a_job_that_runs_and_takes_one_that_completed(
    client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path
) -> None:
    start_runner()
    record, go = tmp_path / "record", tmp_path / "go"
    body = counting(record, f"while ! test -e {go}; do sleep 0.05; done")
    assert client.ensure(submission(body))[1] == "created"
    wait_for(lambda: runs(record), what="a run")
    assert client.ensure(submission(body))[1] == "attached"
    go.touch()
    client.wait("a", 30)
    assert client.ensure(submission(body))[1] == "reused"
    assert runs(record) == 1
    job, what = client.ensure(submission(body), "restart")
    assert (what, job.attempt, client.wait("a", 30).state, runs(record)) == ("restarted", 2, JobState.COMPLETED, 2)


def test_a_failed_job_is_started_anew_with_what_is_submitted_now(
    client: AirExecutorClient, start_runner: StartRunner
) -> None:
    start_runner()
    client.ensure(submission("seq 1 30; echo wrong >&2; exit 3"))
    assert client.wait("a", 30).state is JobState.FAILED
    said = client.failure("a").splitlines()
    assert "exit code 3" in said[1] and said[1].startswith("task body")
    assert [line.strip() for line in said[-20:]] == [*(str(number) for number in range(12, 31)), "wrong"]
    job, what = client.ensure(submission("echo right"))
    assert (what, job.attempt) == ("restarted", 2)
    assert client.wait("a", 30).state is JobState.COMPLETED
    outcome = client.outcome("a")
    assert (outcome["state"], outcome["tasks"]) == ("completed", {"body": "completed"})
    assert outcome["usage"]["wall_s"] >= 0


def test_a_restart_ends_what_runs_and_all_who_ask_get_the_same_attempt(
    client: AirExecutorClient,
    home: Home,
    start_runner: StartRunner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start_runner()
    record = tmp_path / "record"
    client.ensure(submission(counting(record, "exec sleep 600")))
    wait_for(lambda: runs(record), what="a run")
    barrier = threading.Barrier(5, timeout=30)
    came: list[tuple[str, int]] = []
    init = existing._Call.__init__

    def look_and_wait(self: existing._Call, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]
        barrier.wait()

    monkeypatch.setattr(existing._Call, "__init__", look_and_wait)

    def restart() -> None:
        job, what = AirExecutorClient(home.root).ensure(submission(counting(record)), "restart")
        came.append((what, job.attempt))

    threads = [threading.Thread(target=restart) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert came.count(("restarted", 2)) == 1 and {attempt for _, attempt in came} == {2}
    assert client.wait("a", 30).state is JobState.COMPLETED
    assert runs(record) == 2


@pytest.mark.parametrize("policy", ["reuse", "attach"])
def test_a_job_that_is_being_stopped_is_not_joined(
    client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path, policy: str
) -> None:
    start_runner()
    record = tmp_path / "record"
    client.ensure(submission(counting(record, "trap 'sleep 0.3; exit 1' TERM; while :; do sleep 0.05; done")))
    wait_for(lambda: runs(record), what="a run")
    client.cancel("a")
    job, what = client.ensure(submission(counting(record)), policy)
    if policy == "attach":
        assert (what, job.state, runs(record)) == ("reused", JobState.CANCELLED, 1)
    else:
        assert (what, job.attempt) == ("restarted", 2)
        assert client.wait("a", 30).state is JobState.COMPLETED and runs(record) == 2


def test_completed_tasks_are_kept_of_a_job_that_is_started_anew(
    client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path
) -> None:
    start_runner()

    def ensure(**options: bool) -> str:
        script = "echo one >> ran; echo 1 > $AIR_EXECUTOR_OUTPUT"
        one = Task("sh", ["-c", script], id="one", cwd=str(tmp_path))
        two = Task("sh", ["-c", "[ -e good ]"], id="two", cwd=str(tmp_path))
        job, how = client.ensure(Submission(Job("a"), [one, two]), **options)
        return f"{how} {client.wait(job.name, 30).state}"

    assert ensure() == "created failed"
    (tmp_path / "good").touch()
    assert ensure(keep_completed=True) == "restarted completed"
    assert (tmp_path / "ran").read_text() == "one\n" and client.outcome("a")["result"] == {"one": 1}
    assert ensure() == "reused completed"
