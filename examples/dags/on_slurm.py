"""One DAG on two kinds of hosts: some tasks run here, others on the nodes of a Slurm cluster.

It needs Slurm, and a queue that goes there, in `config.toml` of the home: `[queues.slurm]` with `launcher = "slurm"`.
Without the queue its tasks wait, for nobody serves it; without Slurm they fail and say so. Logs, results, retries and
mapping are as everywhere.
"""

from datetime import timedelta

from airflow.sdk import dag, get_current_context, task

from airflow_plugin.operators import AirJobOperator

NODE = 'echo "{\\"node\\": \\"$SLURMD_NODENAME\\"}" > "$AIR_EXECUTOR_OUTPUT"'


@dag(dag_id="on_slurm", schedule=None, catchup=False, tags=["air-executor", "example", "slurm"], doc_md=__doc__)
def on_slurm() -> None:
    @task
    def list_numbers() -> list[int]:
        """On this host."""
        return list(range(10))

    @task(queue="slurm")
    def square(number: int) -> int:
        """On a node, for all that this queue asks for in `config.toml`."""
        return number * number

    @task(queue="slurm", retries=1, retry_delay=timedelta(seconds=1))
    def fail_once() -> int:
        """Each try is a job of its own, in Slurm, too."""
        attempt: int = get_current_context()["ti"].try_number
        print(f"this is try {attempt}")
        if attempt == 1:
            raise ValueError("failing on purpose")
        return attempt

    @task(executor_config={"slurm": {"cpus": 2, "memory": "300M", "time": 10}})
    def add_up(numbers: list[int], attempt: int) -> int:
        """In the default queue, and on a node all the same, because it asks for something there."""
        return sum(numbers) + attempt

    @task
    def show(total: int, outcome: dict[str, dict[str, dict[str, str]]]) -> str:
        """On this host again, with what came from the nodes."""
        return f"{total} on {outcome['result']['name']['node']}"

    # A job of two commands, of which a task here hands over and waits; the job is what runs on a node.
    job = AirJobOperator(
        task_id="job",
        tasks=[
            {"id": "greet", "command": "echo", "args": ["hello from a node"]},
            {"id": "name", "command": "sh", "args": ["-c", NODE], "dependencies": ["greet"]},
        ],
        slurm={"cpus": "{{ 1 + 1 }}", "time": 10},
    )
    show(add_up(square.expand(number=list_numbers()), fail_once()), job.output)


on_slurm()
