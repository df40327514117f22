"""Runners as others see them: their files, their lives, what they are told, how they are started."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from air_executor import components, model, processes, runners
from air_executor.errors import CorruptFileError, InvalidNameError, NotFoundError, RunnerError
from air_executor.paths import Home
from tests.unit.test_repair import GONE

SELF = processes.identify(os.getpid())


def info(runner_id: str = "r", process: model.Process = SELF, **changes: object) -> runners.RunnerInfo:
    moment = model.now()
    made = runners.RunnerInfo(runner_id, process, ["default"], 2, "fork", "0", moment, moment, 3.0)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def ago(seconds: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def test_a_runner_comes_back_as_it_was_written(home: Home) -> None:
    written = info(queues=["a", "b"], extra={"later": 1})
    runners.write(home, written)
    assert runners.read(home, "r") == written and runners.all_runners(home) == [written]


@pytest.mark.parametrize("key", ["heartbeat", "queues", "heartbeat_at", "process"])
def test_a_value_of_the_wrong_kind_is_damage(home: Home, key: str) -> None:
    runners.write(home, info())
    path = home.runner("r")
    path.write_text(json.dumps({**json.loads(path.read_text()), key: None}))
    with pytest.raises(CorruptFileError, match=r"r\.json"):
        runners.read(home, "r")
    assert runners.alive_runners(home) == []


def test_a_runner_that_cannot_be_started_leaves_no_descriptor(home: Home) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        runners.start_detached(home, runners.StartOptions(python="/no/such/python"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("content", ["", "{}", '{"id": "r", "process": 1}', '{"id": "r", "process": {"host": "h"}}'])
def test_a_damaged_file_is_named_and_passed_over(home: Home, content: str) -> None:
    home.runner("r").write_text(content)
    (home.runners / "odd name.json").write_text("{}")
    with pytest.raises(CorruptFileError, match=r"r\.json"):
        runners.read(home, "r")
    assert runners.all_runners(home) == []
    with pytest.raises(NotFoundError, match="there is no runner x"):
        runners.read(home, "x")
    with pytest.raises(InvalidNameError):
        runners.read(home, "../x")


@pytest.mark.parametrize(
    ("process", "heartbeat_age", "alive"),
    [
        (SELF, 1000, True),
        (GONE, 0, False),
        (dataclasses.replace(SELF, start_time=1), 0, False),
        (dataclasses.replace(SELF, boot_id="before"), 0, False),
        (dataclasses.replace(SELF, host="elsewhere"), 14, True),
        (dataclasses.replace(SELF, host="elsewhere"), 16, False),
    ],
)
def test_who_lives(process: model.Process, heartbeat_age: float, alive: bool) -> None:
    """Here by the process, whose number may be another's by now; elsewhere by the last heartbeat."""
    assert runners.is_alive(info(process=process, heartbeat_at=ago(heartbeat_age))) is alive


def test_who_serves_a_queue() -> None:
    one, two, drained = info("1"), info("2", queues=["default", "big"]), info("3", draining=True)
    assert runners.serving([one, two, drained], "default") == [one, two]
    assert runners.serving([one, two, drained], "big") == [two]


def test_telling(home: Home) -> None:
    runners.write(home, info("r"))
    runners.write(home, info("dead", GONE))
    runners.tell(home, "r", "drain")
    assert [path.name for path in home.control.iterdir()] == ["r.drain"]
    with pytest.raises(NotFoundError, match="the runner dead is not running"):
        runners.tell(home, "dead", "drain")
    with pytest.raises(ValueError, match="dance"):
        runners.tell(home, "r", "dance")


def test_dead_runners_without_claims_are_forgotten(home: Home) -> None:
    for runner_id, process in (("alive", SELF), ("dead", GONE), ("dead-with-claims", GONE)):
        runners.write(home, info(runner_id, process))
        home.claims(runner_id).mkdir()
    (home.claims("dead-with-claims") / "job").touch()
    runners.forget_dead(home)
    assert [each.id for each in runners.all_runners(home)] == ["alive", "dead-with-claims"]


def test_the_command_line_of_a_runner(home: Home) -> None:
    options = runners.StartOptions(["a", "b"], 3, "n", ["m1", "m2"], "exec", 2.5, True, True, "/python")
    assert options.argv(home) == [
        *("/python", "-m", "air_runner", "--home", str(home.root), "--queues", "a,b", "--slots", "3", "--name", "n"),
        *("--launcher", "exec", "--linger", "2.5", "--preload", "m1", "--preload", "m2", "--handover", "--embedded"),
    ]


def test_a_runner_that_cannot_start_is_reported_with_its_last_line(home: Home) -> None:
    home.runner_log.write_text("an older line\n")
    with pytest.raises(RunnerError, match=r"the runner's name '\.\./x'"):
        runners.start_detached(home, runners.StartOptions(name="../x"))


def test_queues_that_nobody_serves(home: Home) -> None:
    assert runners.unserved(home, ["default", "gpu"]) == ["default", "gpu"]
    runners.write(home, info("r"))
    assert runners.unserved(home, ["default", "gpu"]) == ["gpu"]


def test_keeping_alive(home: Home) -> None:
    runners.keep_alive(home)
    assert time.time() - home.keepalive.stat().st_mtime < 60


# --- Components ---


def test_components_come_and_go(home: Home) -> None:
    server = components.Component("api-server", SELF, "/log", "http://127.0.0.1:1")
    components.register(home, server)
    components.register(home, components.Component("scheduler", GONE))
    (home.components / "broken.json").write_text("{")
    (home.components / "odd.json").write_text('{"pid": "x"}')
    found = components.read_all(home)
    assert [type(each) for each in found] == [components.Component, CorruptFileError, CorruptFileError, type(server)]
    assert found[0] == server and server.alive
    assert isinstance(found[3], components.Component) and not found[3].alive
    components.unregister(home, "scheduler")
    with pytest.raises(NotFoundError, match="there is no component scheduler"):
        components.unregister(home, "scheduler")
    with pytest.raises(InvalidNameError):
        components.register(home, components.Component("../x", SELF))


def test_a_component_written_by_hand_needs_no_boot(home: Home) -> None:
    home.component("scheduler").write_text(
        f'{{"name": "scheduler", "pid": {SELF.pid}, "start_time": {SELF.start_time}, "host": "{SELF.host}"}}'
    )
    (found,) = components.read_all(home)
    assert isinstance(found, components.Component) and found.alive
