"""Jobs and tasks that use too much: they end, at once and with a clear word; the others go on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from air_executor import AirExecutorClient, JobState, TaskStatus, _files, cuts, held, model, processes, store, usage
from air_executor.model import ExitKind, Job, Task
from air_executor.paths import Home
from air_executor.store import Submission
from air_executor.testing import wait_for
from air_runner import limits, trees
from air_runner.jobs import Running
from tests.runner.conftest import StartRunner

MIB = 2**20
HOG = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
held = bytearray(b"x") * (100 * 2**20)
print(time.time(), flush=True)
held *= 3
time.sleep(300)
"""
DETACH = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
else:
"""
"""What follows, indented, is done by the parent; what follows that by a daemon, too."""
SHARING = """
import os, pathlib, time
held = bytearray(b"x") * (100 * 2**20)
if all(os.fork() for _ in range(4)):
    pathlib.Path({forked!r}).touch()
while not pathlib.Path({go!r}).exists():
    time.sleep(0.05)
"""
"""Processes that have 100 MiB together, and more than 500 MiB if each is counted for itself."""
KEEP = "air-executor: the output was cut off at {} MiB (output_mb); the {} was ended"


def shell(script: str, **options: object) -> dict[str, object]:
    return {"command": "sh", "args": ["-c", script], **options}


def python(source: str, **options: object) -> dict[str, object]:
    return {"command": sys.executable, "args": ["-c", source], **options}


@pytest.fixture(params=["fork", "exec"])
def launcher(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ended(client: AirExecutorClient, name: str) -> Job:
    return client.wait(name, 30)


def assert_cut(client: AirExecutorClient, name: str, task: str, limit_mb: int, what: str = "job") -> None:
    log = client.home.job(name).log(task).read_bytes()
    last = f"{KEEP.format(limit_mb, what)}\n".encode()
    assert log.endswith(b"\n" + last)
    assert limit_mb * MIB <= len(log) <= limit_mb * MIB + len(last) + 1
    assert not client.home.job(name).cuts.exists()


# --- Decisions ---


@pytest.mark.parametrize(
    ("left", "seconds"), [(-1, 0.05), (0, 0.05), (10 * MIB, 0.05), (256 * MIB, 0.25), (2**30, 1.0), (2**40, 1.0)]
)
def test_the_less_is_left_the_sooner_is_the_next_look(left: int, seconds: float) -> None:
    assert limits.next_look(left) == seconds


def test_output_is_looked_at_when_it_is_due() -> None:
    sizes = iter([0, 3 * MIB])
    limit = limits.OutputLimit(2, lambda: next(sizes))
    assert limit.exceeded(100.0) is None
    assert limit.exceeded(100.04) is None
    exceeded = limit.exceeded(100.06)
    assert exceeded is not None and exceeded.reason == "wrote 3.0 MiB of output, more than its output_mb of 2"


@pytest.mark.parametrize(
    ("task", "job", "default", "expected"),
    [(None, None, 256, 256), (None, None, 0, None), (None, 5, 256, None), (7, 5, 256, 7), (7, None, 0, 7)],
)
def test_which_limit_a_log_has(task: int | None, job: int | None, default: int, expected: int | None) -> None:
    assert limits.of_task(Task("a", output_mb=task), Job("a", output_mb=job), default) == expected


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ({"a": 10}, {}),
        ({"a": 15}, {"a": 10}),
        ({"a": 3, "b": 8, "c": 4}, {"b": 3}),
        ({"a": 9, "b": 8}, {"a": 2}),
        ({"a": 30, "b": 20}, {"a": 0, "b": 10}),
    ],
)
def test_the_longest_logs_are_cut_off(written: dict[str, int], kept: dict[str, int]) -> None:
    shared = cuts.share({Path(name): size for name, size in written.items()}, 10)
    assert {path.name: size for path, size in shared.items()} == kept


def test_a_tree_is_counted_with_all_below_it() -> None:
    rows = [(1, 0, 9), (2, 1, 1), (3, 2, 2), (4, 3, 4), (5, 1, 8), (6, 6, 3)]
    look = trees.Look(trees.Seen(pid, parent, size * MIB) for pid, parent, size in rows)
    assert look.memory_mb(2, limit=100) == 7
    assert look.memory_mb(2, 3, 5, limit=100) == 15
    assert look.memory_mb(6, limit=100) == 3
    assert look.memory_mb(77, limit=100) == 0


def test_who_has_ended_since_the_look_has_no_memory() -> None:
    gone = 2**22 + 1
    assert trees.Look([trees.Seen(gone, 1, 300 * MIB)]).memory_mb(gone, limit=200) == 0


def test_where_the_system_does_not_tell_what_is_shared_each_has_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert trees.Look([trees.Seen(2**22 + 1, 1, 300 * MIB)]).memory_mb(2**22 + 1, limit=200) == 300


def test_the_next_look_waits_the_longer_the_more_the_last_one_took() -> None:
    assert limits.until_next_memory(0.0) == limits.MEMORY_INTERVAL
    assert limits.until_next_memory(1.0) >= 10


def test_this_process_has_memory_and_an_age() -> None:
    resident, own = (trees.look().memory_mb(os.getpid(), limit=limit) for limit in (5000, 0))
    assert 5 < own <= resident < 5000
    me = processes.identify(os.getpid())
    first = processes.age(me)
    assert first is not None and first > 0
    wait_for(lambda: (processes.age(me) or 0) > first)
    me.host = "another"
    assert processes.age(me) is None


# --- Memory ---


def test_a_hog_is_killed_and_its_neighbour_goes_on(
    client: AirExecutorClient, start_runner: StartRunner, launcher: str
) -> None:
    """One that detached itself counts, too; TERM is ignored, and the grace is not waited for."""
    start_runner("--launcher", launcher, "--grace", "60")
    client.create_job("innocent", [shell("sleep 4")], memory_mb=500)
    client.create_job("hog", [python(HOG)], memory_mb=100)
    client.create_job("hidden", [python(DETACH + "    time.sleep(300)\n" + HOG)], memory_mb=100)
    for name in ("hog", "hidden"):
        job = ended(client, name)
        assert job.state is JobState.FAILED and job.exit is not None and job.usage is not None
        used = job.usage["max_tree_rss_mb"]
        assert used > 100
        assert (job.exit.kind, job.exit.reason) == (
            ExitKind.MEMORY,
            f"used {used} MiB of memory, more than its memory_mb of 100",
        )
        ended_at = model.parse_time(job.finished_at or "").timestamp()
        assert ended_at - float(client.logs(name) or ended_at) < 2.0, "it may have been killed before it said when"
    innocent = ended(client, "innocent")
    assert innocent.state is JobState.COMPLETED and innocent.usage is not None
    assert 0 < innocent.usage["max_tree_rss_mb"] < 500


def test_memory_that_forks_share_counts_once(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path
) -> None:
    """Each is looked at while all its processes live: the hog, which is killed at the same look, waits for them."""
    start_runner("--grace", "60")
    forked, go = tmp_path / "forked", tmp_path / "go"
    sharing = python(SHARING.format(forked=str(forked), go=str(go)), id="sharing", memory_mb=200)
    hog = python(
        f"import os, time\nwhile not os.path.exists({str(forked)!r}): time.sleep(0.05)\n" + HOG, id="hog", memory_mb=100
    )
    client.create_job("task", [sharing, hog])
    client.create_job("job", [sharing | {"memory_mb": None}], memory_mb=200)
    wait_for(lambda: client.get_tasks("task")[1].status is TaskStatus.FAILED, what="the look at the tasks")
    runner = client.get_job("job").runner
    assert runner is not None
    wait_for(lambda: trees.look().memory_mb(runner.pid, limit=5000) > 400, what="the forks of the job")
    wait_for(lambda: usage.read_peak(home.job("job")) > 100, what="the look at the job")
    later = time.monotonic() + 4 * limits.MEMORY_INTERVAL  # that look may have been before the forks
    wait_for(lambda: time.monotonic() > later or client.get_job("job").state.terminal)
    go.touch()
    assert ended(client, "job").state is JobState.COMPLETED
    assert ended(client, "task").state is JobState.FAILED
    assert [task.status for task in client.get_tasks("task")] == [TaskStatus.COMPLETED, TaskStatus.FAILED]


def test_a_task_over_its_memory_leaves_the_others_alone(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner("--grace", "60")
    hog = python(DETACH + "    time.sleep(300)\n" + HOG, id="hog", memory_mb=100)
    client.create_job("a", [hog, shell("sleep 2.5", id="good", memory_mb=500), shell("true", dependencies=["hog"])])
    job = ended(client, "a")
    tasks = {task.id: task for task in client.get_tasks("a")}
    assert [tasks[name].status for name in ("hog", "good", "task-3")] == [
        TaskStatus.FAILED,
        TaskStatus.COMPLETED,
        TaskStatus.SKIPPED,
    ]
    assert job.exit is not None and job.exit.kind is ExitKind.MEMORY
    assert job.exit.reason.startswith("task hog: used ") and "more than its memory_mb of 100" in job.exit.reason
    assert tasks["hog"].error in job.exit.reason and tasks["hog"].signal == signal.SIGKILL


# --- Output ---


def test_writers_are_cut_off_and_their_neighbour_goes_on(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, launcher: str
) -> None:
    home.config.write_text("[runner]\noutput_mb = 10\n")
    start_runner("--launcher", launcher, "--grace", "60")
    client.create_job("innocent", [shell("for i in 1 2 3 4; do echo $i; sleep 0.5; done")])
    script, limits_mb = "trap '' TERM; setsid yes; sleep 300", {"task": 5, "job": 3, "default": 10}
    client.create_job("task", [shell(script, id="t", output_mb=5)])
    client.create_job("job", [shell(script, id="t")], output_mb=3)
    client.create_job("default", [shell(script, id="t")])
    for name, limit in limits_mb.items():
        job = ended(client, name)
        assert job.state is JobState.FAILED and job.exit is not None and job.exit.kind is ExitKind.OUTPUT
        assert job.exit.reason.startswith("wrote ") and job.exit.reason.endswith(f"its output_mb of {limit}")
        assert client.get_tasks(name)[0].error == job.exit.reason
        assert_cut(client, name, "t", limit)
    assert ended(client, "innocent").state is JobState.COMPLETED
    assert client.logs("innocent") == "1\n2\n3\n4\n"


def test_what_all_tasks_write_together_is_limited(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner("--grace", "60")
    much = "head -c 3000000 /dev/zero"
    tasks = [shell(much, id="a"), shell(f"{much}; yes", id="b", dependencies=["a"]), shell("true", dependencies=["b"])]
    client.create_job("a", tasks, output_mb=4)
    job = ended(client, "a")
    assert job.exit is not None and job.exit.kind is ExitKind.OUTPUT
    sizes = {task: client.home.job("a").log(task).stat().st_size for task in "ab"}
    assert sizes["a"] == 3_000_000 and 4 * MIB < sum(sizes.values()) < 4 * MIB + 100
    assert client.logs("a", "b").endswith(f"\n{KEEP.format(4, 'job')}\n")
    assert client.get_tasks("a")[2].status is TaskStatus.SKIPPED


def test_a_task_over_its_output_leaves_the_others_alone(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner("--grace", "60")
    client.create_job("a", [shell("yes", id="w", output_mb=2), shell("sleep 1; echo fine", id="good")])
    job = ended(client, "a")
    assert job.exit is not None and job.exit.kind is ExitKind.OUTPUT and job.exit.reason.startswith("task w: wrote ")
    assert_cut(client, "a", "w", 2, "task")
    assert client.logs("a", "good") == "fine\n"


def test_the_output_of_an_earlier_attempt_does_not_count(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    client.create_job("a", [shell("head -c 900000 /dev/zero; exit 1", id="t")], output_mb=1)
    for _ in range(2):
        job = ended(client, "a")
        assert job.exit is not None and job.exit.kind is ExitKind.EXIT_CODE
        client.retry("a")
    ended(client, "a")
    assert client.home.job("a").log("t").stat().st_size == 2_700_000


def test_the_next_who_writes_the_end_cuts_off_what_was_noted(client: AirExecutorClient, home: Home) -> None:
    client.create_job("a", [shell("true", id="t")])
    paths = home.job("a")
    paths.log("t").parent.mkdir(exist_ok=True)
    paths.log("t").write_bytes(b"x" * (2 * MIB + 500))
    cuts.note(paths, cuts.Cut(1, {"t": 1000, "../../config": 0}))
    cuts.note(paths, cuts.Cut(1, {"t": 1000}))
    with paths.cuts.open("a") as file:
        file.write('{"limit_mb": "much"}\nhalf a li')
    with held.HeldJob.acquire(home, "a") as job:
        job.start(processes.identify(os.getpid()), by="r")
        job.finish(JobState.FAILED, model.Exit(ExitKind.RUNNER_LOST, "lost"), by="r")
    last = f"\n{KEEP.format(1, 'job')}\n".encode()
    assert paths.log("t").read_bytes() == b"x" * (MIB + 1000) + last
    assert not paths.cuts.exists() and not home.config.exists()


class KilledError(BaseException):
    """In place of a kill."""


@pytest.mark.parametrize("call", ["ftruncate", "write", "pwrite"])
def test_a_cut_that_was_cut_off_itself_is_carried_out_by_the_next(
    home: Home, client: AirExecutorClient, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    client.create_job("a", [shell("true", id="t")])
    paths = home.job("a")
    paths.log("t").write_bytes(b"x" * (2 * MIB))
    cuts.note(paths, cuts.Cut(1, {"t": 0}))
    original = getattr(os, call)

    def killed_after(*arguments: object) -> None:
        original(*arguments)
        raise KilledError

    with monkeypatch.context() as patched, contextlib.suppress(KilledError):
        patched.setattr(os, call, killed_after)
        cuts.carry_out(paths)
    cuts.carry_out(paths)
    assert paths.log("t").read_bytes() == b"x" * MIB + b"\n" + cuts.Cut(1, {}).line.encode() + b"\n"


# --- A task that runs in the ephemeral runner itself ---


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    source = """
        import signal, subprocess, sys, time
        CHILD = "held = bytearray(b'x') * (300 * 2**20); import time; time.sleep(300)"
        def main(argv):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if argv[0] == "child":
                code = subprocess.run([sys.executable, "-c", CHILD]).returncode
                print("the child ended with", code)
                return 3
            held = bytearray(b"x") * ((300 if argv[0] == "memory" else 1) * 2**20)
            while argv[0] == "output":
                sys.stdout.buffer.write(held)
            time.sleep(300)
        if __name__ == "__main__":
            sys.exit(main(sys.argv[1:]))
        """
    (tmp_path / "limited_thing.py").write_text(textwrap.dedent(source))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "limited_thing"


def submit(client: AirExecutorClient, module: str, argument: str, **options: object) -> Job:
    task = Task(sys.executable, ["-m", module, argument], id="t")
    client.submit(Submission(Job(argument, template=module, **options), [task]))  # type: ignore[arg-type]
    return ended(client, argument)


def test_limits_of_what_runs_in_a_fork(
    client: AirExecutorClient, start_runner: StartRunner, launcher: str, module: str
) -> None:
    start_runner("--launcher", launcher, "--grace", "60", "--preload", module)
    output = submit(client, module, "output", output_mb=8)
    assert output.exit is not None and output.exit.kind is ExitKind.OUTPUT
    assert_cut(client, "output", "t", 8)
    memory = submit(client, module, "memory", memory_mb=150)
    assert memory.exit is not None and memory.exit.kind is ExitKind.MEMORY
    child = submit(client, module, "child", memory_mb=150)
    assert child.exit is not None and child.exit.kind is ExitKind.MEMORY
    if launcher == "fork":
        assert child.exit.code == 3 and "the child ended with -9" in client.logs("child")


@pytest.mark.parametrize(("memory_mb", "kill_at"), [(1, 0.0), (100_000, 7.0)])
def test_what_is_itself_too_big_has_no_last_words(memory_mb: int, kill_at: float) -> None:
    running = Running(Job("a", memory_mb=memory_mb), pid=os.getpid(), stopping=True, killed=True, kill_at=7.0)
    running.measure(trees.look())
    assert running.kill_at == kill_at


# --- What was used ---


def test_usage_says_how_long_and_how_much(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    busy = "import time; held = bytearray(b'x') * (80 * 2**20)\nwhile time.process_time() < 0.3: pass\ntime.sleep(0.3)"
    client.create_job("a", [python(busy)])
    job = ended(client, "a")
    assert job.usage is not None and job.usage.keys() == {"wall_s", "cpu_s", "max_rss_mb"}
    assert 0.6 <= job.usage["wall_s"] < 10 and 0.3 <= job.usage["cpu_s"] < 5 and 80 < job.usage["max_rss_mb"] < 200


def test_what_is_known_of_a_lost_job_is_recorded(
    client: AirExecutorClient, start_runner: StartRunner, home: Home
) -> None:
    start_runner()
    client.create_job("a", [shell("sleep 300")], memory_mb=500)
    runner = wait_for(lambda: client.get_job("a").runner)
    assert runner is not None
    peak = wait_for(lambda: usage.read_peak(home.job("a")), what="a look at its memory")
    os.kill(runner.pid, signal.SIGKILL)
    job = ended(client, "a")
    assert job.usage is not None and job.usage.keys() == {"wall_s", "max_tree_rss_mb"}
    assert 0 < job.usage["wall_s"] < 20 and job.usage["max_tree_rss_mb"] >= peak


def test_a_clock_that_was_set_shows_in_no_deadline(
    client: AirExecutorClient, start_runner: StartRunner, home: Home
) -> None:
    """As the next runner sees it: the job says that it began an hour ago, or will in an hour."""
    first = start_runner()
    for name, seconds in (("late", -3600), ("early", 3600)):
        client.create_job(name, [shell("sleep 3")], timeout=30 if seconds < 0 else 1.5)
        job = wait_for(lambda name=name: (job := client.get_job(name)).runner and job)  # type: ignore[misc]
        moment = model.parse_time(job.started_at or "").timestamp() + seconds
        job.started_at = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(moment))
        _files.replace_object(home.job(name).state, store.state_content(job))
    first.kill()
    start_runner()
    assert ended(client, "late").state is JobState.COMPLETED
    early = ended(client, "early")
    assert early.exit is not None and early.exit.kind is ExitKind.TIMEOUT
