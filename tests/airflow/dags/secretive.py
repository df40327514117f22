"""Tasks with a secret in their environment: one goes on until the test lets it, the other fails."""

from __future__ import annotations

import os

import marks
from airflow.sdk import DAG, get_current_context, task

SECRET = "planted-in-the-environment-of-a-task"

with DAG("secretive", schedule=None):

    @task(executor_config={"env": {"PASSWORD_OF_A_TASK": SECRET}})
    def holds() -> None:
        assert os.environ["PASSWORD_OF_A_TASK"] == SECRET
        marks.hold(get_current_context()["run_id"])

    @task(executor_config={"env": {"PASSWORD_OF_A_TASK": SECRET}})
    def fails() -> None:
        os.kill(os.getpid(), 9)

    holds()
    fails()
