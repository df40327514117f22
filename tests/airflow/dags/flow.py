"""Many short tasks, some longer ones among them; each notes its start and its end, and none is tried again."""

from __future__ import annotations

import os
import threading

import marks
from airflow.sdk import DAG, get_current_context, task

SHORT, LONG = 0.5, 5.0
"""Seconds of work."""


def bodies(count: int) -> None:
    @task(retries=0)
    def body(number: int) -> None:
        name = get_current_context()["run_id"]
        marks.note(name, f"start {number} {os.getpid()}")
        threading.Event().wait(LONG if number % 4 == 0 else SHORT)
        marks.note(name, f"end {number} {os.getpid()}")

    body.expand(number=list(range(count)))


with DAG("flow", schedule=None, max_active_tasks=64):
    bodies(300)

with DAG("brook", schedule=None, max_active_tasks=64):
    bodies(20)
