"""Sixteen tasks that sleep, for their memory."""

from __future__ import annotations

import time

from airflow.sdk import DAG, task


@task
def sleep() -> None:
    time.sleep(20)


with DAG("sleepers", schedule=None, max_active_tasks=256):
    for number in range(16):
        sleep.override(task_id=f"t{number:03}")()
