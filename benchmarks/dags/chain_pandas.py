"""Twenty tasks that do nothing, one after the other, in a file that imports pandas."""

from __future__ import annotations

import pandas  # noqa: F401  # its import is what is measured
from airflow.sdk import DAG, chain, task


@task
def nothing() -> None:
    pass


with DAG("chain_pandas", schedule=None):
    chain(*(nothing.override(task_id=f"t{number:03}")() for number in range(20)))
