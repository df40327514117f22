"""Tasks on the nodes of a Slurm cluster: some that hold until the test lets them go, one that Slurm starts late."""

from __future__ import annotations

import marks
from airflow.sdk import DAG, get_current_context, task

for node in ("n1", "n2", "n3"):
    with DAG(f"hold_on_{node}", schedule=None):
        # All of the node's processors for each: one runs, the other waits in Slurm.
        @task(queue="slurm", executor_config={"slurm": {"cpus": 4, "constraint": node}})
        def hold(_: int) -> None:
            print("it holds here")
            marks.hold(get_current_context()["run_id"])

        hold.expand(_=[0, 1])

with DAG("late", schedule=None):

    @task(executor_config={"slurm": {"extra": ["--begin=now+45"]}})
    def wait() -> None:
        print("its turn at last")

    wait()
