"""Which tasks that wait Airflow still wants.

It tells an executor nothing of a task that somebody marks, clears or deletes while it is queued. One that runs hears of
it with its next heartbeat; one that waits, in Slurm maybe for hours, is asked for here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

from airflow_plugin import keys
from airflow_plugin.ledger import Entry

CHUNK = 500
"""How many task instances one statement names; databases limit that."""
LIVE = frozenset({TaskInstanceState.QUEUED, TaskInstanceState.RUNNING, TaskInstanceState.RESTARTING})
"""States of a task instance whose job Airflow waits for."""


class Known(NamedTuple):
    """What Airflow has of a task instance."""

    state: str | None
    external_id: str | None


def is_wanted(known: Known | None, external_id: str | None) -> bool:
    """Whether Airflow waits for this run of a task. Pure.

    Args:
        known: None if there is no such task instance any more.
        external_id: of the run.
    """
    if known is None or known.state not in LIVE:
        return False
    return None in (known.external_id, external_id) or known.external_id == external_id


def look(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Find those among them that Airflow does not want, and note which of the others run.

    Raises:
        SQLAlchemyError: the database did not answer.
    """
    tasks = [each for each in entries if keys.kind_of(each.key) == keys.TASK and each.subject is not None]
    known = _ask([UUID(str(each.subject)) for each in tasks]) if tasks else {}
    for entry in tasks:
        found = known.get(UUID(str(entry.subject)))
        if not is_wanted(found, entry.external_id):
            yield entry
        elif found is not None and found.state != TaskInstanceState.QUEUED:
            entry.runs = True


def _ask(ids: Sequence[UUID]) -> Mapping[UUID, Known]:
    found = {}
    columns = (TaskInstance.id, TaskInstance.state, TaskInstance.external_executor_id)
    with create_session(scoped=False) as session:  # the scheduler may be in the middle of its own
        for start in range(0, len(ids), CHUNK):
            rows = session.execute(select(*columns).where(TaskInstance.id.in_(ids[start : start + CHUNK])))
            found.update({row[0]: Known(row[1], row[2]) for row in rows})
    return found
