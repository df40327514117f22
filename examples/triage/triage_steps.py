"""The two tasks of the triage DAG: one runs the network of a day, one writes its summary to PostgreSQL.

The modules of the network are imported by the task that runs it, so that nobody who only parses the DAG loads them.
"""

from __future__ import annotations

import datetime
import os
from typing import Any

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import Variable, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

CONNECTION = "triage_db"
VARIABLES = (
    "triage_source_url",
    "triage_source_query",
    "triage_source_token",
    "triage_alert_url",
    "triage_alert_token",
    "triage_alert_channel",
    "triage_output",
)
"""Airflow's variables; the network reads the variables of the environment that have their names in capitals."""

COLUMNS = ("day", "issues", "alerted", "archived", "refused", "sha256")
UPSERT = f"""
insert into triage_days ({", ".join(COLUMNS)}) values ({", ".join(f"%({name})s" for name in COLUMNS)})
on conflict (day) do update set {", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])}
"""
RETRY_DELAY = datetime.timedelta(minutes=1)


def steps(retry_delay: datetime.timedelta = RETRY_DELAY) -> None:
    """Put both tasks into the DAG that is being written."""
    summary = triage.override(retries=2, retry_delay=retry_delay, retry_exponential_backoff=True)()
    record = SQLExecuteQueryOperator(
        task_id="record",
        conn_id=CONNECTION,
        sql=UPSERT,
        parameters={name: f"{{{{ ti.xcom_pull(task_ids='triage')['{name}'] }}}}" for name in COLUMNS},
        retries=2,
        retry_delay=retry_delay,
    )
    summary >> record


@task(executor_config={"timeout": 600, "memory_mb": 1024})
def triage() -> dict[str, Any]:
    """One network, for this task instance and this try alone; its summary."""
    import pipeline
    from triage_errors import SettingError
    from triage_settings import settings_from

    bind()
    with pipeline.stopping_on_term() as stop:
        try:
            return pipeline.run_day(_day(), settings_from(os.environ), stop)
        except SettingError as error:
            raise AirflowFailException(str(error)) from None  # trying again would not help


def bind() -> None:
    """Airflow's variables become those of this process, which is the task's own and ends with it."""
    for name in VARIABLES:
        value = Variable.get(name, default=None)
        if value is not None:
            os.environ[name.upper()] = str(value)


def _day() -> str:
    """The day that the run is about; of a run that somebody triggered without a date, the day before."""
    context = get_current_context()
    start = context.get("data_interval_start") or context["dag_run"].run_after - datetime.timedelta(days=1)
    return start.astimezone(datetime.timezone.utc).date().isoformat()
