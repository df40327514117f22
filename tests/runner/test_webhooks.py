"""Webhooks from end to end: a real runner, its sender, a real receiver; both of them go and come back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from air_executor import AirExecutorClient, testing, webhooks
from air_executor.errors import JobBusyError
from air_executor.model import JobState
from air_executor.paths import Home
from air_executor.testing import wait_for
from air_executor.webhooks import outbox
from air_runner import sending
from tests.receiver import SECRET, Got, new, table
from tests.runner.conftest import StartRunner

COMMAND = [sys.executable, "-m", "air_executor"]


def senders(home: Home) -> list[int]:
    found = []
    for pid in testing.processes_of(home):
        try:
            if "air_runner.sending" in psutil.Process(pid).cmdline():
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def waiting(home: Home) -> list[str]:
    return [f"{name}/{stem}" for name in outbox.webhooks_of(home) for stem in outbox.stems(home, name)]


def tries(home: Home) -> int:
    return sum(each.tries for each in outbox.read_all(home, dead=False) if isinstance(each, outbox.Entry))


def test_a_sender_that_dies_again_and_again_comes_back_later_and_later() -> None:
    assert [sending.pause(failures) for failures in (1, 2, 3, 7, 8, 9, 1000)] == [0.5, 1, 2, 32, 60, 60, 60]


@pytest.mark.parametrize(("lived", "seconds"), [(sending.STEADY + 1, 0.5), (1.0, 4.0)])
def test_one_that_lived_for_a_while_comes_back_soon(lived: float, seconds: float, home: Home) -> None:
    here = sending.Sending(home)
    here._failures, here._started_at = 3, 1000.0
    assert here.died(1000.0 + lived) == 1000.0 + lived + seconds


def test_every_event_arrives_in_order_whoever_is_killed(
    home: Home, client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path
) -> None:
    receiver = new()
    failures = table(receiver, "failures", "all_jobs = true", 'states = ["failed"]')
    home.config.write_text(
        "[runner]\nheartbeat = 300\n"  # it is not the heartbeat that brings a sender back
        + table(receiver)
        + failures
    )
    (home.root / "secret").write_text(SECRET)
    runner = start_runner()

    flag = tmp_path / "flag"
    client.create_job("a", [{"command": "test", "args": ["-e", str(flag)]}], webhooks=["ops"])
    assert client.wait("a").state is JobState.FAILED
    flag.touch()
    client.retry("a")
    client.create_job("b", [{"command": "true"}], webhooks=["ops"])
    client.create_job("c", [{"command": "true"}])
    assert [client.wait(name).state for name in "abc"] == [JobState.COMPLETED] * 3
    jobs = {name: client.get_job(name).id for name in "ab"}
    expected = {f"ops/{jobs['a']},1", f"ops/{jobs['a']},2", f"failures/{jobs['a']},1", f"ops/{jobs['b']},1"}
    wait_for(lambda: tries(home) > 0, what="a try that fails, as nobody listens")
    assert set(waiting(home)) == expected

    killed = threading.Event()
    asked = threading.Event()

    def answer(_: Got) -> tuple[int, dict[str, str], bytes] | None:
        asked.set()
        return (200, {}, b"") if killed.wait(20) and len(receiver.got) > 2 else None

    receiver.answer = answer
    with receiver.listening():
        assert asked.wait(20)
        (sender,) = senders(home)
        os.kill(sender, signal.SIGKILL)
        killed.set()
        wait_for(lambda: not waiting(home), what="the delivery of all events by another sender")
        assert senders(home) != [sender]
        other = subprocess.run(
            [*COMMAND, "--home", str(home.root), "webhook", "run"], capture_output=True, text=True, check=False
        )
        assert (other.returncode, "another process sends" in other.stderr) == (JobBusyError.exit_code, True)
        tested = subprocess.run(
            [*COMMAND, "--home", str(home.root), "webhook", "test", "ops"], capture_output=True, text=True, check=True
        )
        assert tested.stdout == "ops took it\n"

    events = [webhooks.verify(got.headers, got.body, SECRET, tolerance=3600) for got in receiver.got]
    assert {event["id"] for event in events if event["event"] != "ping"} == expected
    assert len(events) > len(expected) + 1, "the one of which the answer was lost was not sent again"
    bodies = {event["id"]: json.dumps(event) for event in events}
    assert all(bodies[event["id"]] == json.dumps(event) for event in events)
    firsts = [event["job"]["attempt"] for event in events if event["id"].startswith(f"ops/{jobs['a']}")]
    assert firsts == sorted(firsts)

    runner.signal(signal.SIGTERM)
    assert runner.wait() == 0
    assert senders(home) == []
    said = home.runner_log.read_text()
    assert "was taken" in said
    assert SECRET not in said and "secret-part-of-the-path" not in said
