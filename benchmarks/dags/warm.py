"""A few tasks, so that nothing measured is the first of its kind."""

from __future__ import annotations

from airflow.sdk import DAG, task


@task
def nothing() -> None:
    pass


with DAG("warm", schedule=None):
    for number in range(4):
        nothing.override(task_id=f"t{number}")()
