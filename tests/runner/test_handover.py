"""Jobs that go from one runner to the next: handing over, upgrading, other hosts that die."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from air_executor import AirExecutorClient, JobState, processes, runners, spool
from air_executor.errors import RunnerError
from air_executor.model import ExitKind
from air_executor.paths import Home
from air_executor.testing import END_TIMEOUT, RunnerProcess, wait_for
from tests.runner.conftest import StartRunner
from tests.runner.test_lifecycle import ended, shell, working

REPOSITORY = Path(__file__).parents[2]


def waiting_task(tmp_path: Path, name: str) -> dict[str, object]:
    return shell(f"echo {name} >> {tmp_path}/ran; while ! test -e {tmp_path}/go; do sleep 0.05; done")


def alive(client: AirExecutorClient, name: str) -> bool:
    process = client.get_job(name).runner
    return process is not None and bool(processes.is_alive(process))


@pytest.mark.parametrize("launcher", ["fork", "exec"])
def test_jobs_that_are_handed_over_go_on_under_the_next_runner(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path, launcher: str
) -> None:
    first = start_runner("--launcher", launcher, "--slots", "3")
    for name in ("a", "b", "c", "later"):
        client.create_job(name, [waiting_task(tmp_path, name)])
    for name in ("a", "b", "c"):
        working(client, name)
    runners.tell(home, first.id, "handover")
    assert first.wait() == 0
    assert all(alive(client, name) for name in ("a", "b", "c"))
    assert client.get_job("later").state is JobState.WAITING
    second = start_runner("--launcher", launcher)
    wait_for(lambda: spool.claimed(home, second.id) == ["a", "b", "c", "later"], what="the takeover")
    wait_for(lambda: not home.runner(first.id).exists(), what="the end of what the first runner left")
    (tmp_path / "go").touch()
    for name in ("a", "b", "c", "later"):
        job = ended(client, name)
        assert (job.state, job.crashes) == (JobState.COMPLETED, 0)
    assert sorted((tmp_path / "ran").read_text().split()) == ["a", "b", "c", "later"]


def test_jobs_that_were_just_claimed_are_handed_over_too(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path
) -> None:
    first = start_runner("--handover")
    for number in range(30):
        client.create_job(f"j{number}", [shell(f"echo {number} >> {tmp_path}/ran")])
    first.signal(signal.SIGTERM)
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    start_runner()
    for number in range(30):
        assert ended(client, f"j{number}").state is JobState.COMPLETED
    assert sorted(map(int, (tmp_path / "ran").read_text().split())) == list(range(30))


def test_a_stop_without_handover_waits_for_the_jobs(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path
) -> None:
    first = start_runner()
    client.create_job("a", [waiting_task(tmp_path, "a")])
    working(client, "a")
    runners.tell(home, first.id, "stop")
    wait_for(lambda: runners.read(home, first.id).draining, what="the draining")
    second = start_runner()  # at once beside it, as in an upgrade
    client.create_job("b", [shell("true")])
    job = ended(client, "b")
    assert job.runner is not None and job.runner.runner == second.id
    assert first.popen.poll() is None
    (tmp_path / "go").touch()
    assert ended(client, "a").state is JobState.COMPLETED
    assert first.wait() == 0


def test_a_name_is_taken_by_one_runner_only(home: Home, start_runner: StartRunner) -> None:
    argv = [sys.executable, "-m", "air_runner", "--home", str(home.root), "--name", "one"]
    both = [subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    wait_for(lambda: [each for each in both if each.poll() is not None], what="the end of one of them")
    loser, winner = sorted(both, key=lambda each: each.poll() is None)
    assert winner.poll() is None
    assert "a runner named one is running already" in loser.communicate()[1]
    assert loser.returncode == RunnerError.exit_code
    assert runners.read(home, "one").process.pid == winner.pid
    winner.terminate()
    winner.communicate(timeout=END_TIMEOUT)


def test_the_service_starts_a_runner_that_hands_over(home: Home, tmp_path: Path, client: AirExecutorClient) -> None:
    unit = (REPOSITORY / "runner/systemd/air-executor-runner.service").read_text()
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    assert settings["KillMode"] == "process" and settings["Restart"] == "always"
    words = shlex.split(settings["ExecStart"].replace("%H", "myhost").replace("airflow_plugin.workload", "json"))
    argv = [sys.executable, "-m", "air_executor", *words[1:]]
    service = subprocess.Popen(argv, env={**os.environ, "AIR_EXECUTOR_HOME": str(home.root)})
    wait_for(lambda: home.runner("myhost").exists(), what="the runner")
    client.create_job("a", [waiting_task(tmp_path, "a")])
    working(client, "a")
    service.terminate()
    assert service.wait(END_TIMEOUT) == 0
    assert alive(client, "a")
    service = subprocess.Popen(argv, env={**os.environ, "AIR_EXECUTOR_HOME": str(home.root)})
    wait_for(lambda: runners.read(home, "myhost").process.pid == service.pid, what="the next runner")
    (tmp_path / "go").touch()
    assert ended(client, "a").state is JobState.COMPLETED
    service.terminate()
    assert service.wait(END_TIMEOUT) == 0


# --- Other hosts ---


GHOST = ["unshare", "--user", "--map-root-user", "--uts", "sh", "-c", 'hostname ghost; exec "$@"', "-"]
"""What follows runs on a host of another name: a namespace of this machine."""


def start_ghost(home: Home) -> RunnerProcess:
    home.config.write_text("[runner]\nheartbeat = 0.3\n")
    ghost = RunnerProcess(home, ["--name", "ghost", "--slots", "1"], GHOST)
    assert ghost.info.process.host == "ghost"
    return ghost


def test_a_dead_host_is_noticed_and_its_jobs_come_to_rest(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path
) -> None:
    ghost = start_ghost(home)
    client.create_job("started", [waiting_task(tmp_path, "started")])
    client.create_job("waits", [shell("true")])
    job = working(client, "started")
    here = start_runner("--queues", "elsewhere,default")
    assert ended(client, "waits").state is JobState.COMPLETED
    assert job.runner is not None and job.runner.host == "ghost"
    ghost.kill()
    beat = runners.read(home, "ghost").heartbeat_at
    wait_for(lambda: spool.claimed(home, here.id) == ["started"], what="the takeover")
    assert not client.get_job("started").state.terminal  # its lock is held: it may still be alive
    processes.kill_tree(job.runner.pid)
    job = ended(client, "started")
    assert (job.state, job.exit and job.exit.kind) == (JobState.FAILED, ExitKind.RUNNER_LOST)
    assert job.exit is not None and "on ghost) is gone" in job.exit.reason and beat in job.exit.reason
    wait_for(lambda: not home.runner("ghost").exists(), what="the end of what the other host left")


def test_a_job_that_goes_on_on_a_host_whose_runner_died_keeps_its_result(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path
) -> None:
    ghost = start_ghost(home)
    client.create_job("a", [waiting_task(tmp_path, "a")])
    working(client, "a")
    here = start_runner()
    ghost.kill()
    wait_for(lambda: spool.claimed(home, here.id) == ["a"], what="the takeover")
    (tmp_path / "go").touch()
    assert ended(client, "a").state is JobState.COMPLETED
    wait_for(lambda: not spool.claimed(home, here.id), what="the end of the claim")
