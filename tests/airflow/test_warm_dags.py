"""Warm DAGs: tasks that need not parse their DAG file, and see every change of it all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.airflow import databases, stack, waiting

pytestmark = [pytest.mark.own_scheduler, databases.ON_POSTGRES]


@pytest.fixture
def place(shared_airflow: stack.Stack) -> Path:
    """What the DAG file reads."""
    place = shared_airflow.root / "marks" / "warm"
    place.mkdir()
    (place / "warm_word.py").write_text("WORD = 'first'\n")
    shared_airflow.use_scheduler(AIR_EXECUTOR__WARM_DAGS="True")
    return place


def tell(airflow: stack.Stack) -> dict[str, Any]:
    """What a run's task found."""
    run = airflow.rest.trigger("warm")
    assert airflow.rest.finished(run) == "success"
    airflow.home.wait_finished(run)
    found: dict[str, Any] = json.loads(airflow.marks("warm-told")[-1])
    assert found["changes"] == 1, "what another task did is not seen"
    return found


def tell_once_warm(airflow: stack.Stack) -> dict[str, Any]:
    found = waiting.until(lambda: (found := tell(airflow))["warm"] and found, "a task that need not parse", 40)
    assert found
    return found


def test_a_warm_task_sees_every_change(shared_airflow: stack.Stack, place: Path) -> None:
    assert not tell(shared_airflow)["warm"]
    found = tell_once_warm(shared_airflow)
    assert (found["word"], found["names"]) == ("first", [])
    assert tell(shared_airflow)["word"] == "first"
    (place / "warm_word.py").write_text("WORD = 'second'\n")
    assert tell(shared_airflow)["word"] == "second"
    assert tell_once_warm(shared_airflow)["word"] == "second"
    (place / "new.name").touch()
    assert tell(shared_airflow)["names"] == ["new"]
    assert tell_once_warm(shared_airflow)["names"] == ["new"]
    run = shared_airflow.rest.trigger("warm")
    shared_airflow.rest.finished(run)
    assert "Worker startup parse complete" in shared_airflow.rest.log(run, "tell")
