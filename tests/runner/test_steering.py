"""A runner that is steered while it runs, one for all tests here; each leaves it as it found it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from air_executor import AirExecutorClient, JobState, audit, orders, pauses, runners, spool, status, steering, store
from air_executor.paths import Home
from air_executor.testing import RunnerProcess, end_everything, wait_for
from air_runner.guard import SpoolGuard
from air_runner.logs import LogFormatter
from tests.unit.test_repair import GONE

RUNNER = "steered"
Gate = Callable[[str], dict[str, object]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """With a runner, and a job in a queue that was paused before it started."""
    home = Home(tmp_path_factory.mktemp("steering") / "home")
    store.ensure_home(home)
    pauses.pause(home, "held", by="ana")
    AirExecutorClient(home.root).create_job("held", [{"command": "true"}], queue="held")
    runner = RunnerProcess(home, ["--name", RUNNER, "--grace", "1", "--slots", "2", "--queues", "default,held,heavy"])
    yield home
    end_everything(home, runner)


@pytest.fixture
def client(home: Home) -> AirExecutorClient:
    return AirExecutorClient(home.root)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Makes tasks that run until a file of their name is there."""
    return lambda name: {"command": "sh", "args": ["-c", f"until [ -e {tmp_path}/{name} ]; do sleep 0.02; done"]}


def info(home: Home) -> runners.RunnerInfo:
    return runners.read(home, RUNNER)


def await_state(client: AirExecutorClient, name: str, state: JobState) -> None:
    wait_for(lambda: client.get_job(name).state is state, what=f"{name} {state}")


def run_one(client: AirExecutorClient, name: str, queue: str = "default") -> None:
    client.create_job(name, [{"command": "true"}], queue=queue)
    assert client.wait(name, 40).state is JobState.COMPLETED


def heard_of_pauses(home: Home, *queues: str) -> None:
    said = f"paused queues: {', '.join(queues) or 'none'}"
    wait_for(lambda: _last_said(home).endswith(said), what=f"{said!r} in the runner's log")


def _last_said(home: Home) -> str:
    said = [line for line in home.runner_log.read_text().splitlines() if "paused queues: " in line]
    return said[-1] if said else ""


def last_event(home: Home) -> dict[str, object]:
    return audit.latest(home, runner=RUNNER)[-1]


def test_a_queue_that_was_paused_before_the_runner_started_waits_until_it_is_resumed(
    home: Home, client: AirExecutorClient
) -> None:
    run_one(client, "passes-by")
    assert client.get_job("held").state is JobState.WAITING
    (problem,) = status.gather(home).problems
    assert problem.startswith("1 job waits in the queue held, which is paused since ") and " by ana; resume" in problem
    pauses.resume(home, "held")
    assert client.wait("held", 40).state is JobState.COMPLETED


def test_a_pause_leaves_running_jobs_alone_and_new_ones_waiting(
    home: Home, client: AirExecutorClient, gate: Gate, tmp_path: Path
) -> None:
    client.create_job("runs", [gate("go")], queue="heavy")
    await_state(client, "runs", JobState.WORKING)
    pauses.pause(home, "heavy")
    heard_of_pauses(home, "heavy")
    client.create_job("comes", [{"command": "true"}], queue="heavy", priority=9)
    run_one(client, "other")
    (tmp_path / "go").touch()
    assert client.wait("runs", 40).state is JobState.COMPLETED
    run_one(client, "another")
    assert client.get_job("comes").state is JobState.WAITING
    pauses.resume(home, "heavy")
    assert client.wait("comes", 40).state is JobState.COMPLETED


def test_nobody_takes_a_place_from_a_paused_queue(home: Home, client: AirExecutorClient) -> None:
    pauses.pause(home, "heavy")
    heard_of_pauses(home, "heavy")
    script = (
        "from air_executor import AirExecutorClient as C; c = C(); "
        "c.create_job('called', [{'command': 'true'}], queue='heavy'); print(c.wait('called', 60).state)"
    )
    client.create_job("caller", [{"command": sys.executable, "args": ["-c", script]}])
    wait_for(lambda: list(home.yielded.iterdir()), what="a job that waits for another")
    run_one(client, "meanwhile")
    assert client.get_job("called").state is JobState.WAITING
    pauses.resume(home, "heavy")
    assert client.wait("caller", 40).state is client.wait("called", 40).state is JobState.COMPLETED


def test_fewer_slots_let_jobs_go_on_and_start_none_until_there_is_room(
    home: Home, client: AirExecutorClient, gate: Gate, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        client.create_job(name, [gate(name)])
        await_state(client, name, JobState.WORKING)
    steering.set_runner(home, RUNNER, slots=1, by="ana", why="less noise")
    wait_for(lambda: info(home).slots == 1)
    client.create_job("three", [{"command": "true"}])
    (tmp_path / "one").touch()
    client.wait("one", 40)
    (tmp_path / "two").touch()
    three = client.wait("three", 40)
    assert (three.started_at or "") > (client.get_job("two").finished_at or "~")
    event = last_event(home)
    assert (event["what"], event["by"], event["why"], event["slots"]) == ("set", "ana", "less noise", 1)
    assert event["before"] == {"slots": 2, "queues": ["default", "held", "heavy"]}
    steering.set_runner(home, RUNNER, slots=2)
    wait_for(lambda: info(home).slots == 2)


def test_more_slots_start_what_waits(home: Home, client: AirExecutorClient, gate: Gate, tmp_path: Path) -> None:
    for name in ("four", "five", "six"):
        client.create_job(name, [gate("go")])
    steering.set_runner(home, RUNNER, slots=3)
    for name in ("four", "five", "six"):
        await_state(client, name, JobState.WORKING)
    (tmp_path / "go").touch()
    for name in ("four", "five", "six"):
        client.wait(name, 40)
    steering.set_runner(home, RUNNER, slots=2)
    wait_for(lambda: info(home).slots == 2)


def test_other_queues_are_served_at_once_and_those_before_no_longer(home: Home, client: AirExecutorClient) -> None:
    client.create_job("early", [{"command": "true"}], queue="new")
    steering.set_runner(home, RUNNER, queues="new,newer,default")
    assert client.wait("early", 40).state is JobState.COMPLETED
    wait_for(lambda: info(home).queues == ["new", "newer", "default"])
    run_one(client, "late", queue="newer")
    client.create_job("left", [{"command": "true"}], queue="heavy", priority=9)
    run_one(client, "stays")
    assert runners.unserved(home, ["heavy", "newer"]) == ["heavy"]
    assert [marker.job for marker in spool.waiting(home, "heavy")] == ["left"], "for other runners"
    steering.set_runner(home, RUNNER, queues=["default", "held", "heavy"])
    assert client.wait("left", 40).state is JobState.COMPLETED


def test_who_drained_it_is_known(home: Home, client: AirExecutorClient) -> None:
    runners.tell(home, RUNNER, "drain", by="ana", why="a new disk")
    wait_for(lambda: info(home).draining)
    wait_for(lambda: last_event(home)["what"] == "drain")
    assert (last_event(home)["by"], last_event(home)["why"]) == ("ana", "a new disk")
    runners.tell(home, RUNNER, "resume")
    run_one(client, "after")


def test_what_was_meant_for_the_runner_before_is_not_obeyed(home: Home, client: AirExecutorClient) -> None:
    orders.give(home, RUNNER, orders.Order("stop", process=GONE))
    (home.control / f"{RUNNER}.set-0").write_text(json.dumps({"slots": "none", "process": {}}))
    orders.wake_all(home)
    wait_for(lambda: not list(home.control.iterdir()), what="the orders removed")
    run_one(client, "undisturbed")
    assert info(home).slots == 2


def test_it_says_that_it_came_and_went(home: Home) -> None:
    """The last test: it ends the runner."""
    runners.tell(home, RUNNER, "stop", by="ana")
    wait_for(lambda: not home.runner(RUNNER).exists())
    said = [(each["what"], each["by"]) for each in audit.latest(home, runner=RUNNER, most=100)]
    assert said[0][0] == audit.STARTED
    assert said[-2:] == [("stop", "ana"), (audit.ENDED, f"runner {RUNNER}")]


def test_queues_that_a_runner_serves_later_are_guarded_as_the_others(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    guard = SpoolGuard(home, "r", ["default"])
    guard.make()
    guard.serve(["other"])
    assert home.queue("other").is_dir() and not guard.is_changed()
    home.queue("default").rmdir()
    assert not guard.is_changed()
    home.queue("other").rmdir()
    guard.serve(["other", "third"])
    assert guard.is_changed(), "what was changed before is still to be seen to"


def test_no_reason_makes_a_line_of_the_log_of_its_own() -> None:
    why = "tidy\n2026-01-01T00:00:00.000Z ERROR [1] lost\x1b[2J\u202e"
    record = logging.LogRecord("air_runner", logging.INFO, __file__, 1, "asked to drain by %s: %s", ("ana", why), None)
    said = LogFormatter().format(record)
    assert said.isprintable() and said.endswith("by ana: tidy 2026-01-01T00:00:00.000Z ERROR [1] lost\ufffd")
    record.exc_info = (ValueError, ValueError("x"), None)
    assert LogFormatter().format(record).endswith("\nValueError: x")
