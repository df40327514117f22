"""Tasks that do nothing: twenty one after the other, and two hundred at once, in a DAG file that imports pandas."""

from __future__ import annotations

import pandas  # noqa: F401  what this benchmark is about
from airflow.sdk import DAG, task


@task
def nothing() -> None:
    pass


with DAG("chain_pandas", schedule=None):
    before = None
    for number in range(20):
        one = nothing.override(task_id=f"t{number:03}")()
        if before is not None:
            before >> one
        before = one

with DAG("fan_pandas", schedule=None, max_active_tasks=256):
    for number in range(200):
        nothing.override(task_id=f"t{number:03}")()
