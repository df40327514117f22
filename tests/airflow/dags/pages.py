"""A task that says something, and more when the test lets it, under the name of its DAG run."""

from __future__ import annotations

import marks
from airflow.sdk import DAG, get_current_context, task

with DAG("pages", schedule=None):

    @task
    def talks() -> None:
        run_id = get_current_context()["run_id"]
        print("the first line")
        marks.hold(f"{run_id}-first")
        print("the second line")
        marks.hold(f"{run_id}-second")

    talks()
