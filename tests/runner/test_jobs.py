"""What jobs do under a real runner."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import psutil
import pytest

from air_executor import AirExecutorClient, JobState, TaskStatus, journal
from air_executor.model import ExitKind, Job
from air_executor.paths import Home
from air_executor.testing import wait_for
from tests.runner.conftest import StartRunner


def shell(script: str, **options: object) -> dict[str, object]:
    return {"command": "sh", "args": ["-c", script], **options}


@pytest.fixture(params=["fork", "exec"])
def launcher(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(client: AirExecutorClient, name: str, *tasks: dict[str, object], **options: object) -> Job:
    client.create_job(name, tasks, **options)
    return client.wait(name, 30)


def test_a_job_runs_its_command_line_and_leaves_its_files(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, launcher: str
) -> None:
    runner = start_runner("--launcher", launcher)
    job = run(client, "hello", {"command": "echo", "args": ["Task 1", "$HOME;ls"]})
    assert job.state is JobState.COMPLETED
    assert job.exit is not None and job.exit.code == 0
    assert client.logs("hello") == "Task 1 $HOME;ls\n"
    assert job.runner is not None and job.runner.runner == runner.id
    assert job.usage is not None and set(job.usage) == {"wall_s", "cpu_s", "max_rss_mb"}
    states = [event["to"] for event in journal.read(home.job("hello").events) if event["event"] == "job"]
    assert states == ["waiting", "working", "completed"]
    for path in home.root.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, path


def test_environment_and_working_directory(
    client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path, launcher: str
) -> None:
    start_runner("--launcher", launcher)
    script = "echo $COLOUR $AIR_EXECUTOR_JOB $AIR_EXECUTOR_TASK; pwd"
    run(client, "env", shell(script, id="only", env={"COLOUR": "blue"}, cwd=str(tmp_path)))
    assert client.logs("env") == f"blue env only\n{tmp_path}\n"


@pytest.mark.parametrize(
    ("task", "kind", "code", "number", "reason"),
    [
        (shell("exit 3"), ExitKind.EXIT_CODE, 3, None, "exit code 3"),
        (shell("kill -9 $$"), ExitKind.SIGNAL, None, 9, "killed by SIGKILL (9)"),
        ({"command": "no-such-command"}, ExitKind.START_FAILED, 127, None, "command not found: no-such-command"),
        ({"command": "/etc/passwd"}, ExitKind.START_FAILED, 126, None, "not executable: /etc/passwd"),
        (shell("sleep 60", timeout=0.3), ExitKind.TIMEOUT, None, 15, "ran longer than its timeout of 0.3 s"),
        (shell("true", cwd="/no/such"), ExitKind.START_FAILED, 1, None, "its working directory /no/such"),
        (shell("echo it is so > $AIR_EXECUTOR_REASON_FILE; exit 4"), ExitKind.EXIT_CODE, 4, None, "it is so"),
    ],
)
def test_a_failed_job_says_why(
    client: AirExecutorClient,
    start_runner: StartRunner,
    task: dict[str, object],
    kind: ExitKind,
    code: int | None,
    number: int | None,
    reason: str,
) -> None:
    start_runner()
    job = run(client, "bad", task)
    assert job.state is JobState.FAILED
    assert job.exit is not None
    assert (job.exit.kind, job.exit.code, job.exit.signal) == (kind, code, number)
    assert reason in job.exit.reason


def test_tasks_run_as_their_dependencies_allow(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    job = run(
        client,
        "graph",
        {"id": "a", "command": "true"},
        shell("exit 1", id="b", dependencies=["a"]),
        {"id": "c", "command": "true", "dependencies": ["b"]},
        {"id": "d", "command": "true", "dependencies": ["a"]},
        {"id": "e", "command": "true", "dependencies": ["c", "d"]},
    )
    tasks = {task.id: task for task in client.get_tasks("graph")}
    assert [tasks[name].status for name in "abcde"] == [
        TaskStatus.COMPLETED,
        TaskStatus.FAILED,
        TaskStatus.SKIPPED,
        TaskStatus.COMPLETED,
        TaskStatus.SKIPPED,
    ]
    assert job.exit is not None and job.exit.reason == "task b: exit code 1"
    assert tasks["e"].error == "needs b, which failed"


def test_max_parallel(client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path) -> None:
    start_runner()
    script = "mkdir $AIR_EXECUTOR_TASK.d; ls 2>/dev/null | grep -c [.]d; rmdir $AIR_EXECUTOR_TASK.d"
    job = run(client, "many", *[shell(script, cwd=str(tmp_path)) for _ in range(12)], max_parallel=2)
    assert job.state is JobState.COMPLETED
    assert all(int(line) <= 2 for line in client.logs("many").split())


def test_limits_of_the_whole_job(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    greedy = "x = bytearray(300 * 2**20); import time; time.sleep(60)"
    client.create_job("slow", [shell("sleep 60")], timeout=0.5)
    client.create_job("greedy", [{"command": sys.executable, "args": ["-c", greedy]}], memory_mb=100)
    client.create_job("good", [shell("sleep 1")], timeout=30, memory_mb=500)
    slow, big, good = (client.wait(name, 30) for name in ("slow", "greedy", "good"))
    assert slow.exit is not None and big.exit is not None
    assert (slow.state, slow.exit.kind) == (JobState.FAILED, ExitKind.TIMEOUT)
    assert (big.state, big.exit.kind) == (JobState.FAILED, ExitKind.MEMORY)
    assert "more than its memory_mb of 100" in big.exit.reason
    assert good.state is JobState.COMPLETED


def test_nice(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    run(client, "nice", {"command": "nice"}, nice=7)
    assert client.logs("nice").strip() == str(os.getpriority(os.PRIO_PROCESS, 0) + 7)


def test_cancelling_ends_the_whole_tree(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path, launcher: str
) -> None:
    start_runner("--launcher", launcher)
    pids = tmp_path / "pids"
    script = f"trap '' TERM; (trap '' TERM; sleep 300) & echo $! >> {pids}; setsid sleep 300 & echo $! >> {pids}; "
    script += f"(setsid sh -c 'echo $$ >> {pids}; sleep 300' &) ; echo $$ >> {pids}; wait; sleep 300"
    client.create_job("stubborn", [shell(script)])
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 4, what="four processes")
    victims = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    client.cancel("stubborn", by="the test", why="enough")
    job = client.wait("stubborn", 20)
    assert job.state is JobState.CANCELLED
    assert job.exit is not None and job.exit.reason == "cancelled by the test: enough"
    task = client.get_tasks("stubborn")[0]
    assert (task.status, task.error, task.signal) == (TaskStatus.CANCELLED, "cancelled by the test: enough", 9)
    wait_for(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in victims), what="their end")
    assert not list(home.cancel_requests.iterdir())


def test_cancelling_a_waiting_job_needs_no_runner(client: AirExecutorClient, home: Home) -> None:
    client.create_job("early", [shell("true")])
    job = client.cancel("early")
    assert job.state is JobState.CANCELLED
    assert client.get_tasks("early")[0].status is TaskStatus.CANCELLED
    assert not list(home.queue("default").iterdir()) and not list(home.claimed.iterdir())


def test_processes_that_a_task_left_end_with_the_job(
    client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path
) -> None:
    start_runner()
    pid_file = tmp_path / "pid"
    run(client, "parent", shell(f"setsid sleep 300 & echo $! > {pid_file}"))
    pid = int(pid_file.read_text())
    wait_for(lambda: not psutil.pid_exists(pid), what="the end of the daemon it left")


def test_retry_keeps_the_directory_and_counts(client: AirExecutorClient, start_runner: StartRunner, home: Home) -> None:
    start_runner()
    flag = home.root / "flag"
    assert run(client, "again", shell(f"test -e {flag}")).state is JobState.FAILED
    flag.touch()
    client.retry("again")
    job = client.wait("again", 30)
    assert (job.state, job.attempt) == (JobState.COMPLETED, 2)
    attempts = [event["attempt"] for event in journal.read(home.job("again").events) if event["event"] == "job"]
    assert attempts == [1, 1, 1, 2, 2, 2]


def test_a_damaged_job_fails_and_disturbs_no_other(
    client: AirExecutorClient, home: Home, start_runner: StartRunner
) -> None:
    for name in ("cut", "fine", "tasks"):
        client.create_job(name, [shell("true")])
    state = home.job("cut").state
    state.write_text(state.read_text()[:40])
    home.job("tasks").tasks.write_text("[]")
    start_runner()
    cut = wait_for(lambda: (job := client.get_job("cut")).exit and home.job("cut").state.exists() and job)
    assert cut.state is JobState.FAILED
    assert wait_for(lambda: list(home.job("cut").root.glob("state.json.damaged-1")))
    assert client.wait("tasks", 20).state is JobState.FAILED
    assert "tasks.json" in client.get_job("tasks").exit.reason  # type: ignore[union-attr]
    assert client.wait("fine", 20).state is JobState.COMPLETED
