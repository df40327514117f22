"""The same with our operator: one task hands over the job, waits for it and has its result as XCom.

The job's name comes from DAG, task and run: a try that follows on a killed one goes on waiting for the same job.
"""

from airflow.sdk import dag, task

from airflow_plugin.operators import AirJobOperator

HELLO = 'echo "hello from $AIR_EXECUTOR_TASK"'
SUM = 'echo "{\\"sum\\": $((2 + 3))}" > "$AIR_EXECUTOR_OUTPUT"'


@dag(
    dag_id="job_with_operator",
    schedule=None,
    catchup=False,
    params={"name": "world"},
    tags=["air-executor", "example"],
    doc_md=__doc__,
)
def job_with_operator() -> None:
    @task
    def show(outcome: dict[str, dict[str, dict[str, int]]]) -> int:
        print(outcome)
        return outcome["result"]["add"]["sum"]

    work = AirJobOperator(
        task_id="work",
        tasks=[
            {"id": "greet", "command": "echo", "args": ["hello {{ params.name }}"]},
            {"id": "left", "command": "sh", "args": ["-c", HELLO], "dependencies": ["greet"]},
            {"id": "right", "command": "sh", "args": ["-c", HELLO], "dependencies": ["greet"]},
            {"id": "add", "command": "sh", "args": ["-c", SUM], "dependencies": ["left", "right"]},
        ],
        labels={"team": "examples"},
    )
    show(work.output)


job_with_operator()
