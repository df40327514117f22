"""The smallest useful DAG: print the date, then sleep and say hello side by side.

`./start-dev.sh --demo` runs it. Each of its three tasks becomes one job directory under the home.
"""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task


@dag(dag_id="hello_air_executor", schedule=None, catchup=False, tags=["air-executor", "example"], doc_md=__doc__)
def hello_air_executor() -> None:
    @task
    def print_hello() -> None:
        print("Hello from an ephemeral runner")

    print_date = BashOperator(task_id="print_date", bash_command="date")
    sleep = BashOperator(task_id="sleep", bash_command="sleep 5")

    print_date >> [sleep, print_hello()]


hello_air_executor()
