"""As many tasks on Slurm as somebody asks for; each notes its start and its end, and is tried again however often."""

from __future__ import annotations

import threading
from datetime import timedelta

import marks
from airflow.sdk import DAG, get_current_context, task

with DAG("flood", schedule=None, max_active_tasks=200, params={"count": 10, "longest": 1.0}):

    @task
    def numbers() -> list[int]:
        return list(range(get_current_context()["params"]["count"]))

    @task(queue="slurm", retries=50, retry_delay=timedelta(seconds=1))
    def body(number: int) -> None:
        context = get_current_context()
        this = f"{number} {context['ti'].try_number}"
        marks.note(context["run_id"], f"{this} start")
        threading.Event().wait(context["params"]["longest"] * (number % 8) / 7)
        marks.note(context["run_id"], f"{this} end")

    body.expand(number=numbers())
