"""Runners that stop, die, come back, share a home; templates that are ill."""

from __future__ import annotations

import signal
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from air_executor import AirExecutorClient, JobState, processes, repair, runners, spool
from air_executor.definitions import to_task
from air_executor.errors import NotFoundError
from air_executor.model import ExitKind, Job, Task, TaskStatus
from air_executor.paths import Home
from air_executor.store import Submission, submit_batch
from air_executor.testing import wait_for
from tests.runner.conftest import StartRunner


def shell(script: str, **options: object) -> dict[str, object]:
    return {"command": "sh", "args": ["-c", script], **options}


def working(client: AirExecutorClient, name: str) -> Job:
    """The job, once a task of it runs."""

    def found() -> Job | None:
        job = client.get_job(name)
        running = any(task.status is TaskStatus.RUNNING for task in client.get_tasks(name))
        return job if job.state is JobState.WORKING and running else None

    job = wait_for(found, what=f"{name} working")
    assert job is not None
    return job


def ended(client: AirExecutorClient, name: str) -> Job:
    return client.wait(name, 40)


def test_never_more_jobs_than_slots_and_the_highest_priority_next(
    client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    for number in range(8):
        client.create_job(f"p{number}", [shell(f"echo {number} >> {order}; sleep 0.05")], priority=number)
    start_runner("--slots", "1")
    for number in range(8):
        ended(client, f"p{number}")
    assert order.read_text().split() == list("76543210")


def test_a_job_runs_only_where_its_queue_is_served(
    client: AirExecutorClient, home: Home, start_runner: StartRunner
) -> None:
    start_runner()
    client.create_job("heavy", [shell("true")], queue="heavy")
    client.create_job("light", [shell("true")])
    ended(client, "light")
    assert client.get_job("heavy").state is JobState.WAITING
    heavy = start_runner("--queues", "heavy,gpu")
    job = ended(client, "heavy")
    assert job.runner is not None and job.runner.runner == heavy.id


def test_two_runners_run_each_job_once(client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path) -> None:
    start_runner("--slots", "4")
    start_runner("--slots", "4")
    for number in range(60):
        client.create_job(f"j{number}", [shell(f"echo {number} >> {tmp_path}/ran")])
    for number in range(60):
        assert ended(client, f"j{number}").state is JobState.COMPLETED
    assert sorted(map(int, (tmp_path / "ran").read_text().split())) == list(range(60))


def test_a_running_job_outlives_its_runner_and_the_next_one_takes_it_over(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path
) -> None:
    first = start_runner()
    client.create_job(
        "long", [shell(f"echo once >> {tmp_path}/ran; while ! test -e {tmp_path}/go; do sleep 0.05; done")]
    )
    working(client, "long")
    first.kill()
    second = start_runner()
    wait_for(lambda: spool.claimed(home, second.id) == ["long"], what="the claim")
    (tmp_path / "go").touch()
    assert ended(client, "long").state is JobState.COMPLETED
    wait_for(lambda: not spool.claimed(home, second.id), what="the end of the claim")
    assert (tmp_path / "ran").read_text() == "once\n"
    wait_for(lambda: not home.runner(first.id).exists(), what="the dead runner forgotten")


def test_a_job_that_ended_while_no_runner_was_there_is_settled(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path
) -> None:
    first = start_runner()
    client.create_job("short", [shell(f"while ! test -e {tmp_path}/go; do sleep 0.05; done")], notify=True)
    working(client, "short")
    first.kill()
    (tmp_path / "go").touch()
    assert ended(client, "short").state is JobState.COMPLETED
    wait_for(lambda: spool.finished(home) == ["short"], what="the answer")


def test_killed_ephemeral_runner_is_noticed_with_its_signal(
    client: AirExecutorClient, start_runner: StartRunner
) -> None:
    start_runner()
    client.create_job("victim", [shell("setsid sleep 300 & sleep 300")])
    job = working(client, "victim")
    assert job.runner is not None
    wait_for(lambda: len(psutil.Process(job.runner.pid).children(recursive=True)) == 3, what="its tree")
    tree = psutil.Process(job.runner.pid).children(recursive=True)
    psutil.Process(job.runner.pid).kill()
    job = ended(client, "victim")
    assert job.state is JobState.FAILED and job.exit is not None
    assert (job.exit.kind, job.exit.signal) == (ExitKind.SIGNAL, 9)
    assert "SIGKILL" in job.exit.reason
    wait_for(lambda: not any(process.is_running() for process in tree), what="the end of what it left")


def test_when_runner_and_job_die_together_the_next_runner_says_so(
    client: AirExecutorClient, start_runner: StartRunner
) -> None:
    first = start_runner()
    client.create_job("both", [shell("sleep 300")])
    job = working(client, "both")
    first.kill()
    assert job.runner is not None
    psutil.Process(job.runner.pid).kill()
    start_runner()
    job = ended(client, "both")
    assert job.state is JobState.FAILED and job.exit is not None
    assert job.exit.kind is ExitKind.RUNNER_LOST
    assert first.id in job.exit.reason and "last seen" in job.exit.reason


def test_a_claimed_job_that_never_started_is_queued_again(
    client: AirExecutorClient, home: Home, start_runner: StartRunner
) -> None:
    client.create_job("claimed", [shell("true")])
    dead = start_runner("--name", "dead")
    ended(client, "claimed")
    client.retry("claimed")
    ended(client, "claimed")
    dead.signal(signal.SIGSTOP)
    client.retry("claimed")
    marker = spool.marker_of(client.get_job("claimed"))
    assert spool.claim(home, marker, "dead")
    dead.kill()
    start_runner()
    job = ended(client, "claimed")
    assert (job.state, job.attempt) == (JobState.COMPLETED, 3)


def test_first_term_drains_second_stops_the_jobs(client: AirExecutorClient, start_runner: StartRunner) -> None:
    runner = start_runner()
    client.create_job("one", [shell("sleep 300")])
    working(client, "one")
    runner.signal(signal.SIGTERM)
    wait_for(lambda: runner_info(client, runner.id).draining, what="draining")
    client.create_job("two", [shell("true")])
    assert client.get_job("one").state is JobState.WORKING
    runner.signal(signal.SIGTERM)
    assert runner.wait() == 0
    one = client.get_job("one")
    assert one.state is JobState.CANCELLED and one.exit is not None and runner.id in one.exit.reason
    assert client.get_job("two").state is JobState.WAITING
    with pytest.raises(NotFoundError):
        runner_info(client, runner.id)


def runner_info(client: AirExecutorClient, runner_id: str) -> runners.RunnerInfo:
    return runners.read(client.home, runner_id)


def test_drain_and_resume(client: AirExecutorClient, home: Home, start_runner: StartRunner) -> None:
    runner = start_runner()
    runners.tell(home, runner.id, "drain")
    wait_for(lambda: runner_info(client, runner.id).draining, what="draining")
    client.create_job("later", [shell("true")])
    runners.tell(home, runner.id, "resume")
    assert ended(client, "later").state is JobState.COMPLETED
    runners.tell(home, runner.id, "stop")
    assert runner.wait() == 0


def test_spool_deleted_while_jobs_wait(client: AirExecutorClient, home: Home, start_runner: StartRunner) -> None:
    import shutil

    for number in range(5):
        client.create_job(f"j{number}", [shell("true")])
    shutil.rmtree(home.spool)
    start_runner()
    for number in range(5):
        assert ended(client, f"j{number}").state is JobState.COMPLETED


def test_detached_embedded_runner_ends_when_nobody_wants_it(home: Home, client: AirExecutorClient) -> None:
    options = runners.StartOptions(embedded=True, linger=0.5)
    info = runners.read(home, runners.start_detached(home, options))
    assert info.embedded
    assert runners.unserved(home, ["default"]) == []
    client.create_job("hello", [shell("true")])
    assert ended(client, "hello").state is JobState.COMPLETED
    wait_for(lambda: not runners.all_runners(home), what="the end of the runner")
    wait_for(lambda: not processes.is_alive(info.process), what="the end of its process")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module for templates, as a provider would have one."""
    (tmp_path / "preloaded_thing.py").write_text(
        textwrap.dedent("""
        import os, sys
        STATE = []
        def preload():
            STATE.append("preloaded")
        def main(argv):
            STATE.append("ran")
            print(STATE, argv, os.environ.get("ONLY"), os.getppid() != 1)
            if argv[0] == "raise":
                raise RuntimeError("as told")
            if argv[0] == "exit":
                sys.exit("no")
            return int(argv[0])
        """)
    )
    (tmp_path / "broken_thing.py").write_text("raise RuntimeError('cannot be imported')")
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=(300,), daemon=True).start()\n"
    (tmp_path / "threaded_thing.py").write_text(source + "import sys; print('by hand', sys.argv[1])")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "preloaded_thing"


def module_job(client: AirExecutorClient, name: str, module: str, argument: str, **env: str) -> Job:
    task = Task(command=sys.executable, args=["-m", module, argument], env=env)
    client.submit(Submission(Job(name=name, template=module), [task]))
    return ended(client, name)


def test_a_preloaded_module_runs_in_a_fork_and_shares_nothing(
    client: AirExecutorClient, start_runner: StartRunner, module: str
) -> None:
    start_runner("--preload", module)
    assert module_job(client, "a", module, "0", ONLY="a").state is JobState.COMPLETED
    assert module_job(client, "b", module, "7").exit.code == 7  # type: ignore[union-attr]
    assert module_job(client, "c", module, "raise").exit.code == 1  # type: ignore[union-attr]
    assert module_job(client, "d", module, "exit").exit.code == 1  # type: ignore[union-attr]
    assert client.logs("a") == "['preloaded', 'ran'] ['0'] a True\n"
    assert client.logs("b") == "['preloaded', 'ran'] ['7'] None True\n"
    assert "RuntimeError: as told" in client.logs("c")
    assert client.logs("d").endswith("\nno\n")


@pytest.mark.parametrize(("ill", "state"), [("threaded_thing", JobState.COMPLETED), ("broken_thing", JobState.FAILED)])
def test_an_ill_template_never_fails_a_job(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, module: str, ill: str, state: JobState
) -> None:
    runner = start_runner()
    for number in range(3):
        job = module_job(client, f"j{number}", ill, "0")
        assert job.state is state
        expected = "by hand 0" if state is JobState.COMPLETED else "cannot be imported"
        assert expected in client.logs(f"j{number}")
    assert home.runner_log.read_text().count(f"no template for {ill}") == 1
    wait_for(lambda: runners.read(home, runner.id).ill, what="the word of the next heartbeat")
    assert runners.read(home, runner.id).ill.keys() == {ill}


def test_a_runner_that_dies_before_it_can_start_a_job_is_no_crash_of_the_job(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, module: str, tmp_path: Path
) -> None:
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path)!r}, 'go').exists(): time.sleep(0.01)\n"
    (tmp_path / "slow_thing.py").write_text(wait + "def main(argv): return 0")
    task = Task(command=sys.executable, args=["-m", "slow_thing"])
    client.submit(Submission(Job(name="slow", template="slow_thing"), [task]))
    for _ in range(repair.CRASH_LIMIT):
        runner = start_runner("--preload", "slow_thing")
        for action in ("drain", "resume"):  # so that it has been through its loop
            runners.tell(home, runner.id, action)
            wait_for(lambda: runners.read(home, runner.id).draining is (action == "drain"))  # noqa: B023
        runner.kill()
    start_runner("--preload", "slow_thing")
    (tmp_path / "go").touch()
    job = ended(client, "slow")
    assert (job.state, job.crashes) == (JobState.COMPLETED, 0)


def test_a_killed_template_costs_no_job(client: AirExecutorClient, home: Home, start_runner: StartRunner) -> None:
    runner = start_runner()
    ended(client, client_job(client, "first"))
    for number in range(20):
        client.create_job(f"j{number}", [shell("sleep 0.2")])
        if number == 10:
            template = wait_for(lambda: [p for p in psutil.Process(runner.popen.pid).children() if is_template(p)])
            template[0].kill()
    for number in range(20):
        assert ended(client, f"j{number}").state is JobState.COMPLETED


def test_templates_that_are_killed_while_200_jobs_flow_cost_none_and_repeat_none(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path
) -> None:
    runner, record = start_runner(), tmp_path / "record"
    line = {"command": "sh", "args": ["-c", 'echo "$AIR_EXECUTOR_JOB $AIR_EXECUTOR_TASK" >>"$0"', str(record)]}
    client.create_job("of-tasks", [line] * 200)
    names = [f"j{number}" for number in range(200)]
    assert not submit_batch(home, [Submission(Job(name), [to_task(line)]) for name in names])
    for count in (10, 60, 110):
        wait_for(lambda count=count: record.exists() and record.read_text().count("task-1\n") >= count)
        killed = wait_for(lambda: [p for p in psutil.Process(runner.popen.pid).children() if is_template(p)])
        for template in killed:
            template.kill()
    states = {name: ended(client, name).state for name in ("of-tasks", *names)}
    assert set(states.values()) == {JobState.COMPLETED}, states
    tasks = [f"of-tasks task-{number}" for number in range(1, 201)]
    assert sorted(record.read_text().splitlines()) == sorted([*tasks, *(f"{name} task-1" for name in names)])


FORKED = 0x40
"""Of a process that executed no program since it was forked (PF_FORKNOEXEC of linux/sched.h)."""


def is_template(process: psutil.Process) -> bool:
    """And no ephemeral runner that was forked from one, which has its command line, and its parent once it is gone."""
    try:
        flags = processes.read(process.pid, "stat").rpartition(b")")[2].split()[6]
        return "air_runner.template" in process.cmdline() and not int(flags) & FORKED
    except (OSError, psutil.NoSuchProcess):
        return False


def client_job(client: AirExecutorClient, name: str) -> str:
    client.create_job(name, [shell("true")])
    return name


def test_a_taken_name_is_refused(client: AirExecutorClient, home: Home, start_runner: StartRunner) -> None:
    import subprocess

    start_runner("--name", "mine")
    argv = [sys.executable, "-m", "air_runner", "--home", str(home.root), "--name", "mine"]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 8
    assert "a runner named mine is running already" in second.stderr
