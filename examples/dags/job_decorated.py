"""`@task.air_job`: a function that returns the tasks of a job, from what the tasks before it found out."""

from airflow.sdk import dag, task


@dag(dag_id="job_decorated", schedule=None, catchup=False, tags=["air-executor", "example"], doc_md=__doc__)
def job_decorated() -> None:
    @task
    def list_words() -> list[str]:
        return ["files", "are", "the", "queue"]

    @task.air_job(max_parallel=2)
    def measure(words: list[str]) -> list[dict[str, object]]:
        return [
            {
                "id": word,
                "command": "sh",
                "args": ["-c", 'printf %s "$AIR_EXECUTOR_TASK" | wc -c > "$AIR_EXECUTOR_OUTPUT"'],
            }
            for word in words
        ]

    @task
    def add_up(outcome: dict[str, dict[str, int]]) -> int:
        return sum(outcome["result"].values())

    add_up(measure(list_words()))


job_decorated()
