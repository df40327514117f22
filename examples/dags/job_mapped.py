"""Fifty jobs from one operator: each mapped instance has a job of its own, named after its index.

It is deferrable, so that fifty tasks which only wait do not hold the slots that their jobs need. With retries, as
under a busy LocalExecutor, Airflow may take a task for failed that was resumed as fast as it was deferred; the next try
takes the result of the job that has completed meanwhile.
"""

from datetime import timedelta

from airflow.sdk import dag, task

from airflow_plugin.operators import AirJobOperator

SQUARE = 'echo "{\\"square\\": $(($1 * $1))}" > "$AIR_EXECUTOR_OUTPUT"'


@dag(dag_id="job_mapped", schedule=None, catchup=False, tags=["air-executor", "example"], doc_md=__doc__)
def job_mapped() -> None:
    @task
    def list_jobs() -> list[list[dict[str, object]]]:
        return [
            [{"id": "square", "command": "sh", "args": ["-c", SQUARE, "square", str(number)]}] for number in range(50)
        ]

    @task
    def add_up(outcomes: list[dict[str, dict[str, dict[str, int]]]]) -> int:
        return sum(outcome["result"]["square"]["square"] for outcome in outcomes)

    work = AirJobOperator.partial(task_id="work", deferrable=True, retries=3, retry_delay=timedelta(seconds=2)).expand(
        tasks=list_jobs()
    )
    add_up(work.output)  # type: ignore[arg-type]


job_mapped()
