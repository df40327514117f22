"""The process of a short task ends with it. Airflow's own supervisor sleeps until its next heartbeat now and then."""

from __future__ import annotations

from datetime import datetime

from tests.airflow import databases, stack

pytestmark = databases.ON_POSTGRES

HEARTBEAT = 5.0
"""Seconds: what `[workers] min_heartbeat_interval` is unless something else is configured."""


def test_no_short_task_waits_for_a_heartbeat(shared_airflow: stack.Stack) -> None:
    run = shared_airflow.rest.trigger("short")
    assert shared_airflow.rest.finished(run) == "success"
    shared_airflow.home.wait_finished(run)
    ends = dict(shared_airflow.sql(f"select task_id, end_date from task_instance where run_id = '{run.run_id}'"))
    gaps = {
        job.labels["task_id"]: (
            datetime.fromisoformat(job.state["finished_at"].replace("Z", "+00:00")) - ends[job.labels["task_id"]]
        ).total_seconds()
        for job in shared_airflow.home.jobs_of(run)
    }
    assert len(gaps) == 30
    assert {task: gap for task, gap in gaps.items() if gap >= HEARTBEAT / 2} == {}
