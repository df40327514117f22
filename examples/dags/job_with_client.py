"""A job with nothing but Airflow's own operators and the client: create it, wait for it, get its result.

The job runs on a runner of Air-Executor, whatever executor runs this DAG. Its name comes from the run, so a task that
is tried again does not make a second job.
"""

from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.sdk import dag

from air_executor import AirExecutorClient
from air_executor.errors import JobExistsError

SUM = 'echo "{\\"sum\\": $((2 + 3))}" > "$AIR_EXECUTOR_OUTPUT"'


def create_job(run_id: str) -> str:
    name = "client-" + "".join(letter if letter.isalnum() else "_" for letter in run_id)
    try:
        AirExecutorClient().create_job(
            job_name=name,
            tasks=[
                {"id": "first", "command": "echo", "args": ["Task 1"]},
                {"id": "second", "command": "echo", "args": ["Task 2"], "dependencies": ["first"]},
                {"id": "add", "command": "sh", "args": ["-c", SUM], "dependencies": ["second"]},
            ],
        )
    except JobExistsError:
        print(f"the job {name} is there already")
    return name


def is_over(job: str) -> bool:
    return AirExecutorClient().get_job(job).state.terminal


def get_result(job: str) -> dict[str, object]:
    client = AirExecutorClient()
    if client.get_job(job).state != "completed":
        raise RuntimeError(client.logs(job))
    return client.get_result(job)


@dag(dag_id="job_with_client", schedule=None, catchup=False, tags=["air-executor", "example"], doc_md=__doc__)
def job_with_client() -> None:
    create = PythonOperator(task_id="create", python_callable=create_job)
    wait = PythonSensor(task_id="wait", python_callable=is_over, op_args=[create.output], poke_interval=1, timeout=600)
    result = PythonOperator(task_id="get_result", python_callable=get_result, op_args=[create.output])

    create >> wait >> result


job_with_client()
