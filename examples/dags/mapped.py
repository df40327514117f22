"""Dynamic task mapping: a task per word, known only at run time, then one task that takes all results together.

Every mapped instance is a job of its own, so they run at the same time as far as the runner has slots.
"""

from airflow.sdk import dag, task


@dag(dag_id="mapped_air_executor", schedule=None, catchup=False, tags=["air-executor", "example"], doc_md=__doc__)
def mapped_air_executor() -> None:
    @task
    def list_words() -> list[str]:
        return ["files", "are", "the", "queue"]

    @task
    def measure(word: str) -> int:
        return len(word)

    @task
    def add_up(lengths: list[int]) -> int:
        return sum(lengths)

    add_up(measure.expand(word=list_words()))


mapped_air_executor()
