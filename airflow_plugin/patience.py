"""Which of the tasks that were queued for long only wait, and how Airflow is told so.

Airflow calls a task stuck that is queued longer than `[scheduler] task_queued_timeout`: it takes it back twice and then
fails it. That is right for a task that nobody will start. One whose job stands in a queue that a living runner serves
waits for its turn, however long that takes:

==================================================  ================================================================
the job of the task                                 the task
==================================================  ================================================================
waiting, and a living runner serves its queue       waits
waiting, and its queue is paused                    waits, whoever serves it
waiting in Slurm, and some runner lives             waits: a runner that takes no new jobs still sees to these
working, since less than `task_queued_timeout`      waits: it is about to tell Airflow that it runs (a minute is
                                                    granted in any case: a busy host starts slowly)
waiting otherwise                                   is stuck
working for longer, over, missing, damaged          is stuck
of another run of the try                           is stuck
==================================================  ================================================================
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from airflow.models.taskinstance import TaskInstance
from airflow.utils.state import TaskInstanceState
from sqlalchemy import Update, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import object_session

from air_executor import model, pauses, runners, store, usage
from air_executor.errors import CorruptFileError, HomeError, NotFoundError
from air_executor.paths import Home
from air_executor.sightings import Sightings
from air_executor.slurm import record
from airflow_plugin import jobs
from airflow_plugin.ledger import Entry

log = logging.getLogger(__name__)

START_SECONDS = 60.0
"""How long a start may take, however short Airflow's timeout is."""
CHUNK = 500
"""How many task instances one statement names; databases limit that."""


@dataclass(frozen=True)
class Served:
    """What jobs may wait for."""

    queues: frozenset[str]
    """Those that living runners serve, and those that are paused."""
    slurm: bool = False
    """Whether some runner lives, to see to what is in Slurm."""


def waits(
    job: model.Job,
    external_id: str | None,
    served: Served,
    timeout: float,
    working_for: float,
    *,
    in_slurm: bool = False,
) -> bool:
    """Whether the task of a job only waits. Pure.

    Args:
        working_for: seconds since the job started, if it did.
        in_slurm: whether it was submitted there.
    """
    if job.external_id != external_id:
        return False
    if job.state is model.JobState.WAITING:
        return job.queue in served.queues or (in_slurm and served.slurm)
    if job.state is not model.JobState.WORKING or job.started_at is None:
        return False
    return working_for < max(timeout, START_SECONDS)


def let_wait(home: Home, ti: TaskInstance, others: Iterable[Entry], timeout: float, seen: Sightings) -> bool:
    """Whether a task only waits. If so, Airflow is told of all that wait: after one refusal it looks at no other.

    Args:
        seen: what the scheduler has seen of the runners.

    Raises:
        HomeError: the home cannot be read now.
    """
    store.check_home(home)
    name = jobs.task_name(ti)
    alive = runners.alive_runners(home, seen)
    queues = {queue for info in alive if not info.draining for queue in info.queues}
    served = Served(_paused(home) | queues, slurm=bool(alive))
    if not _those_that_wait(home, {name: ti.external_executor_id}, timeout, served):
        return False
    known = {entry.name: entry.external_id for entry in others} | {name: ti.external_executor_id}
    _start_clocks_anew(ti, _those_that_wait(home, known, timeout, served))
    return True


def _paused(home: Home) -> frozenset[str]:
    """Somebody wants that the tasks of these queues wait: nobody calls them stuck."""
    try:
        return pauses.names(home)
    except OSError as error:
        raise HomeError(f"{home.paused} cannot be read: {error.strerror}") from None


def _those_that_wait(home: Home, known: Mapping[str, str | None], timeout: float, served: Served) -> set[str]:
    """The external ids of the jobs, given by name, whose tasks only wait if Airflow has them as queued."""
    found = set()
    for name, external_id in known.items():
        with contextlib.suppress(NotFoundError, CorruptFileError):
            job = store.read(home, name)
            in_slurm = record.exists(home.job(name))
            if external_id and waits(job, external_id, served, timeout, usage.working_for(job), in_slurm=in_slurm):
                found.add(external_id)
    return found


def _start_clocks_anew(ti: TaskInstance, external_ids: Collection[str]) -> None:
    """Let Airflow count from now on how long these have been queued; in the transaction that has read `ti`.

    Airflow commits it. If it cannot be written, nobody has lost anything: Airflow has committed what it did before.
    """
    session = object_session(ti)
    if session is None:
        return
    try:
        for statement in _updates(sorted(external_ids), datetime.now(timezone.utc)):
            session.execute(statement)
    except SQLAlchemyError as error:
        session.rollback()
        log.warning("Airflow could not be told that %d tasks only wait: %s", len(external_ids), type(error).__name__)


def _updates(external_ids: Sequence[str], moment: datetime) -> Iterator[Update]:
    for start in range(0, len(external_ids), CHUNK):
        these = TaskInstance.external_executor_id.in_(external_ids[start : start + CHUNK])
        statement = update(TaskInstance).where(these, TaskInstance.state == TaskInstanceState.QUEUED)
        yield statement.values(queued_dttm=moment).execution_options(synchronize_session=False)
