"""Each task has one option in its executor_config; two of them are mistakes."""

from __future__ import annotations

import os
import threading

from airflow.sdk import DAG, task

MIB = 2**20

with DAG("options", schedule=None, max_active_tasks=64):

    @task(executor_config={"env": {"COLOUR": "green"}})
    def env() -> None:
        print(f"colour is {os.environ['COLOUR']}")

    @task(executor_config={"nice": 7})
    def nice() -> None:
        print(f"niceness is {os.nice(0)}")

    @task(queue="nobody-serves-this", executor_config={"queue": "default"})
    def queue() -> None:
        print("ran after all")

    @task(executor_config={"timeout": 3})
    def timeout() -> None:
        threading.Event().wait(120)

    @task(executor_config={"memory_mb": 900})
    def memory() -> None:
        # Written to, because memory that was only asked for is not resident.
        held = bytearray(b"x") * (1200 * MIB)
        threading.Event().wait(120)
        print(len(held))

    @task(executor_config={"tiemout": 3})
    def unknown() -> None:
        print("must not run")

    @task(executor_config={"memory_mb": "much"})
    def wrong() -> None:
        print("must not run")

    @task
    def plain() -> None:
        print("undisturbed")

    env()
    nice()
    queue()
    timeout()
    memory()
    unknown()
    wrong()
    plain()
