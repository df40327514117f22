"""Twenty tasks, one after the other, each of which prints when its file and its body began and ended."""

from __future__ import annotations

import time

FILE_BEGAN = time.time()

from airflow.sdk import DAG, chain, task  # noqa: E402


@task
def tell() -> None:
    print(f"moments {FILE_BEGAN:.6f} {FILE_ENDED:.6f} {time.time():.6f}")


with DAG("profiled", schedule=None):
    chain(*(tell.override(task_id=f"t{number:03}")() for number in range(20)))

FILE_ENDED = time.time()
