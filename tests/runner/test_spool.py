"""The spool is an index: whatever of it is deleted while jobs wait and run is made again from the jobs."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from air_executor import AirExecutorClient, JobState, processes, spool
from air_executor.model import Job, Task
from air_executor.paths import Home
from air_executor.store import Submission, submit_batch
from air_executor.testing import wait_for
from tests.runner.conftest import StartRunner
from tests.runner.test_lifecycle import ended, working

RUNNING, WAITING = 10, 100


def script(tmp_path: Path, name: str, until: str = "true") -> Task:
    return Task("sh", ["-c", f"echo {name} >> {tmp_path}/ran; until {until}; do sleep 0.05; done"])


def files(home: Home) -> list[Path]:
    return [path for path in home.spool.rglob("*") if path.is_file()]


def test_what_runs_on_is_ended_before_its_job_although_the_spool_is_gone(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path
) -> None:
    runner = start_runner()
    client.create_job("a", [{"command": "sh", "args": ["-c", f"echo $$ > {tmp_path}/pid; exec sleep 300"]}])
    job = working(client, "a")
    pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()))
    assert job.runner is not None
    runner.kill()
    os.kill(job.runner.pid, signal.SIGKILL)
    shutil.rmtree(home.spool)
    start_runner()
    assert ended(client, "a").state is JobState.FAILED
    assert processes.start_time(pid) is None


@pytest.mark.parametrize("what", ["spool", "waiting", "claimed", "all files"])
def test_deleted_while_jobs_wait_and_run(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path, what: str
) -> None:
    runner = start_runner("--slots", str(RUNNING))
    long = [
        Submission(Job(f"long{n}"), [script(tmp_path, f"long{n}", f"test -e {tmp_path}/go")]) for n in range(RUNNING)
    ]
    assert not submit_batch(home, long)
    for each in long:
        working(client, each.job.name)
    short = [Submission(Job(f"short{n}", notify=True), [script(tmp_path, f"short{n}")]) for n in range(WAITING)]
    assert not submit_batch(home, short)
    if what == "all files":
        for path in files(home):
            path.unlink()
    else:
        shutil.rmtree(home.spool if what == "spool" else home.spool / what)
    wait_for(lambda: len(spool.claimed(home, runner.id)) == RUNNING, what="the claims, made again")
    if what == "all files":  # nobody can notice at once that single files are gone; repair brings them back
        assert client.get_job("short0").state is JobState.WAITING
        from air_executor import repair

        assert len(list(repair.repair(home))) == WAITING
    (tmp_path / "go").touch()
    names = [each.job.name for each in (*long, *short)]
    assert {ended(client, name).state for name in names} == {JobState.COMPLETED}
    assert sorted((tmp_path / "ran").read_text().split()) == sorted(names)
    wait_for(lambda: sorted(spool.finished(home)) == sorted(each.job.name for each in short), what="the announcements")
    client.create_job("after", [script(tmp_path, "after")])
    assert ended(client, "after").state is JobState.COMPLETED
