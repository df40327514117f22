"""Runners as others see them: their files, their lives, what they are told, how they are started."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from air_executor import _files, components, model, processes, runners, temporaries
from air_executor.errors import CorruptFileError, InvalidNameError, NotFoundError, RunnerError
from air_executor.paths import Home
from air_executor.sightings import Sightings
from tests.unit.test_repair import GONE

SELF = processes.identify(os.getpid())
HOUR = 3600.0


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
        (dataclasses.replace(SELF, host="elsewhere"), -16, False),
    ],
)
def test_who_lives(process: model.Process, heartbeat_age: float, alive: bool) -> None:
    """Here by the process, whose number may be another's by now; elsewhere, at first, by the last heartbeat."""
    assert Sightings(guess=True).is_alive(info(process=process, heartbeat_at=ago(heartbeat_age))) is alive


ELSEWHERE = dataclasses.replace(SELF, host="elsewhere")
LONG_AGO, FAR_AHEAD = "2001-01-01T00:00:00Z", "2101-01-01T00:00:00Z"


@pytest.mark.parametrize("said", [LONG_AGO, FAR_AHEAD])
@pytest.mark.parametrize("guess", [True, False])
def test_only_heartbeats_that_stay_away_make_a_runner_of_another_host_dead(said: str, guess: bool) -> None:
    one = info(process=ELSEWHERE, heartbeat_at="2050-01-01T00:00:00Z")
    seen = Sightings(guess=guess)
    assert seen.last_beat("r") is None
    assert seen.is_alive(one, now=100.0) is not guess
    assert seen.is_alive(one, now=114.0) is not guess
    assert not seen.is_alive(one, now=115.0)
    one.heartbeat_at = said  # its clock was set; it beats
    assert seen.is_alive(one, now=200.0) and seen.is_alive(one, now=214.0)
    assert not seen.is_alive(one, now=215.0)
    assert seen.last_beat("r") == said


@pytest.mark.parametrize("said", [LONG_AGO, FAR_AHEAD])
def test_who_looks_once_waits_for_a_heartbeat_if_a_clock_is_in_doubt(home: Home, said: str) -> None:
    runners.write(home, info("far", ELSEWHERE, heartbeat_at=said))
    runners.write(home, info("dead", ELSEWHERE, heartbeat_at=said, heartbeat=0.1))
    over = threading.Event()

    def beat() -> None:
        for second in itertools.cycle(range(10)):
            runners.write(home, info("far", ELSEWHERE, heartbeat_at=said.replace("00Z", f"0{second}Z")))
            if over.wait(0.1):
                return

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        assert [each.id for each in runners.alive_runners(home)] == ["far"]
    finally:
        over.set()
        beating.join()


def test_nobody_waits_for_a_clock_that_is_not_in_doubt(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, process in (("here", SELF), ("gone", GONE), ("far", ELSEWHERE)):
        runners.write(home, info(name, process))
    runners.write(home, info("dead", ELSEWHERE, heartbeat_at=LONG_AGO))
    monkeypatch.delattr(time, "sleep")
    assert runners.unserved(home, ["default"]) == []
    runners.check_free(home, "new", runners.observe(home, "new"))


@pytest.mark.parametrize("age", [HOUR, 0.0, -HOUR])
def test_claims_without_a_runner_are_old_when_they_were_seen_to_be_left_alone(home: Home, age: float) -> None:
    for holder in ("unknown", writer := f"client-{temporaries.writer()}"):
        home.claims(holder).mkdir()
        past = time.time() - age
        os.utime(home.claims(holder), (past, past))
    seen = Sightings()
    assert not seen.is_old_holder(home, "unknown", now=100.0)
    assert not seen.is_old_holder(home, "unknown", now=115.0)
    assert seen.is_old_holder(home, "unknown", now=116.0)
    (home.claims("unknown") / "job").touch()
    assert not seen.is_old_holder(home, "unknown", now=117.0)
    assert not seen.is_old_holder(home, writer, now=100.0) and not seen.is_old_holder(home, writer, now=1000.0)
    assert not seen.is_old_holder(home, "missing", now=100.0)


def test_who_cannot_tell_whether_a_name_is_free_does_not_take_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "ENLIST_WAIT", 0.01)
    lock = _files.Lock(home.names_lock)
    assert lock.acquire()
    with pytest.raises(RunnerError, match="was held by another process"):
        runners.enlist(home, info())
    lock.release()
    assert not home.runner("r").exists()


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
    home.metrics.mkdir()
    for runner_id in ("alive", "dead", "dead-with-claims", "nobody-knows"):
        home.runner_metrics(runner_id).touch()
    runners.forget_dead(home, Sightings())
    assert [each.id for each in runners.all_runners(home)] == ["alive", "dead-with-claims"]
    assert list(home.metrics.iterdir()) == [home.runner_metrics("alive")]


def test_metrics_of_others_behind_a_link_are_left_alone(home: Home, tmp_path: Path) -> None:
    home.metrics.symlink_to(tmp_path)
    (tmp_path / "node.prom").touch()
    runners.forget_dead(home, Sightings())
    assert (tmp_path / "node.prom").exists()


def test_the_command_line_of_a_runner(home: Home) -> None:
    options = runners.StartOptions(
        ["a", "b"], 3, "n", ["m1", "m2"], "exec", 2.5, 3.0, True, True, "/python", 9555, "10.0.0.1"
    )
    assert options.argv(home) == [
        *("/python", "-m", "air_runner", "--home", str(home.root), "--queues", "a,b", "--slots", "3", "--name", "n"),
        *(
            "--launcher",
            "exec",
            "--linger",
            "2.5",
            "--grace",
            "3.0",
            "--metrics-port",
            "9555",
            "--metrics-host",
            "10.0.0.1",
            "--preload",
            "m1",
            "--preload",
            "m2",
            "--handover",
            "--embedded",
        ),
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
