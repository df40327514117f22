"""Damaged files name processes, too. Nobody is killed, or stopped, because of what such a file says."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor import AirExecutorClient, JobState, held, model, processes, runners, spool, testing
from air_executor.model import ExitKind, TaskStatus
from air_executor.paths import Home
from air_executor.sightings import Sightings
from air_executor.testing import RunnerProcess, wait_for
from air_runner import recovery

LEADER = "import subprocess; print(subprocess.Popen(['sleep', '300'], env={}).pid, flush=True)"
"""Leads a session, and dies; what it leaves carries nothing of anybody's."""


@pytest.fixture
def dead_leader() -> Iterator[tuple[model.Process, int]]:
    """A process that led a session and is gone, and a stranger that it left there."""
    with subprocess.Popen([sys.executable, "-c", LEADER], stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        identity = processes.identify(leader.pid, "dead")
        stranger = int(leader.stdout.readline())
    assert processes.session_of(stranger) == leader.pid
    yield identity, stranger
    processes.kill_tree(stranger)


def change_state(home: Home, name: str, **changes: Any) -> None:
    path = home.job(name).state
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def lose(home: Home, client: AirExecutorClient, name: str, process: model.Process) -> None:
    """Let a job have been started by a runner that is gone, and its file name that process."""
    client.create_job(name, [{"command": "true"}])
    home.claims("dead").mkdir(exist_ok=True)
    assert spool.claim(home, spool.marker_of(client.get_job(name)), "dead")
    gone, moment = model.Process(processes.host(), "the boot before", 1, 1), model.now()
    runners.write(home, runners.RunnerInfo("dead", gone, ["default"], 1, "fork", "0", moment, moment, 3.0))
    with held.HeldJob.acquire(home, name) as job:
        job.start(process, by="runner dead")
        job.set_task(job.tasks[0], TaskStatus.RUNNING)


@pytest.mark.parametrize("started", ["when it did", "before the leader", "after the leader"])
def test_the_session_of_another_dead_process_is_left_alone(
    home: Home, client: AirExecutorClient, dead_leader: tuple[model.Process, int], started: str
) -> None:
    leader, stranger = dead_leader
    leader.start_time += {"when it did": 0, "before the leader": -1000, "after the leader": 1000}[started]
    lose(home, client, "a", leader)
    with testing.running_runner(home):
        job = client.wait("a", 20)
    assert job.state is JobState.FAILED and job.exit is not None and job.exit.kind is ExitKind.RUNNER_LOST
    assert processes.start_time(stranger) is not None


def task(path: Path) -> dict[str, Any]:
    return {"command": "sh", "args": ["-c", f"while ! test -e {path}; do sleep 0.05; done"]}


def runner_of(home: Home, name: str) -> dict[str, Any]:
    found = json.loads(home.job(name).state.read_text())["runner"]
    assert isinstance(found, dict)
    return found


def test_another_jobs_process_is_not_taken_for_a_jobs_own(
    home: Home, client: AirExecutorClient, tmp_path: Path
) -> None:
    """Two that were handed over, whose files were confused: stopping one must not stop the other."""
    first = RunnerProcess(home)
    for name in ("a", "b"):
        client.create_job(name, [task(tmp_path / name)])
        wait_for(lambda name=name: client.get_job(name).state is JobState.WORKING, what=f"{name} to work")
    first.kill()
    own = runner_of(home, "a")
    change_state(home, "a", runner=runner_of(home, "b"))
    second = RunnerProcess(home)
    wait_for(lambda: spool.claimed(home, second.id) == ["a", "b"], what="the takeover")
    client.cancel("a", by="the test")
    client.create_job("later", [{"command": "true"}])
    assert client.wait("later", 20).state is JobState.COMPLETED, "the request was seen before"
    (tmp_path / "b").touch()
    assert client.wait("b", 20).state is JobState.COMPLETED
    processes.kill_tree(own["pid"])
    job = client.wait("a", 20)
    assert job.exit is not None and (job.state, job.exit.reason) == (JobState.CANCELLED, "cancelled by the test")
    testing.end_everything(home, first, second)


def test_a_living_stranger_is_not_watched_as_if_it_had_the_job(home: Home, client: AirExecutorClient) -> None:
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as stranger, contextlib.ExitStack() as stack:
        stack.callback(stranger.kill)
        lose(home, client, "a", processes.identify(stranger.pid, "dead"))
        home.claims("r").mkdir()
        assert list(recovery.recover(home, "r", (), Sightings())) == ["a"], "brought to rest, not adopted"
        assert client.get_job("a").state is JobState.FAILED
        assert stranger.poll() is None


BODY = """
import os, sys, time
from pathlib import Path
from air_executor import held, model, processes
from air_executor.paths import Home
job = held.HeldJob.acquire(Home(Path(sys.argv[1])), "a")
job.start(processes.identify(os.getpid(), "dead"), by="runner dead")
job.set_task(job.tasks[0], model.TaskStatus.RUNNING)
child = os.fork()
if child:
    print(child, flush=True)
    os._exit(9)
time.sleep(300)
"""
"""An ephemeral runner that dies, and leaves a fork of a body that ran in it."""


def test_what_a_body_left_that_ran_in_its_ephemeral_runner_is_no_stranger(
    home: Home, client: AirExecutorClient
) -> None:
    client.create_job("a", [{"command": "true"}])
    home.claims("r").mkdir()
    assert spool.claim(home, spool.marker_of(client.get_job("a")), "r")
    argv = [sys.executable, "-c", BODY, str(home.root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as ephemeral:
        assert ephemeral.stdout is not None
        child = int(ephemeral.stdout.readline())
        ephemeral.wait(20)
        assert list(recovery.recover(home, "r", (), Sightings())) == ["a"]
    assert client.get_job("a").state is JobState.FAILED
    assert processes.start_time(child) is None
