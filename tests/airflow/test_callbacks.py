"""What Airflow hands to executors besides tasks: callbacks and connection tests."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.airflow import databases, home, stack, waiting

pytestmark = databases.ON_POSTGRES


def jobs_of_kind(airflow: stack.Stack, kind: str) -> list[home.Job]:
    return [job for job in airflow.home.jobs() if job.labels.get("kind") == kind]


def test_the_callback_of_a_missed_deadline_runs_as_a_job(airflow: stack.Stack) -> None:
    run = airflow.rest.trigger("deadline")
    assert waiting.until(lambda: airflow.marks("deadline"), "the callback to run", 60) == ["missed"]
    airflow.release(run.run_id)
    assert airflow.rest.finished(run) == "success"
    (job,) = jobs_of_kind(airflow, "callback")
    waiting.until(lambda: home.Job(job.path).finished, "the callback's job to be over", 20)
    assert home.Job(job.path).state["state"] == "completed"
    rows = "select state from callback where type = 'executor'"
    waiting.until(lambda: airflow.sql(rows) == [("success",)], "Airflow to know that the callback succeeded", 20)


@pytest.mark.parametrize(("path", "state"), [("/", "success"), ("/no/such/path", "failed")])
def test_a_connection_is_tested_by_a_job(airflow: stack.Stack, path: str, state: str) -> None:
    before = {job.name for job in jobs_of_kind(airflow, "connection_test")}
    body = {"connection_id": f"fs_{uuid.uuid4().hex[:6]}", "conn_type": "fs", "extra": json.dumps({"path": path})}
    token = airflow.rest.post("connections/enqueue-test", body)["token"]

    def answer() -> dict[str, Any] | None:
        found: dict[str, Any] = airflow.rest.get(
            "connections/enqueue-test", headers={"Airflow-Connection-Test-Token": token}
        )
        return found if found["state"] in ("success", "failed") else None

    answered = waiting.until(answer, "the connection test to end", 40)
    assert answered is not None
    assert (answered["state"], path in answered["result_message"]) == (state, True), answered
    (job,) = (job for job in jobs_of_kind(airflow, "connection_test") if job.name not in before)
    waiting.until(lambda: home.Job(job.path).finished, "the test's job to be over", 20)
