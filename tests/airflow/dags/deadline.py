"""A deadline that is missed, so that the scheduler hands its callback to the executor."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import marks
from airflow.sdk import DAG, get_current_context, task
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

ALERT = DeadlineAlert(
    reference=DeadlineReference.FIXED_DATETIME(datetime(2020, 1, 1, tzinfo=timezone.utc)),
    interval=timedelta(seconds=1),
    callback=SyncCallback(marks.missed, kwargs={"name": "deadline"}),
)

with DAG("deadline", schedule=None, deadline=ALERT):

    @task
    def body() -> None:
        marks.hold(get_current_context()["run_id"])

    body()
