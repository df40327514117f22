"""Two hundred tasks that do nothing, at once."""

from __future__ import annotations

from airflow.sdk import DAG, task


@task
def nothing() -> None:
    pass


with DAG("fan", schedule=None, max_active_tasks=256):
    for number in range(200):
        nothing.override(task_id=f"t{number:03}")()
