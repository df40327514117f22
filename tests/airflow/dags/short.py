"""Thirty tasks that do nothing, one after the other."""

from __future__ import annotations

from airflow.sdk import DAG, chain, task


@task
def nothing() -> None:
    pass


with DAG("short", schedule=None):
    chain(*(nothing.override(task_id=f"t{number:02}")() for number in range(30)))
