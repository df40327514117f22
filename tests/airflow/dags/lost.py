"""Tasks whose first try holds until its processes are killed."""

from __future__ import annotations

from datetime import timedelta

import marks
from airflow.sdk import DAG, get_current_context, task

RETRY_DELAY = 2


def work() -> None:
    context = get_current_context()
    name = f"{context['run_id']}-{context['ti'].task_id}"
    if context["ti"].try_number == 1:
        marks.hold(name)
    else:
        marks.note(name, "start again")


with DAG("lost", schedule=None):
    task(task_id="again", retries=1, retry_delay=timedelta(seconds=RETRY_DELAY))(work)()
    task(task_id="never", retries=0)(work)()
