"""What must neither end a runner nor cost a job: a system out of descriptors, strange files, words that are lost."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import subprocess
import time
import types
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from air_executor import (
    AirExecutorClient,
    JobState,
    held,
    journal,
    model,
    orders,
    processes,
    repair,
    runners,
    spool,
    store,
)
from air_executor.model import ExitKind, Job, Task
from air_executor.paths import Home
from air_executor.settings import RunnerSettings
from air_executor.sightings import Sightings
from air_executor.store import Submission
from air_executor.testing import wait_for
from air_executor.watch import Watch
from air_runner import endings, enforcement, ephemeral, recovery, supervise, taskloop
from air_runner.channel import Channel
from air_runner.daemon import Runner
from air_runner.jobs import Running
from air_runner.launchers import Event, Launched, fork
from air_runner.launchers.exec import ExecLauncher
from tests.runner.conftest import StartRunner
from tests.runner.test_lifecycle import ended, shell, working

NOBODY = 2**22 + 1
"""No process has this number."""

RULES = taskloop.Rules(grace=1.0, output_mb=0)


class FakeLauncher:
    """Says that it launched a process; or that the system refuses."""

    name = "exec"

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.error: OSError | None = None

    def accepts(self, job: Job) -> bool:
        return True

    def launch(self, job: Job) -> list[Event]:
        if self.error is not None:
            raise self.error
        self.launched.append(job.name)
        return [Launched(job.name, NOBODY + len(self.launched))]

    def close(self) -> None:
        pass


@pytest.fixture
def launcher() -> FakeLauncher:
    return FakeLauncher()


@pytest.fixture
def runner(home: Home, launcher: FakeLauncher) -> Iterator[Runner]:
    """A runner in this process, of which the loop is turned by hand."""
    runner = Runner(home, RunnerSettings(launcher="exec", slots=3), "r")
    with runner.selector:
        runner.watch = Watch([home.spool], lambda: None, recursive=True)
        runner.launching.launchers = [launcher]
        runner._beat()
        runner.guard.make()
        runner.work.queues.heed_pauses()
        yield runner
    runner.notes.close()


def out_of_files(*_: object, **__: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def tick(runner: Runner) -> None:
    """Everything that happens by the clock, now."""
    runner.work.clock.due.clear()
    runner._tick()


def test_no_step_of_the_clock_ends_the_runner(
    runner: Runner, client: AirExecutorClient, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_job("a", [shell("true")])
    with monkeypatch.context() as patched:
        for module, name in ((spool, "waiting"), (recovery, "recover"), (runners, "write"), (spool, "cancel_requests")):
            patched.setattr(module, name, out_of_files)
        patched.setattr(Running, "over_limit", out_of_files)
        tick(runner)
    tick(runner)
    assert launcher.launched == ["a"]


def test_the_end_of_one_job_that_cannot_be_written_costs_no_other(
    runner: Runner, client: AirExecutorClient, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        client.create_job(name, [shell("true")])
    tick(runner)
    with monkeypatch.context() as patched:
        patched.setattr(repair, "resolve", out_of_files)
        runner._on_events([fork.Exited(NOBODY + 1, 256), fork.Exited(NOBODY + 2, 256)])
    assert len(runner.work.running) == 0 and sorted(runner.work.endings) == ["a", "b"]
    tick(runner)
    assert not runner.work.endings


def test_jobs_whose_end_cannot_be_written_keep_their_slots(
    runner: Runner, client: AirExecutorClient, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdef":
        client.create_job(name, [shell("true")])
    with monkeypatch.context() as patched:
        patched.setattr(repair, "resolve", out_of_files)
        tick(runner)
        runner._on_events([fork.Exited(NOBODY + number, 256) for number in (1, 2, 3)])
        tick(runner)
        assert launcher.launched == ["a", "b", "c"]
    tick(runner)
    assert len(launcher.launched) == runner.settings.slots + 3


def test_a_home_that_refuses_to_be_written_is_no_fault_of_a_job(
    runner: Runner, client: AirExecutorClient, launcher: FakeLauncher, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_job("a", [shell("true")])
    for _ in range(repair.CRASH_LIMIT + 1):
        tick(runner)
        with monkeypatch.context() as patched:
            patched.setattr(held.HeldJob, "start", out_of_files)
            code = ephemeral.run_job(home, "a", "r", RULES)
        assert code == ephemeral.EXIT_REFUSED
        runner._on_events([fork.Exited(NOBODY + len(launcher.launched), code << 8)])
        assert not runner.work.clock.is_due("start", time.monotonic()), "the next would meet the same"
    job = store.read(home, "a")
    assert (job.state, job.crashes, job.losses) == (JobState.WAITING, 0, 0)


def test_an_end_that_is_settled_late_harms_nobody(
    home: Home, client: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int | None] = []
    monkeypatch.setattr(supervise, "kill_remnants", lambda home, name, pid: killed.append(pid))
    client.create_job("a", [shell("true")])
    assert spool.claim(home, spool.marker_of(store.read(home, "a")), "r")
    with held.HeldJob.acquire(home, "a") as job:
        job.start(model.Process(processes.host(), processes.boot_id(), NOBODY, 1, "r"), by="test")
        settler = endings.Endings(home, "r", "test")
        settler.settle("a", endings.explain(NOBODY, 9))
        [again] = settler.take_unresolved().values()
        settler.settle("a", again)
        settler.settle("a", endings.explain(NOBODY + 1, 9))
    assert killed == [NOBODY, None], "the number may be another's by then, and the job another process's"


@pytest.mark.parametrize("code", [0, ephemeral.EXIT_ENDED + 1, 1])
def test_what_is_left_of_a_job_that_did_not_write_its_end_is_killed_whatever_its_exit_code(
    runner: Runner, client: AirExecutorClient, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    killed: list[int] = []
    monkeypatch.setattr(runner.reaper, "_kill_orphans", lambda: killed.append(1))
    client.create_job("a", [shell("true")])
    tick(runner)
    killed.clear()  # the clock has it done now and then
    runner._on_events([fork.Exited(NOBODY + 1, code << 8)])
    assert killed == [1]


def test_memory_is_looked_at_no_oftener_than_it_says(home: Home) -> None:
    limits_ = enforcement.Enforcement(home, 0, lambda running, outcome: None)
    running = [Running(Job("a", memory_mb=1), pid=os.getpid())]
    looks = [limits_.look(running, moment) for moment in (10.0, 10.1, 10.4, 10.6)]
    assert [look is not None for look in looks] == [True, False, False, True]


class FakeExecLauncher(FakeLauncher, ExecLauncher):
    """The same for ephemeral runners that are executed."""


@pytest.mark.parametrize(("kind", "watched"), [(FakeLauncher, True), (FakeExecLauncher, False)])
def test_the_output_of_a_task_is_watched_by_one_alone(
    runner: Runner, client: AirExecutorClient, kind: type[FakeLauncher], watched: bool
) -> None:
    """An ephemeral runner that was executed runs a module as a process and watches it itself."""
    runner.launching.launchers = [kind()]
    client.submit(Submission(Job("a", template="thing", output_mb=1), [Task("true")]))
    tick(runner)
    running = runner.work.running.get("a")
    assert running is not None and (running.output is not None) is watched


def test_markers_and_claims_that_name_no_job_do_no_harm(
    runner: Runner, client: AirExecutorClient, launcher: FakeLauncher, home: Home
) -> None:
    (home.queue("default") / f"{'0' * 22}-no job name").touch()
    (home.claims("r") / "no claim").touch()
    (home.cancel_requests / "a directory").mkdir()
    client.create_job("a", [shell("true")])
    tick(runner)
    tick(runner)
    assert launcher.launched == ["a"] and spool.claimed(home, "r") == ["a"]


def test_a_system_without_room_for_processes_fails_no_job(
    runner: Runner, client: AirExecutorClient, launcher: FakeLauncher
) -> None:
    for name in ("a", "b"):
        client.create_job(name, [shell("true")])
    launcher.error = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    for _ in range(repair.CRASH_LIMIT + 1):
        tick(runner)
        assert runner._pause() > 0, "it waits before it tries again"
    assert [(client.get_job(name).state, client.get_job(name).crashes) for name in ("a", "b")] == [
        (JobState.WAITING, 0)
    ] * 2
    launcher.error = None
    tick(runner)
    assert sorted(launcher.launched) == ["a", "b"]


def test_a_job_that_waits_again_before_its_last_process_was_reaped_is_not_forgotten(
    runner: Runner, client: AirExecutorClient, launcher: FakeLauncher, home: Home
) -> None:
    client.create_job("a", [shell("true")])
    tick(runner)
    with held.HeldJob.acquire(home, "a") as job:
        job.start(processes.identify(os.getpid(), "r"), by="r")
        job.finish(JobState.COMPLETED, model.Exit(ExitKind.SUCCESS, "completed"), by="r")
    client.retry("a")
    runner._noticed(spool.marker_of(store.read(home, "a")).path(home))
    runner.launching.fill_slots()
    assert launcher.launched == ["a"]
    runner._on_events([fork.Exited(NOBODY + 1, 0)])
    runner.launching.fill_slots()
    assert launcher.launched == ["a", "a"]


def test_an_end_that_nobody_told_of_is_noticed(
    runner: Runner, client: AirExecutorClient, launcher: FakeLauncher
) -> None:
    """As when a template is killed with the word of it."""
    client.create_job("a", [shell("true")])
    tick(runner)
    for _ in range(2):
        assert "a" in runner.work.running
        runner.work.clock.soon("gone")
        runner.work.course.draining = True
        runner._tick()
    assert "a" not in runner.work.running and client.get_job("a").state is JobState.WAITING


def test_a_job_that_cannot_be_looked_at_hides_no_other(
    home: Home, client: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.claims("r").mkdir()
    for name in ("a", "b"):
        client.create_job(name, [shell("true")])
        spool.claim(home, spool.marker_of(store.read(home, name)), "r")
    read = store.read
    monkeypatch.setattr(store, "read", lambda home, name: out_of_files() if name == "a" else read(home, name))
    assert list(recovery.recover(home, "r", (), Sightings())) == ["b"]


def test_draining_a_runner_that_stops_does_not_keep_it(runner: Runner) -> None:
    runner.control(orders.Order("stop"))
    runner.control(orders.Order("drain"))
    assert runner.work.course.stopping
    runner.control(orders.Order("resume"))
    assert not runner.work.course.stopping and not runner.work.course.draining


def test_a_runner_that_comes_back_under_its_name_keeps_its_place(
    client: AirExecutorClient, home: Home, start_runner: StartRunner
) -> None:
    start_runner("--name", "r").kill()
    start_runner("--name", "r")
    assert client.create_job("a", [shell("true")])
    assert ended(client, "a").state is JobState.COMPLETED
    assert runners.read(home, "r")


def test_a_deleted_spool_does_not_stop_a_runner_for_good(
    client: AirExecutorClient, home: Home, start_runner: StartRunner
) -> None:
    import shutil

    start_runner()
    shutil.rmtree(home.spool.rename(home.root / "deleted"))  # at once: the runner makes it again while files go
    store.ensure_home(home)
    client.create_job("a", [shell("true")])
    assert ended(client, "a").state is JobState.COMPLETED


def test_what_a_taken_over_job_left_is_killed(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path
) -> None:
    start_runner_one = start_runner()
    client.create_job("a", [shell(f"echo $$ > {tmp_path}/pid; exec sleep 300")])
    job = working(client, "a")
    pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()))
    start_runner_one.kill()
    second = start_runner()
    wait_for(lambda: spool.claimed(home, second.id) == ["a"], what="the takeover")
    time.sleep(0.2)
    assert job.runner is not None
    os.kill(job.runner.pid, signal.SIGKILL)
    assert ended(client, "a").state is JobState.FAILED
    assert processes.start_time(pid) is None


def test_only_what_carries_home_and_job_is_a_remnant(home: Home, tmp_path: Path) -> None:
    task = model.Task("sleep", ["300"], id="t", job_name="a")
    environment = {**os.environ, **supervise.task_environment(Home(tmp_path / "other"), task)}
    with subprocess.Popen(["sleep", "300"], env=environment) as other:
        supervise.kill_remnants(home, "a", NOBODY)
        assert psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE
        other.kill()


# --- Templates ---


def test_more_jobs_than_a_socket_holds_are_all_asked_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: types.SimpleNamespace(pid=1))
    monkeypatch.setattr(socket, "socketpair", lambda: (ours, theirs.dup()))
    process = fork.TemplateProcess(home, "r", "m", RULES)
    other = Channel(theirs)
    names = [f"job-{number}" for number in range(1000)]
    for name in names:
        process.ask(name, None)
    other.send({"ready": 1})
    launched: list[str] = []
    asked: list[str] = []
    while len(launched) < len(names):
        launched += [event.job for event in process.receive() if isinstance(event, Launched)]
        if len(asked) < len(names):
            for message in other.receive():
                asked.append(message["launch"])
                other.send({"launched": message["launch"], "pid": 1})
    assert launched == names
    ours.close()
    theirs.close()


def test_a_template_that_hangs_is_killed(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(300)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(fork, "READY_TIMEOUT", 0.0)
    refused: list[Event] = []
    with selectors.DefaultSelector() as selector:
        forks = fork.ForkLauncher(home, "r", RULES, selector, refused.extend)
        forks.launch(Job("a", template="hangs"))
        [process] = forks._templates.values()
        forks.check()
    assert refused == [fork.Refused("a")]
    assert os.waitpid(process.pid, 0)[1] == signal.SIGKILL


# --- The ephemeral runner ---


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_job_that_is_stopped_is_never_a_success(
    client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path, tasks: int
) -> None:
    script = "trap 'exit 0' TERM; touch up; sleep 300 & wait"
    start_runner()
    after = [shell("true", id="second", dependencies=["first"])] if tasks > 1 else []
    client.create_job("a", [shell(script, id="first", cwd=str(tmp_path)), *after])
    wait_for(lambda: (tmp_path / "up").exists(), what="the task")
    job = client.get_job("a")
    assert job.runner is not None
    os.kill(job.runner.pid, signal.SIGTERM)
    job = ended(client, "a")
    assert job.state is JobState.FAILED and job.exit is not None
    assert (job.exit.kind, job.exit.signal) == (ExitKind.SIGNAL, signal.SIGTERM)
    assert taskloop.STOPPED in job.exit.reason


def test_a_reason_that_speaks_of_a_timeout_is_not_one(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    client.create_job("a", [shell("echo connection timeout > $AIR_EXECUTOR_REASON_FILE; exit 3", timeout=60)])
    job = ended(client, "a")
    assert job.exit is not None and (job.exit.kind, job.exit.code) == (ExitKind.EXIT_CODE, 3)


def test_a_task_is_noted_as_running_before_it_runs(
    home: Home, client: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ephemeral runner that dies between the two must not leave a job that looks as if nothing had run."""
    client.create_job("a", [shell("true")])
    seen: list[list[dict[str, object]]] = []

    def start(*_: object) -> None:
        seen.append(list(journal.read(home.job("a").events)))
        raise supervise.StartError("no", 127)

    monkeypatch.setattr(supervise, "TaskProcess", start)
    with held.HeldJob.acquire(home, "a") as job:
        job.start(processes.identify(os.getpid(), "r"), by="r")
        taskloop.TaskLoop(job, RULES).run()
    assert [event["to"] for event in seen[0] if event["event"] == "task"] == ["running"]
