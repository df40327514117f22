"""Many tasks at once, each with its own priority."""

from __future__ import annotations

import random

import marks
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, get_current_context, task

COUNT = 50
# Shuffled, so that the order of task ids is not the order of weights; the same in every process that parses this.
WEIGHTS = random.Random(7).sample(range(1, COUNT + 1), COUNT)

with DAG("crowd", schedule=None, max_active_tasks=64):
    for weight in WEIGHTS:
        BashOperator(task_id=f"weight_{weight:02}", bash_command="true", priority_weight=weight, weight_rule="absolute")

# Nobody serves this queue until the test starts a runner with one slot.
with DAG("narrow", schedule=None, max_active_tasks=64):
    for weight in (2, 5, 1, 4, 3):

        @task(task_id=f"weight_{weight}", queue="narrow", priority_weight=weight, weight_rule="absolute")
        def body(weight: int = weight) -> None:
            marks.note(f"narrow-{get_current_context()['run_id']}", str(weight))

        body()
