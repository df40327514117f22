"""A clock that is set an hour ahead or back, or is an hour off all the time: nothing is killed, lost or run twice."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor import AirExecutorClient, JobState, processes, runners, spool
from air_executor.paths import Home
from air_executor.testing import RunnerProcess, wait_for
from tests.faults.clock import Host

HOUR = 3600.0
HEARTBEAT = 0.3
ROUNDS = 12
"""Heartbeats in which a runner does everything once that it does by the clock, its repair aside."""
STEPS = [pytest.param(HOUR, id="ahead"), pytest.param(-HOUR, id="back")]


@pytest.fixture
def home(home: Home) -> Home:
    """With heartbeats that come often, as the tests wait for some."""
    home.config.write_text(f"[runner]\nheartbeat = {HEARTBEAT}\n")
    return home


@pytest.fixture
def host(home: Home, tmp_path: Path) -> Iterator[Host]:
    host = Host(home, tmp_path)
    yield host
    host.end()


@pytest.fixture
def ghost(home: Home, tmp_path: Path) -> Iterator[Host]:
    ghost = Host(home, tmp_path, "ghost")
    yield ghost
    ghost.end()


def task(tmp_path: Path, name: str, **options: object) -> dict[str, object]:
    """It notes that it ran, says so, and ends when the test wants it."""
    script = f"echo {name} >>{tmp_path}/ran; echo {name} runs; while ! test -e {tmp_path}/go; do sleep 0.05; done"
    return {"command": "sh", "args": ["-c", script], **options}


def wait_working(client: AirExecutorClient, *names: str) -> None:
    for name in names:
        wait_for(lambda: client.get_job(name).state is JobState.WORKING, what=f"{name} working")  # noqa: B023


def wait_rounds(home: Home, *started: RunnerProcess) -> None:
    """Until the runners have been through everything that they do by the clock."""
    seen: dict[str, set[str]] = {runner.id: set() for runner in started}

    def often() -> bool:
        for runner_id, beats in seen.items():
            beats.add(runners.read(home, runner_id).heartbeat_at)
        return all(len(beats) > ROUNDS for beats in seen.values())

    wait_for(often, what="some heartbeats")


def finished(process: subprocess.Popen[str]) -> str:
    """What a command said that ended well."""
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


@pytest.mark.parametrize("step", STEPS)
def test_the_clock_is_set_while_jobs_wait_and_run(
    client: AirExecutorClient, home: Home, host: Host, tmp_path: Path, step: float
) -> None:
    main = host.start_runner("--slots", "3")
    single = host.start_runner("--slots", "1", "--queues", "single")
    limits: dict[str, Any] = {"timeout": 1800, "memory_mb": 4000, "output_mb": 100}
    client.create_job("job-limits", [task(tmp_path, "job-limits")], **limits)
    client.create_job("task-limits", [task(tmp_path, "task-limits", **limits)])
    client.create_job("no-limits", [task(tmp_path, "no-limits")])
    client.create_job("waits", [task(tmp_path, "waits")], timeout=1800)
    for name in ("first", "second", "third"):
        client.create_job(name, [task(tmp_path, name)], queue="single")
    wait_working(client, "job-limits", "task-limits", "no-limits", "first")
    waiter = host.start("wait", "--timeout", "30m", "waits", "job-limits")
    follower = host.start("logs", "--follow", "job-limits")
    host.step_to(step)
    host.submit("later", task(tmp_path, "later"), queue="single")
    assert host.living() == {main.id, single.id}
    assert host.json("status")["status"] == "healthy"
    assert host.json("repair") == []
    wait_rounds(home, main, single)
    assert host.living() == {main.id, single.id}
    (tmp_path / "go").touch()
    assert "job-limits runs" in finished(follower)
    finished(waiter)
    names = {"job-limits", "task-limits", "no-limits", "waits", "first", "second", "third", "later"}
    for name in names:
        job = client.wait(name, 30)
        assert job.state is JobState.COMPLETED and job.crashes == 0, job.exit
        assert job.usage is not None and job.usage["wall_s"] < HOUR / 4
    ran = (tmp_path / "ran").read_text().split()
    assert sorted(ran) == sorted(names)
    order = [name for name in ran if name in ("first", "second", "third", "later")]
    expected = ["first", "second", "third"]
    expected.insert(3 if step > 0 else 1, "later")  # behind a clock that was set back, it is the oldest
    assert order == expected
    assert host.json("prune", "--older-than", "2h", "--dry-run")["removed"] == []
    for runner in (main, single):
        assert runner.popen.poll() is None
        runner.kill()
    assert host.living() == set()


def test_two_hosts_whose_clocks_differ_by_an_hour(
    client: AirExecutorClient, home: Home, host: Host, ghost: Host, tmp_path: Path
) -> None:
    ghost.step_to(HOUR)
    far = ghost.start_runner("--name", "far", "--queues", "far")
    here = host.start_runner("--name", "here")
    host.submit("far-job", task(tmp_path, "far-job"), queue="far")
    ghost.submit("near-job", task(tmp_path, "near-job"))
    wait_working(client, "far-job", "near-job")
    for offset in (HOUR, -HOUR):
        ghost.step_to(offset)
        wait_rounds(home, far, here)
        for observer in (host, ghost):
            assert observer.living() == {"far", "here"}
        assert ghost.json("repair") == []
        assert spool.claimed(home, "far") == ["far-job"] and spool.claimed(home, "here") == ["near-job"]
    assert host.json("status")["status"] == "healthy"
    far_job = client.get_job("far-job")
    far.kill()
    wait_for(lambda: spool.claimed(home, "here") == ["far-job", "near-job"], 15, "the takeover")
    assert host.living() == {"here"}
    assert far_job.runner is not None
    processes.kill_tree(far_job.runner.pid)
    assert client.wait("far-job", 15).state is JobState.FAILED
    (tmp_path / "go").touch()
    assert client.wait("near-job", 30).state is JobState.COMPLETED
    assert sorted((tmp_path / "ran").read_text().split()) == ["far-job", "near-job"]
