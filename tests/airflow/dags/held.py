"""A task that runs until the test releases it, under the name of its DAG run."""

from __future__ import annotations

import marks
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, get_current_context, task

with DAG("held", schedule=None):

    @task
    def body() -> None:
        marks.hold(get_current_context()["run_id"])

    body()

# Needs a scheduler that goes on, and no executor at all.
with DAG("empty", schedule=None):
    EmptyOperator(task_id="nothing")

with DAG("one", schedule=None):

    @task
    def ping() -> None:
        print("pong")

    ping()
