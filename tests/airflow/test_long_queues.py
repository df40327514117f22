"""Tasks that are queued longer than Airflow likes: who waits for its turn gets it, whom nobody serves is given up."""

from __future__ import annotations

import base64
import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.airflow import databases, home, rest, stack, waiting

TIMEOUT = 8.0
LONG = timedelta(seconds=3 * TIMEOUT + 1)
"""Longer than Airflow's patience of three times the timeout, and than a token of that life with its leeway of 10 s."""
SETTINGS = {
    "SCHEDULER__TASK_QUEUED_TIMEOUT": str(TIMEOUT),
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "1",
}

pytestmark = [pytest.mark.own_scheduler, databases.ON_POSTGRES]


def test_tasks_wait_for_their_turn_however_long_and_one_that_nobody_serves_fails(shared_airflow: stack.Stack) -> None:
    shared_airflow.use_scheduler(**SETTINGS)
    log = shared_airflow.log_file("runner-slow")
    with shared_airflow.runner("slow", "--slots", "1"):
        # A start must not take as long as this timeout, and the first one would wait for the template.
        waiting.until(lambda: "is ready" in log.read_text(), "the template to be ready", 60)
        patient, unserved = shared_airflow.rest.trigger("patient"), shared_airflow.rest.trigger("unserved")
        waiting.until(lambda: len(shared_airflow.home.jobs_of(patient)) == 4, "four jobs to be made", 40)
        assert {life_of_token(shared_airflow, job) for job in waiting_jobs(shared_airflow, patient)} == {7 * 24 * 3600}
        waiting.until(lambda: shared_airflow.marks(patient.run_id), "the first of them to start", 40)
        waiting.until(lambda: waited_long(shared_airflow, patient), "the others to wait for long", 90, 0.5)
        assert len(shared_airflow.marks(patient.run_id)) == 1
        shared_airflow.release(patient.run_id)
        assert shared_airflow.rest.finished(patient, 60) == "success"
        shared_airflow.home.wait_finished(patient)
        assert shared_airflow.rest.finished(unserved, 60) == "failed"
    assert {task.try_number for task in shared_airflow.rest.tasks(patient)} == {1}
    assert Counter(line.split()[0] for line in shared_airflow.marks(patient.run_id)) == {"start": 4, "end": 4}
    assert [job.state["attempt"] for job in shared_airflow.home.jobs_of(patient)] == [1, 1, 1, 1]
    assert stuck_events(shared_airflow, patient) == []
    assert stuck_events(shared_airflow, unserved) == [
        "stuck in queued reschedule",
        "stuck in queued reschedule",
        "stuck in queued tries exceeded",
    ]
    shared_airflow.assert_no_exception("scheduler")


def test_a_task_that_nobody_serves_is_taken_back_and_tried_again(shared_airflow: stack.Stack) -> None:
    shared_airflow.use_scheduler(**SETTINGS)
    run = shared_airflow.rest.trigger("unserved")
    waiting.until(lambda: stuck_events(shared_airflow, run), "Airflow to take the task back", 60, 0.2)
    waiting.until(lambda: was_cancelled(shared_airflow, run), "its job to be cancelled", 20)
    with shared_airflow.runner("nobody"):
        assert shared_airflow.rest.finished(run) == "success"
        shared_airflow.home.wait_finished(run)
    assert {job.state["state"] for job in shared_airflow.home.jobs_of(run)} == {"completed"}
    shared_airflow.assert_no_exception("scheduler")


def waiting_jobs(airflow: stack.Stack, run: rest.Run) -> list[home.Job]:
    return [job for job in airflow.home.jobs_of(run) if job.state["state"] == "waiting"]


def waited_long(airflow: stack.Stack, run: rest.Run) -> bool:
    """Whether three of four jobs have been waiting for long; the fourth works."""
    now = datetime.now(timezone.utc)
    ages = [now - datetime.fromisoformat(job.state["created_at"]) for job in waiting_jobs(airflow, run)]
    return len(ages) == 3 and min(ages) > LONG


def life_of_token(airflow: stack.Stack, job: home.Job) -> Any:
    payload = airflow.home.token_of(job).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims["exp"] - claims["iat"]


def stuck_events(airflow: stack.Stack, run: rest.Run) -> list[str]:
    rows = airflow.sql(f"select event from log where run_id = '{run.run_id}' and event like 'stuck%' order by id")
    return [str(event) for (event,) in rows]


def was_cancelled(airflow: stack.Stack, run: rest.Run) -> bool:
    job = airflow.home.job_of(run, "waits")
    return '"cancelled"' in (job.path / "events.jsonl").read_text()
