"""Tasks bound to a queue or to an executor."""

from __future__ import annotations

from airflow.sdk import DAG, task

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
