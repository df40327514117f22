"""More tasks that wait for their jobs than there are slots, and none of them deferred."""

from airflow.sdk import dag

from airflow_plugin.operators import AirJobOperator


@dag("jobs_many", schedule=None, catchup=False)
def jobs_many() -> None:
    tasks = [[{"command": "sleep", "args": ["1"]}]] * 24
    AirJobOperator.partial(task_id="work", deferrable=False).expand(tasks=tasks)


jobs_many()
