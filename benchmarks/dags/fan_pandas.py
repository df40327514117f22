"""Two hundred tasks that do nothing, at once, in a file that imports pandas."""

from __future__ import annotations

import pandas  # noqa: F401  # its import is what is measured
from airflow.sdk import DAG, task


@task
def nothing() -> None:
    pass


with DAG("fan_pandas", schedule=None, max_active_tasks=256):
    for number in range(200):
        nothing.override(task_id=f"t{number:03}")()
