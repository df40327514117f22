"""Variants: what some jobs have in common is prepared once, in a fork of the template, and only as long as it holds."""

from __future__ import annotations

import json
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from air_executor import AirExecutorClient
from air_executor.model import Job, JobState, Task
from air_executor.store import Submission
from air_executor.testing import RunnerProcess, wait_for
from air_runner import variants
from air_runner.channel import Channel
from tests.runner.conftest import StartRunner
from tests.runner.test_template import wait_until_old

MAIN = """
    import json, os, threading, time
    from pathlib import Path
    PLACE = Path(__file__).parent
    PREPARED = None
    COUNT = 0
    def prepare(variant):
        global PREPARED
        path = PLACE / variant
        PREPARED = path.read_text()
        if PREPARED == "thread":
            threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
        elif PREPARED == "hang":
            time.sleep(300)
        elif PREPARED == "die":
            os._exit(3)
        return [str(path)]
    def main(argv):
        global COUNT
        COUNT += 1
        print(json.dumps({"prepared": PREPARED, "count": COUNT, "parent": os.getppid()}))
        time.sleep(float(argv[0]) if argv else 0)
        return 0
    if __name__ == "__main__":
        main([])
    """


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "thing.py").write_text(textwrap.dedent(MAIN))
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"made of {name}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    wait_until_old(tmp_path)
    return tmp_path


class Jobs:
    """Runs `thing` in variants."""

    def __init__(self, client: AirExecutorClient) -> None:
        self.client = client
        self.count = 0

    def start(self, variant: str | None, *arguments: str) -> str:
        self.count += 1
        name = f"job-{self.count}"
        task = Task(command=sys.executable, args=["-m", "thing", *arguments])
        self.client.submit(Submission(Job(name=name, template="thing", variant=variant), [task]))
        return name

    def result(self, name: str) -> dict[str, Any]:
        assert self.client.wait(name, 30).state is JobState.COMPLETED
        found: dict[str, Any] = json.loads(self.client.logs(name))
        return found

    def run(self, variant: str | None) -> dict[str, Any]:
        return self.result(self.start(variant))

    def run_until_prepared(self, variant: str) -> dict[str, Any]:
        return (
            wait_for(lambda: (found := self.run(variant))["prepared"] is not None and found, what="preparation") or {}
        )


@pytest.fixture
def jobs(client: AirExecutorClient, start_runner: StartRunner, place: Path) -> Jobs:
    start_runner("--preload", "thing")
    return Jobs(client)


def test_from_the_second_job_on_it_is_prepared(jobs: Jobs) -> None:
    assert jobs.run("a")["prepared"] is None
    found = jobs.run_until_prepared("a")
    assert found["prepared"] == "made of a"
    assert jobs.run(None)["prepared"] is None and jobs.run("b")["prepared"] is None
    assert jobs.run_until_prepared("b")["prepared"] == "made of b"
    again = jobs.run("a")
    assert (again["prepared"], again["parent"], again["count"]) == ("made of a", found["parent"], 1), (
        "nothing is shared"
    )


def test_what_has_changed_is_seen_by_the_next_job(jobs: Jobs, place: Path) -> None:
    jobs.run_until_prepared("a")
    (place / "a").write_text("changed")
    assert jobs.run("a")["prepared"] is None
    assert jobs.run_until_prepared("a")["prepared"] == "changed"
    (place / "a").unlink()
    assert jobs.run("a")["prepared"] is None


@pytest.mark.parametrize("fault", ["thread", "die", None])
def test_what_cannot_be_prepared_is_done_without(jobs: Jobs, place: Path, fault: str | None) -> None:
    if fault is None:
        (place / "a").unlink()
    else:
        (place / "a").write_text(fault)
    for _ in range(4):
        assert jobs.run("a")["prepared"] is None


def test_its_jobs_go_on_when_it_is_killed(jobs: Jobs, client: AirExecutorClient) -> None:
    variant = jobs.run_until_prepared("a")["parent"]
    names = [jobs.start("a", "1") for _ in range(4)]
    wait_for(lambda: all(client.get_job(name).state is JobState.WORKING for name in names))
    psutil.Process(variant).send_signal(signal.SIGKILL)
    late = [jobs.start("a") for _ in range(4)]
    assert [jobs.result(name)["prepared"] for name in names] == ["made of a"] * 4
    for name in late:
        jobs.result(name)
    assert jobs.run_until_prepared("a")["parent"] != variant


def test_it_ends_with_the_runner(client: AirExecutorClient, start_runner: StartRunner, place: Path) -> None:
    runner: RunnerProcess = start_runner("--preload", "thing")
    variant = psutil.Process(Jobs(client).run_until_prepared("a")["parent"])
    runner.signal(signal.SIGTERM)
    assert runner.wait() == 0
    psutil.wait_procs([variant], timeout=10)
    assert not variant.is_running()


# --- The template's side, without processes ---


class Bench:
    """Variants whose forks are made of sockets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import selectors
        import socket

        self.selector = selectors.DefaultSelector()
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.started: list[str] = []
        self.ends: dict[str, Channel] = {}
        self.told: list[dict[str, Any]] = []
        self.launched: list[str] = []
        self.made = socket.socketpair
        self.variants = variants.Variants(self.selector, self.start, self.told.append, self.launched.append)

    def start(self, name: str) -> tuple[int, Channel]:
        ours, theirs = map(Channel, self.made())
        self.started.append(name)
        self.ends[name] = theirs
        return 4711, ours

    def say(self, name: str, **message: Any) -> None:
        self.ends[name].send(message)
        self.listen()

    def listen(self) -> None:
        for key, _ in self.selector.select(0):
            key.data()

    def prepare(self, name: str) -> None:
        assert not self.variants.ask(name, "first") and not self.variants.ask(name, "second")
        assert self.started[-1] == name
        self.say(name, ready=1)

    def close(self) -> None:
        for channel in self.ends.values():
            channel.close()
        self.variants.forget()
        self.selector.close()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    bench = Bench(monkeypatch)
    yield bench
    bench.close()


def test_what_is_said_is_passed_on(bench: Bench) -> None:
    bench.prepare("a")
    assert bench.variants.ask("a", "job")
    assert [message["launch"] for message in bench.ends["a"].receive()] == ["job"]
    bench.say("a", launched="job", pid=5)
    bench.say("a", exited=5, status=0)
    assert bench.told == [{"launched": "job", "pid": 5}, {"exited": 5, "status": 0}]
    bench.ends["a"].close()
    bench.listen()
    assert bench.launched == []


def test_what_is_not_answered_is_launched_without_it(bench: Bench) -> None:
    bench.prepare("a")
    assert bench.variants.ask("a", "job") and bench.variants.ask("a", "other")
    bench.say("a", launched="job", pid=5)
    bench.ends["a"].close()
    bench.listen()
    assert bench.launched == ["other"]


def test_whether_an_answer_is_owed(bench: Bench) -> None:
    """Who takes the template's place would never hear of it."""
    bench.prepare("a")
    assert not bench.variants.owe
    bench.variants.ask("a", "job")
    assert bench.variants.owe
    bench.say("a", launched="job", pid=5)
    assert not bench.variants.owe


def test_a_refusal_holds_for_a_while(bench: Bench) -> None:
    bench.variants.ask("a", "first")
    bench.variants.ask("a", "second")
    bench.say("a", refused="no reason")
    bench.ends["a"].close()
    bench.listen()
    for _ in range(3):
        assert not bench.variants.ask("a", "later")
    assert bench.started == ["a"]
    bench.now += variants.REFUSED_FOR + 1
    bench.variants.ask("a", "later")
    assert bench.started == ["a", "a"]


def test_one_that_hangs_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: killed.append(pid))
    bench.variants.ask("a", "first")
    bench.variants.ask("a", "second")
    bench.variants.check()
    assert killed == [] and (bench.variants.next_moment or 0) > 0
    bench.now += variants.PREPARE_TIMEOUT + 1
    bench.variants.check()
    assert killed == [4711] and bench.variants.next_moment is None
    assert not bench.variants.ask("a", "third") and bench.started == ["a"]


def test_only_so_many_are_kept_and_remembered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "MAX_VARIANTS", 2)
    monkeypatch.setattr(variants, "MAX_REMEMBERED", 3)
    for name in "ab":
        bench.prepare(name)
    assert bench.variants.ask("a", "job")
    bench.prepare("c")
    assert list(bench.ends["b"].receive()) == [] and bench.ends["b"].closed, "the one not used for longest"
    assert bench.variants.ask("a", "job")
    for name in "xyz":
        bench.variants.ask(name, "job")
    assert len(bench.variants._wanted) == 3


def test_long_ago_does_not_count(bench: Bench) -> None:
    bench.variants.ask("a", "job")
    bench.now += variants.REPEATS_WITHIN + 1
    bench.variants.ask("a", "job")
    assert bench.started == []
