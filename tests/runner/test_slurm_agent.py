"""The agent on a node, when Slurm ends its job: it signals all processes at once, and says why when it is asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from air_executor import AirExecutorClient, model, spool, store, temporaries, testing
from air_executor.paths import Home
from air_executor.slurm import record
from air_runner.slurm import node

SAYS_LATE = """#!/bin/sh
sleep 0.5
echo "JobId=7 JobState=COMPLETING Reason=TimeLimit TimeLimit=00:01:00"
"""
"""A controller that is busy: a real one answers in some milliseconds, mostly before the task is dead."""


@pytest.fixture
def agent(home: Home, client: AirExecutorClient, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """That of a job `long`, whose task is running."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(SAYS_LATE)
    scontrol.chmod(0o700)
    client.create_job("long", [{"command": "sleep", "args": ["600"]}])
    (marker,) = spool.waiting(home, "default")
    spool.claim(home, marker, "r")
    record.write(home.job("long"), record.Record(1, "long.aaaaaaaabbbbbbbb", id="7"), durable=False)
    argv = [sys.executable, "-m", "air_runner.slurm.node", "--home", str(home.root), "--runner", "r"]
    argv += ["--submission", "long.aaaaaaaabbbbbbbb", "--grace", "5", "--output-mb", "0", "long"]
    path = f"{scontrol.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLURM_JOB_ID": "7"}
    with subprocess.Popen(argv, env=environment, start_new_session=True) as process:
        testing.wait_for(lambda: client.get_tasks("long")[0].status is model.TaskStatus.RUNNING)
        yield process


def test_what_dies_of_slurms_signal_has_slurms_reason(
    home: Home, client: AirExecutorClient, agent: subprocess.Popen[bytes]
) -> None:
    for process in psutil.Process(agent.pid).children(recursive=True)[::-1]:
        process.send_signal(signal.SIGTERM)
    agent.send_signal(signal.SIGTERM)
    agent.wait(20)
    job = store.read(home, "long")
    assert job.exit is not None
    assert (job.state, job.exit.kind) == (model.JobState.FAILED, model.ExitKind.TIMEOUT)
    assert job.exit.reason == "the Slurm job 7 reached its time limit of 00:01:00"
    assert client.get_tasks("long")[0].error == job.exit.reason
    assert spool.claimed(home, "r") == []


def test_an_attempt_before_that_this_node_still_sees_is_not_the_job(
    home: Home, client: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache of directories, as NFS has one: what was seen once is seen until something here is changed."""
    client.create_job("again", [{"command": "true"}])
    paths, now = home.job("again"), "again.aaaaaaaacccccccc"
    record.write(paths, record.Record(1, "again.aaaaaaaabbbbbbbb"), durable=False)
    monkeypatch.setattr(temporaries, "refresh", lambda _: record.write(paths, record.Record(1, now), durable=False))
    found = node.find_expected(home, "again", now)
    assert found is not None and found.name == "again"
    assert node.find_expected(home, "again", "again.aaaaaaaabbbbbbbb") is None
