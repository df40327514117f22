"""Tasks that fail in every way a task can fail by itself."""

from __future__ import annotations

import os
import signal
from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task

with DAG("failures", schedule=None, max_active_tasks=64):

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def raises() -> None:
        print("about to raise")
        raise ValueError("the reason the body gave")

    @task
    def killed() -> None:
        print("about to be killed", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    raises()
    killed()
    BashOperator(task_id="exits", bash_command="echo about to exit; exit 3")
