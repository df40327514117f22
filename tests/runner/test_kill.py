"""Kill means kill: nothing that a job started outlives it, however it tried to get away."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from air_executor import AirExecutorClient, JobState, paths, processes
from air_executor.model import ExitKind
from air_executor.testing import wait_for
from air_runner import orphans, ours, template
from tests.runner.conftest import StartRunner

ESCAPE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def note():
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()}\\n")
if os.fork() == 0:
    os.setsid()
    note()
    time.sleep(300)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        note()
        os.execve("/bin/sleep", ["sleep", "300"], {})
    os._exit(0)
note()
time.sleep(300)
"""
"""Ignores TERM; has a child in a session of its own, and a daemon that carries nothing of where it came from."""


class Fugitives:
    """The processes of a task that tries to get away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.task: dict[str, object] = {"command": sys.executable, "args": ["-c", ESCAPE, str(path)], "id": "t"}

    def __enter__(self) -> Fugitives:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.path.read_text().split() if self.path.exists() else []:
            processes.kill_tree(int(pid))

    def all(self) -> list[psutil.Process]:
        """Them, once they have dispersed."""
        wait_for(lambda: self.path.exists() and len(self.path.read_text().split()) == 3, what="three processes")
        found = [psutil.Process(int(pid)) for pid in self.path.read_text().split()]
        wait_for(lambda: any(process.cmdline() == ["sleep", "300"] for process in found), what="the daemon")
        return found


def alive(found: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in found if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def fugitives(tmp_path: Path) -> Iterator[Fugitives]:
    with Fugitives(tmp_path / "pids") as fugitives:
        yield fugitives


def shell(script: str, **options: object) -> dict[str, object]:
    return {"command": "sh", "args": ["-c", script], **options}


@pytest.mark.parametrize("launcher", ["fork", "exec"])
def test_nothing_is_left_of_a_job(
    client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path, launcher: str
) -> None:
    start_runner("--launcher", launcher)
    kinds = {
        "cancel": ExitKind.CANCELLED,
        "kill": ExitKind.SIGNAL,
        "timeout": ExitKind.TIMEOUT,
        "timeout-of-task": ExitKind.TIMEOUT,
    }
    with contextlib.ExitStack() as stack:
        fugitives = {name: stack.enter_context(Fugitives(tmp_path / name)) for name in kinds}
        for name, each in fugitives.items():
            task = {**each.task, **({"timeout": 3} if name == "timeout-of-task" else {})}
            client.create_job(name, [task], **({"timeout": 3} if name == "timeout" else {}))
        client.create_job("innocent", [shell("sleep 5; echo fine")])
        found = {name: each.all() for name, each in fugitives.items()}
        client.cancel("cancel")
        runner = client.get_job("kill").runner
        assert runner is not None
        os.kill(runner.pid, signal.SIGKILL)
        for name, kind in kinds.items():
            job = client.wait(name, 20)
            assert alive(found[name]) == [], f"{name}: they are gone before the end is written"
            assert job.exit is not None and job.exit.kind is kind
    assert client.wait("innocent", 20).state is JobState.COMPLETED


def test_what_a_stopped_task_left_does_not_wait_for_the_other_tasks(
    client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path
) -> None:
    start_runner()
    left = f"(setsid sleep 300 & echo $! > {tmp_path}/pid); sleep 300"
    client.create_job("a", [shell(left, id="t", timeout=0.5), shell("sleep 300", id="other")])
    pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()))
    wait_for(lambda: processes.start_time(pid) is None, what="the end of what it left")
    assert client.get_job("a").state is JobState.WORKING


def test_the_ephemeral_runner_may_write_the_end_when_all_below_it_was_killed(
    client: AirExecutorClient, start_runner: StartRunner, fugitives: Fugitives
) -> None:
    """So that Airflow's supervisor can tell the API server."""
    start_runner()
    client.create_job("a", [fugitives.task])
    fugitives.all()
    runner = client.cancel("a", by="the test").runner
    job = client.wait("a", 15)
    assert runner is not None and job.usage is not None and "cpu_s" in job.usage, "measured by itself"
    assert client.get_tasks("a")[0].signal == signal.SIGKILL


def test_an_ephemeral_runner_that_does_not_end_is_killed(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    client.create_job("a", [shell("sleep 300")])
    runner = wait_for(lambda: client.get_job("a").runner)
    assert runner is not None
    os.kill(runner.pid, signal.SIGSTOP)
    client.cancel("a", by="the test")
    job = client.wait("a", 15)
    assert job.state is JobState.CANCELLED and job.exit is not None and job.exit.reason == "cancelled by the test"
    assert job.usage is not None and set(job.usage) == {"wall_s"}


# --- Who is an orphan ---


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "300"]) as process:
        yield process
        process.kill()


def test_children_from_before_and_known_ones_are_spared(child: subprocess.Popen[bytes]) -> None:
    finder = orphans.Orphans(adopts=True)
    with subprocess.Popen(["sleep", "300"]) as known, subprocess.Popen(["sleep", "300"]) as orphan:
        finder.kill({known.pid})
        assert orphan.wait(10) == -signal.SIGKILL
        assert known.poll() is None and child.poll() is None
        known.kill()


HOLDER = """
import os, sys, time
from pathlib import Path
from air_executor import _files
assert _files.Lock(Path(sys.argv[1])).acquire()
child = os.fork()
if child:
    Path(sys.argv[2]).write_text(str(child))
time.sleep(300)
"""
"""Takes the lock of a job, as an ephemeral runner, and forks something that inherits it, as a body might."""


def test_an_ephemeral_runner_that_nobody_told_of_is_spared(tmp_path: Path) -> None:
    """As when its template is killed between the fork and the word of it."""
    finder = orphans.Orphans(adopts=True)
    fork = [sys.executable, "-c", "import time; time.sleep(300)", template.__name__]
    argv = [sys.executable, "-c", HOLDER, str(tmp_path / paths.JOB_LOCK), str(tmp_path / "child")]
    with subprocess.Popen(argv) as holder, subprocess.Popen(fork) as fresh:
        wait_for(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text(), what="its child")
        finder.kill(set())
        assert holder.poll() is None and fresh.poll() is None
        processes.kill_tree(holder.pid)
        fresh.kill()


def test_what_inherited_a_lock_is_no_ephemeral_runner(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", HOLDER, str(tmp_path / paths.JOB_LOCK), str(tmp_path / "child"), template.__name__]
    with subprocess.Popen(argv) as holder:
        child = int(wait_for(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text()) or 0)
        assert ours.is_ours(holder.pid) and not ours.is_ours(child)
        assert ours.is_below_ours(child)
        holder.kill()
        holder.wait()
        wait_for(lambda: ours.is_below_ours(child) is False, what="another parent")
        processes.kill_tree(child)
