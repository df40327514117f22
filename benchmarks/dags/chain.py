"""Twenty tasks that do nothing, one after the other."""

from __future__ import annotations

from airflow.sdk import DAG, chain, task


@task
def nothing() -> None:
    pass


with DAG("chain", schedule=None):
    chain(*(nothing.override(task_id=f"t{number:03}")() for number in range(20)))
