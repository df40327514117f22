"""Puts tasks into Airflow's database that wait for jobs, as if so many had been deferred.

    python -m benchmarks.deferred RUN_ID < names of jobs, a line each

For `benchmarks.waits`, which gives it the environment of its Airflow: to defer five thousand tasks by running them
takes a quarter of an hour. What is in the database afterwards is what the tasks would have left there.
"""

from __future__ import annotations

import sys
import uuid

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from sqlalchemy import insert, select

from airflow_plugin.triggers import AirJobTrigger


def main() -> int:
    run_id, names = sys.argv[1], sys.stdin.read().split()
    table = TaskInstance.__table__
    with create_session() as session:
        triggers = [_trigger(name) for name in names]
        session.add_all(triggers)
        session.flush()
        pattern = dict(session.execute(select(table).where(table.c.run_id == run_id)).mappings().first() or {})
        rows = [
            {**pattern, "id": uuid.uuid4(), "map_index": number, "state": "deferred", "trigger_id": trigger.id}
            for number, trigger in enumerate(triggers)
        ]
        session.execute(insert(table), rows)
    return 0


def _trigger(name: str) -> Trigger:
    path, arguments = AirJobTrigger(job_name=name, once=True, attempt=1, stopper="benchmark").serialize()
    return Trigger(classpath=path, kwargs=arguments)


if __name__ == "__main__":
    sys.exit(main())
