"""Tasks that end in every way a task can end without failing: done, skipped, mapped, deferred, rescheduled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import marks
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator, get_current_context, task
from airflow.sdk.bases.sensor import PokeReturnValue
from airflow.sdk.exceptions import AirflowSkipException


class Deferred(BaseOperator):
    """Gives its slot up for a second and comes back."""

    def execute(self, context: Any) -> None:
        print("before the trigger")
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="back")

    def back(self, context: Any, event: Any = None) -> None:
        print("after the trigger")


with DAG("states", schedule=None, max_active_tasks=64):

    @task
    def push() -> list[int]:
        print("text that the log must hold")
        return [1, 2, 3]

    @task
    def double(number: int) -> int:
        return number * 2

    @task
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @task
    def skips() -> None:
        raise AirflowSkipException("nothing to do")

    @task.sensor(mode="reschedule", poke_interval=1, timeout=60)
    def pokes() -> PokeReturnValue:
        name = f"pokes-{get_current_context()['run_id']}"
        marks.note(name, "poke")
        return PokeReturnValue(is_done=len(marks.lines(name)) > 1)

    total(double.expand(number=push()))  # type: ignore[arg-type]
    skips()
    pokes()
    Deferred(task_id="deferred")
    BashOperator(task_id="shell", bash_command="echo from the shell; echo to stderr >&2")
    EmptyOperator(task_id="nothing")
