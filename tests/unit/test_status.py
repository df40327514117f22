"""What is going on: judged in tables, gathered from a home without a runner."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from air_executor import components, model, runners, spool, status, store
from air_executor.health import ComponentStatus, QueueStatus, RunnerStatus, Status, Verdict
from air_executor.model import JobState
from air_executor.paths import Home
from air_executor.webhooks import outbox
from tests.unit.conftest import Submit, finish
from tests.unit.test_repair import GONE, work
from tests.unit.test_runners import SELF, info

HEALTHY = {
    "metadatabase": {"status": "healthy"},
    "scheduler": {"status": "healthy", "latest_scheduler_heartbeat": "2026-01-01T00:00:00+00:00"},
    "triggerer": {"status": None, "latest_triggerer_heartbeat": None},
    "dag_processor": {"status": "unhealthy"},
}


def runner(state: str) -> RunnerStatus:
    return RunnerStatus("r", state, "h", 1, ["default"], 2, 1, 0.0, "0", "fork", False)


def component(name: str, state: str) -> ComponentStatus:
    return ComponentStatus(name, state, detail="so")


UP, DOWN = component("scheduler", "up"), component("triggerer", "down")
SERVED, UNSERVED, IDLE = QueueStatus("a", 3, 9.0, 1), QueueStatus("b", 3, 9.0, 0), QueueStatus("c", 0, None, 1)


@pytest.mark.parametrize(
    ("parts", "verdict", "problem"),
    [
        ({}, Verdict.NOT_RUNNING, "no runner takes jobs"),
        ({"exists": False}, Verdict.NOT_RUNNING, "is not there"),
        ({"components": [DOWN]}, Verdict.NOT_RUNNING, "triggerer is down: so"),
        ({"runners": [runner("dead")]}, Verdict.NOT_RUNNING, "is gone and left 1 job"),
        ({"runners": [runner("alive")]}, Verdict.HEALTHY, None),
        ({"runners": [runner("alive")], "components": [UP], "queues": [SERVED, IDLE]}, Verdict.HEALTHY, None),
        ({"runners": [runner("alive")], "components": [component("x", "unknown")]}, Verdict.HEALTHY, None),
        ({"runners": [runner("alive")], "components": [UP, DOWN]}, Verdict.DEGRADED, "triggerer is down: so"),
        ({"runners": [runner("alive")], "components": [component("x", "unhealthy")]}, Verdict.DEGRADED, "unhealthy"),
        ({"components": [UP]}, Verdict.DEGRADED, "no runner takes jobs"),
        ({"runners": [runner("draining")]}, Verdict.DEGRADED, "no runner takes jobs"),
        ({"runners": [runner("alive"), runner("dead")]}, Verdict.DEGRADED, "is gone and left 1 job"),
        (
            {"runners": [runner("alive")], "settings": "so"},
            Verdict.DEGRADED,
            "no runner can start",
        ),
        (
            {"runners": [runner("alive")], "given_up": {"ops": 2}},
            Verdict.DEGRADED,
            "webhook ops: 2 of its events; look",
        ),
        ({"runners": [runner("alive")], "queues": [UNSERVED]}, Verdict.DEGRADED, "queue b and no runner serves it"),
    ],
)
def test_verdicts(parts: dict[str, Any], verdict: Verdict, problem: str | None) -> None:
    found = Status(home="/h", at="now", start="go", **{"exists": True, **parts})
    assert found.verdict is verdict
    assert (problem is None and found.problems == []) or any(problem in each for each in found.problems if problem)
    assert json.loads(json.dumps(found.to_dict()))["status"] == verdict.value


def test_exit_codes() -> None:
    assert [each.exit_code for each in (Verdict.HEALTHY, Verdict.DEGRADED, Verdict.NOT_RUNNING)] == [0, 1, 2]


def test_the_word_of_the_api_server_comes_after_that_of_the_system() -> None:
    found = [component(name, "up") for name in ("api-server", "scheduler", "dag-processor", "triggerer")]
    states = {each.name: each.state for each in status.with_health(found, HEALTHY)}
    assert states == {"api-server": "up", "scheduler": "up", "dag-processor": "unhealthy", "triggerer": "up"}
    gone = status.with_health([component("scheduler", "down")], HEALTHY)
    assert gone[0].state == "down", "its last heartbeat is not its life"
    elsewhere = status.with_health([component("scheduler", "unknown")], HEALTHY)
    assert elsewhere[0].state == "up"


def test_an_api_server_that_does_not_answer_is_unhealthy_and_the_others_are_not() -> None:
    found = [component(name, "up") for name in ("api-server", "scheduler")]
    assert [each.state for each in status.with_health(found, "no answer")] == ["unhealthy", "up"]
    assert status.with_health(found, None) == found


# --- Gathering ---


def test_a_home_that_is_not_there(tmp_path: Path) -> None:
    found = status.gather(Home(tmp_path / "gone"))
    assert found.verdict is Verdict.NOT_RUNNING and not found.exists
    assert not (tmp_path / "gone").exists(), "looking creates nothing"


def test_gathering(home: Home, submit: Submit) -> None:
    for name in ("waits", "works", "failed", "damaged"):
        submit(name, queue="q" if name == "waits" else "default")
    finish(home, "failed", JobState.FAILED)
    home.job("damaged").state.write_text("")
    work(home, "works")
    runners.write(home, info("r", queues=["default"]))
    runners.write(home, info("dead", GONE))
    runners.write(home, info("dead-and-done", GONE))
    found = status.gather(home)
    assert {(each.id, each.state, each.working) for each in found.runners} == {("r", "alive", 0), ("dead", "dead", 1)}
    queues = {each.name: (each.waiting, each.served_by) for each in found.queues}
    assert queues == {"default": (1, 1), "q": (1, 0)}
    assert [(each.name, each.runner) for each in found.working] == [("works", "dead")]
    reasons = {each.name: each.reason for each in found.failures}
    assert reasons["failed"] == "failed in a test" and "state.json" in reasons["damaged"]
    assert found.verdict is Verdict.DEGRADED


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"[runner]\nslotz = 3\n", "unknown option in [runner] slotz; did you mean slots?; mend it"),
        (b"[runner\n", "not valid TOML"),
        (b"\xff", "not valid TOML"),
        (b'[webhooks.ops]\nsecret = "s3cr3t"\n', "has no option secret; give secret_file"),
        (b'[webhooks.ops]\nkind = "s3cr3t"\n', "kind must be one of json, slack, airflow; mend it"),
        (b'[runner]\nslots = "s3cr3t"\n', "[runner] slots must be a whole number; mend it"),
    ],
)
def test_settings_that_are_wrong_are_a_problem(written: bytes, said: str, home: Home) -> None:
    runners.write(home, info("r", queues=["default"]))
    assert status.gather(home).verdict is Verdict.HEALTHY
    home.config.write_bytes(written)
    found = status.gather(home)
    (problem,) = found.problems
    assert said in problem and str(home.config) in problem and problem.endswith("doctor")
    assert found.verdict is Verdict.DEGRADED and "s3cr3t" not in json.dumps(found.to_dict())


def test_events_that_were_given_up_are_a_problem(home: Home) -> None:
    runners.write(home, info("r", queues=["default"]))
    for number in (1, 2):
        outbox.write(home, outbox.Entry("ops", f"a.00000001,{number}", {}, model.now(), dead=True))
    outbox.write(home, outbox.Entry("chat", "a.00000001,1", {}, model.now()))
    found = status.gather(home)
    assert found.given_up == {"ops": 2}
    (problem,) = found.problems
    assert "given up for the webhook ops: 2 of its events" in problem
    assert problem.endswith("webhook list --dead --webhook ops")


def test_the_oldest_of_a_queue(home: Home, submit: Submit) -> None:
    submit("old", priority=-1)
    submit("new", priority=1)
    (queue,) = status.gather_queues(home, [])
    oldest = min(marker.queued_at for marker in spool.waiting(home, "default"))
    assert queue.waiting == 2 and queue.oldest_age is not None
    assert store.read(home, "old").queued_at < store.read(home, "new").queued_at
    assert spool.marker_of(store.read(home, "old")).queued_at == oldest


def test_only_the_latest_are_looked_through_for_failures(
    home: Home, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "LOOK_BACK", 3)
    read: list[str] = []
    original = store.read_or_damaged
    monkeypatch.setattr(store, "read_or_damaged", lambda home, name: read.append(name) or original(home, name))
    for number in range(6):
        submit(f"j{number}")
        finish(home, f"j{number}", JobState.FAILED if number in (0, 4) else JobState.COMPLETED)
        os.utime(home.job(f"j{number}").root, (number, number))
    assert [each.name for each in status.gather_failures(home)] == ["j4"]
    assert read == ["j5", "j4", "j3"]


def test_enough_failures_are_enough(home: Home, submit: Submit) -> None:
    for number in range(status.LATEST_FAILURES + 2):
        submit(f"j{number}")
        finish(home, f"j{number}", JobState.FAILED)
    assert len(status.gather_failures(home)) == status.LATEST_FAILURES


@pytest.fixture
def api_server() -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    """A server that answers with what is put in the list, once each, and the address where it does."""
    answers: list[tuple[int, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = answers.pop(0) if self.path == status.HEALTH_PATH else (404, b"")
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", answers
        server.shutdown()
        thread.join()


def test_the_api_server_is_asked(
    home: Home, api_server: tuple[str, list[tuple[int, bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, answers = api_server
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a proxy must not stand between
    components.register(home, components.Component("api-server", SELF, url=url))
    components.register(home, components.Component("dag-processor", SELF))
    answers += [(200, json.dumps(HEALTHY).encode()), (500, b""), (200, b"<html>"), (200, b"[]")]
    states = [[each.state for each in status.gather_components(home)] for _ in range(4)]
    assert states == [["up", "unhealthy"], *[["unhealthy", "up"]] * 3]


def test_an_api_server_that_is_down_is_not_asked(home: Home) -> None:
    components.register(home, components.Component("api-server", GONE, "/its.log", "http://127.0.0.1:9"))
    (found,) = status.gather_components(home)
    assert (found.state, found.detail) == ("down", f"its process {GONE.pid} is gone; see /its.log")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "file:///etc/passwd", "http://[", "nonsense"])
def test_an_address_that_gives_no_answer_is_named(url: str) -> None:
    answer = status.fetch_health(url)
    assert isinstance(answer, str) and url in answer


def test_a_damaged_component_is_down(home: Home) -> None:
    home.component("scheduler").write_text("")
    (found,) = status.gather_components(home)
    assert (found.name, found.state) == ("scheduler", "down") and "is empty" in found.detail
