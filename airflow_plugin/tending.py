"""What an executor does for jobs that wait: their tokens stay young, and those that nobody wants any more are stopped.

::

    handed over ── some seconds ──> waits ─┬─ Airflow says that it runs ────────────────> nothing more to do
                                      ^    ├─ Airflow does not want it any more ────────> stopped
                                      └────┴─ half of its token's life is over: another

A job that has begun is let alone: its task hears of everything with its next heartbeat. What waits costs one question
to the database every few seconds, and one file in half a life of its token.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from sqlalchemy.exc import SQLAlchemyError

from air_executor import _files, held, model, store
from air_executor.errors import AirExecutorError, CorruptFileError, JobBusyError, NotFoundError
from air_executor.paths import Home
from airflow_plugin import wanted
from airflow_plugin.ledger import Entry
from airflow_plugin.tokens import PatientGenerator

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two looks at what waits, and before the first at each: most jobs have begun by then."""
LONGEST = 0.2
"""Seconds of renewing tokens after which the scheduler goes on; the next look sees to the others."""


class Tender:
    """Looks after what waits.

    Args:
        entries: the jobs of the executor.
        drop: called with each that Airflow does not want any more.
    """

    def __init__(self, entries: Iterable[Entry], drop: Callable[[Entry], None]) -> None:
        self._entries, self._drop = entries, drop
        self._next = 0.0

    def tick(self, home: Home, generator: PatientGenerator) -> None:
        """Look, if it is time to.

        Args:
            generator: what tokens are made with.
        """
        now, interval = time.monotonic(), min(INTERVAL, generator.lifetime / 4)
        if now < self._next:
            return
        self._next = now + interval
        waiting = [each for each in self._entries if not each.runs and now - each.since >= interval]
        try:
            self._drop_unwanted(home, waiting)
        except SQLAlchemyError as error:  # it may be away for a while, and tokens grow old meanwhile
            log.warning("The database cannot be asked which tasks are still wanted: %s", type(error).__name__)
        old = [each for each in waiting if not each.runs and now - each.token_since >= generator.lifetime / 2]
        _renew_some(home, old, generator, now + LONGEST)

    def _drop_unwanted(self, home: Home, waiting: Iterable[Entry]) -> None:
        for entry in list(wanted.look(waiting)):
            if _waits(home, entry):
                self._drop(entry)


def _waits(home: Home, entry: Entry) -> bool:
    """One that has begun ends by itself, and its end is still to be told."""
    try:
        return store.read(home, entry.name).state is model.JobState.WAITING
    except (NotFoundError, CorruptFileError):
        return False


def _renew_some(home: Home, entries: Iterable[Entry], generator: PatientGenerator, deadline: float) -> None:
    for entry in entries:
        if time.monotonic() >= deadline:
            return
        try:
            renew(home, entry, generator)
        except JobBusyError:  # it begins; should it come back to its queue, the next look finds it
            pass
        except (AirExecutorError, OSError) as error:
            log.warning("The token of %s cannot be renewed now: %s", entry.name, error)


def renew(home: Home, entry: Entry, generator: PatientGenerator) -> None:
    """Give a job that waits a token that lives its whole life.

    Under the job's lock: so it cannot begin, end or get another workload meanwhile, and no token is left in a job that
    is over.

    Raises:
        AirExecutorError, OSError: it could not be renewed.
    """
    with held.HeldJob.acquire(home, entry.name) as job:
        of_this_run = entry.external_id in (None, job.job.external_id)
        if job.job.state is not model.JobState.WAITING or not of_this_run or entry.subject is None:
            return
        workload = _files.read_object(job.paths.workload)
        workload["token"] = generator.make(entry.subject)
        _files.replace_object(job.paths.workload, workload, durable=True)
    entry.token_since = time.monotonic()
