"""Two DAGs that fail on purpose: one recovers on its second try, the other never does.

Each try is a job directory of its own, so the log and the exit code of the failed try stay there to be read:
`air-executor list` shows them.
"""

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag

TAGS = ["air-executor", "example"]
FAIL_ON_FIRST_TRY = 'echo "this is try {{ ti.try_number }}"; [ {{ ti.try_number }} -ge 2 ]'


@dag(dag_id="recovers_on_retry", schedule=None, catchup=False, tags=TAGS, doc_md=__doc__)
def recovers_on_retry() -> None:
    BashOperator(
        task_id="fails_once",
        bash_command=FAIL_ON_FIRST_TRY,
        retries=1,
        retry_delay=timedelta(seconds=3),
    )


@dag(dag_id="always_fails", schedule=None, catchup=False, tags=TAGS, doc_md=__doc__)
def always_fails() -> None:
    BashOperator(
        task_id="fails",
        bash_command="echo 'failing on purpose'; exit 3",
        retries=1,
        retry_delay=timedelta(seconds=3),
    )


recovers_on_retry()
always_fails()
