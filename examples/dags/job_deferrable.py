"""A job that is waited for by the triggerer: while it runs, the task holds no worker.

One triggerer waits for thousands of jobs at next to no cost. Clearing the task cancels the job, as it would without.
"""

from datetime import timedelta

from airflow.sdk import dag

from airflow_plugin.operators import AirJobOperator


@dag(dag_id="job_deferrable", schedule=None, catchup=False, tags=["air-executor", "example"], doc_md=__doc__)
def job_deferrable() -> None:
    AirJobOperator(
        task_id="work",
        tasks=[{"id": "sleep", "command": "sleep", "args": ["3"]}],
        deferrable=True,
        execution_timeout=timedelta(minutes=10),  # the time limit of the job
        retries=3,  # Airflow may take a task for failed that was resumed fast; the next try takes the job's result
        retry_delay=timedelta(seconds=2),
    )


job_deferrable()
