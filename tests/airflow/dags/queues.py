"""Tasks bound to a queue or to an executor."""

from __future__ import annotations

import marks
from airflow.sdk import DAG, get_current_context, task

with DAG("heavy", schedule=None):

    @task(queue="heavy")
    def lift() -> None:
        print("lifted")

    lift()

with DAG("unserved", schedule=None):

    @task(queue="nobody")
    def waits() -> None:
        print("never")

    waits()

# Its runner has one slot, and the first to get it holds it until the test releases all.
with DAG("patient", schedule=None, max_active_tasks=64):
    for number in range(4):

        @task(task_id=f"turn_{number}", queue="slow")
        def turn() -> None:
            marks.hold(get_current_context()["run_id"])

        turn()

with DAG("two_executors", schedule=None):

    @task(executor="LocalExecutor")
    def local() -> None:
        print("by LocalExecutor")

    @task(executor="airflow_plugin.AirExecutor")
    def air() -> None:
        print("by AirExecutor")

    @task
    def default() -> None:
        print("by the first executor")

    local()
    air()
    default()
