"""Puts tasks into Airflow's database that wait for jobs, or for next year, as if so many had been deferred.

    python -m benchmarks.deferred RUN_ID job|date < names of jobs, a line each

For `benchmarks.waits`, which gives it the environment of its Airflow: to defer five thousand tasks by running them
takes a quarter of an hour. What is in the database afterwards is what the tasks would have left there, in place of
what an earlier call wrote.
"""

from __future__ import annotations

import datetime
import sys
import uuid

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.triggers.base import BaseTrigger
from airflow.utils.session import create_session
from sqlalchemy import delete, insert, select

from airflow_plugin.triggers import AirJobTrigger


def main() -> int:
    run_id, kind, names = *sys.argv[1:], sys.stdin.read().split()
    table = TaskInstance.__table__
    with create_session() as session:
        session.execute(delete(table).where(table.c.run_id == run_id, table.c.map_index >= 0))
        session.execute(delete(Trigger))
        triggers = [_row(KINDS[kind](name)) for name in names]
        session.add_all(triggers)
        session.flush()
        pattern = dict(session.execute(select(table).where(table.c.run_id == run_id)).mappings().first() or {})
        rows = [
            {**pattern, "id": uuid.uuid4(), "map_index": number, "state": "deferred", "trigger_id": trigger.id}
            for number, trigger in enumerate(triggers)
        ]
        session.execute(insert(table), rows)
    return 0


def _job(name: str) -> BaseTrigger:
    return AirJobTrigger(job_name=name, once=True, attempt=1, stopper="benchmark")


def _date(_: str) -> BaseTrigger:
    """It looks at the clock once an hour: what Airflow itself costs, however a trigger waits."""
    return DateTimeTrigger(moment=datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=365))


KINDS = {"job": _job, "date": _date}


def _row(trigger: BaseTrigger) -> Trigger:
    path, arguments = trigger.serialize()
    return Trigger(classpath=path, kwargs=arguments)


if __name__ == "__main__":
    sys.exit(main())
