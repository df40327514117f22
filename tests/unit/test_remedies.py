"""What is said of a queue that nobody serves: decided in tables, and found in a home."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor import audit, components, health, remedies, runners, status
from air_executor.cli import show
from air_executor.health import QueueStatus, Status
from air_executor.paths import Home
from air_executor.remedies import Drained
from tests.unit.conftest import Submit
from tests.unit.test_runners import SELF, info

DRAINED = Drained("r", ["default"], "drained by user ana@h: a move")
ENDING = Drained("r", ["default"], "stopped by user ana@h", ending=True)
CALL = "air-executor --home /h runner"


@pytest.mark.parametrize(
    ("queue", "drained", "airflow", "why", "advice", "fix"),
    [
        (
            "default",
            [DRAINED],
            None,
            ": the runner r is drained by user ana@h: a move",
            "let it take jobs again with",
            f"{CALL} resume r",
        ),
        (
            None,
            [ENDING, DRAINED],
            "",
            ": the runner r is drained by user ana@h: a move",
            "let it take jobs again with",
            f"{CALL} resume r",
        ),
        ("default", [ENDING], None, "", "start one with", f"{CALL} start --detach"),
        ("heavy", [DRAINED], None, "", "start one with", f"{CALL} start --detach --queues heavy"),
        (
            "heavy",
            [],
            "/a",
            "; Airflow's tasks need a runner with Airflow's environment (AIRFLOW_HOME=/a, as its scheduler has it),"
            " best by adding heavy to [air_executor] queues and restarting the scheduler",
            "start one there with",
            f"AIRFLOW_HOME=/a {CALL} start --detach --queues heavy",
        ),
        (
            "default",
            [],
            "",
            "; Airflow's tasks need a runner with Airflow's environment (AIRFLOW_HOME and the like, as its scheduler"
            " has it)",
            "start one there with",
            f"{CALL} start --detach",
        ),
    ],
)
def test_remedies(
    queue: str | None, drained: list[Drained], airflow: str | None, why: str, advice: str, fix: str
) -> None:
    assert remedies.for_queue(Home(Path("/h")), queue, drained, airflow) == remedies.Remedy(why, advice, fix)


def test_a_script_that_starts_everything_comes_before_what_airflow_needs() -> None:
    found = remedies.for_queue(Home(Path("/h")), "default", [], "/a", "./start.sh")
    assert found == remedies.Remedy("", "start one with", "./start.sh")


def test_status_advises_to_resume_what_was_drained() -> None:
    waits = QueueStatus("default", 2, 9.0, 0)
    found = Status("/h", "now", exists=True, start="go", queues=[waits], drained=[DRAINED])
    troubles = health.find_troubles(found)
    assert {each.about: each.fix for each in troubles} == dict.fromkeys(("runner", "queue"), f"{CALL} resume r")
    assert "2 jobs wait in the queue default and no runner serves it: the runner r is drained by" in found.problems[1]


def test_who_drained_a_runner_is_found(home: Home, submit: Submit) -> None:
    job = submit("a")
    runners.write(home, info("r", SELF, draining=True))
    audit.record_runner(home, "r", "stop", by="user eve@h")
    audit.record_runner(home, "r", "resume", by="user eve@h")
    audit.record_runner(home, "r", "drain", by="user ana@h", why="a move")
    said = f"the runner r is drained by user ana@h: a move; let it take jobs again with: {_resume(home)}"
    assert status.gather(home).drained == [DRAINED]
    assert show.waits(home, job) == f"no runner serves the queue default: {said}"
    audit.record_runner(home, "r", "stop", by="user eve@h")
    audit.record_runner(home, "r", "drain", by="user ana@h")
    assert remedies.find(home, "default").fix == runners.start_command(home), "it ends all the same"


def _resume(home: Home) -> str:
    return f"air-executor --home {home.root} runner resume r"


def test_whose_home_it_is(home: Home, submit: Submit, tmp_path: Path) -> None:
    submit("a", queue="heavy")
    assert remedies.find_airflow(home, ["heavy"], {}) is None
    submit("b", queue="heavy", trigger="executor")
    assert remedies.find_airflow(home, ["heavy"], {}) == "" and remedies.find_airflow(home, ["default"], {}) is None
    components.register(home, components.Component("scheduler", SELF))
    assert remedies.find_airflow(home, [], {}) == ""
    beside = home.root.parent
    assert remedies.find_airflow(home, [], {"AIRFLOW_HOME": str(beside)}) == str(beside)
    (beside / ".airflow").mkdir()
    (beside / ".airflow" / "airflow.cfg").touch()
    assert remedies.find_airflow(home, [], {}) == str(beside / ".airflow")


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("cancelled by user ana@h: a move", "cancelled by user ana@h: a move"),
        ("cancelled by user ana@h", "cancelled by user ana@h"),
        ("cancelled by user ana@h2", "cancelled by user ana@h2 (by user ana@h)"),
        ("retried", "retried (by user ana@h)"),
        ("", " (by user ana@h)"),
    ],
)
def test_who_it_was_stands_in_the_history_once(why: str, said: str) -> None:
    _, ((*_, told),) = show.history([{"at": "2026-01-31T10:00:00Z", "why": why, "by": "user ana@h"}])
    assert told == said
