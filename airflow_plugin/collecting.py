"""Finding the jobs that are over: by what runners announce, and one after the other, should that be lost.

What an end means is in `results`; what Airflow is told of it, the executor sees to.
"""

from __future__ import annotations

import time
from typing import Protocol

from air_executor import held, model, respool, spool, store
from air_executor.errors import CorruptFileError, JobBusyError, NotFoundError
from air_executor.model import JobState
from air_executor.paths import Home
from airflow_plugin import handover, jobs, keys, results
from airflow_plugin.guard import Safely
from airflow_plugin.ledger import Entry, Ledger, Strangers
from airflow_plugin.results import Report, Tell

CHECK_EACH = 30.0
"""Seconds in which every job is looked at once, in case its announcement was lost."""
CHECKS_AT_ONCE, CHECKS_WHEN_IDLE = 1, 100
"""How many are looked at in a heartbeat, and in each part of one that only waits."""
DROP_AFTER = 120.0
"""Seconds after which the announcement of a task that no executor knows is removed; adoption needs none."""


class OnReport(Protocol):
    """Told of each job that nobody needs to wait for any more."""

    def __call__(self, entry: Entry, report: Report, job: model.Job | None = None) -> None:
        """`job` is None if it cannot be known, or is another scheduler's."""


class Collector:
    """Looks for the ends of an executor's jobs.

    Args:
        ledger: those that it waits for.
        safely: trouble with one job costs no other.
    """

    def __init__(self, ledger: Ledger, on_report: OnReport, safely: Safely) -> None:
        self._ledger, self._on_report, self._safely = ledger, on_report, safely
        self._strangers = Strangers()
        self._checked_at = time.monotonic()
        self.check_all = False
        """Whether the next check is of all jobs: some may have been over for long."""

    def collect(self, home: Home, now: float) -> None:
        """Look at the jobs that are announced to be over."""
        names = spool.finished(home)
        for name in names:
            entry = self._ledger.get(name)
            if entry is not None:
                self._safely(f"the result of {name}", self._settle, home, entry, announced=True)
            else:
                self._safely(f"the result of {name}", self._look_at_stranger, home, name, now)
        self._strangers.keep_only(set(names))

    def check_some(self, home: Home, now: float, most: int) -> None:
        """Look at some others: whose announcement was lost would run for ever in Airflow's eyes."""
        size = len(self._ledger)
        if size == 0:  # what comes next is not due before its time
            self._checked_at = now
            return
        count = size if self.check_all else min(most, int(size * (now - self._checked_at) / CHECK_EACH))
        if count == 0:
            return
        if self.check_all:
            self._checked_at, self.check_all = now, False
        else:  # what is due and not done now is done as soon as there is time
            self._checked_at = max(self._checked_at + count / size * CHECK_EACH, now - CHECK_EACH)
        for entry in self._ledger.next_to_check(count):
            self._safely(f"the job {entry.name}", self._settle, home, entry, announced=False)

    def _settle(self, home: Home, entry: Entry, *, announced: bool) -> None:
        """Report a job if it is over."""
        try:
            job = store.read(home, entry.name)
        except NotFoundError:
            store.check_home(home)  # a home that is gone for a while says nothing of its jobs
            self._on_report(entry, results.gone(entry.name))
            return
        except CorruptFileError as error:
            self._settle_damaged(home, entry, error)
            return
        if entry.external_id is not None and job.external_id != entry.external_id:
            # another scheduler runs this try again, and waits for the answer
            self._on_report(entry, Report(Tell.NOTHING))
            return
        if job.state.terminal:
            self._report(entry, job)
        elif job.state is JobState.WAITING:
            respool.requeue_lost(home, entry.name, job)  # its submitter died just before it was queued
        if job.state.terminal or announced:
            spool.collect_finished(home, entry.name)

    def _settle_damaged(self, home: Home, entry: Entry, error: CorruptFileError) -> None:
        try:
            job = held.condemn(home, entry.name, error, by=handover.BY)
        except JobBusyError:  # a process runs it, and writes the file anew at its end
            return
        if job.state.terminal:
            self._report(entry, job)
            spool.collect_finished(home, entry.name)

    def _look_at_stranger(self, home: Home, name: str, now: float) -> None:
        """An answer that nobody here waits for: late, of another scheduler, or of one that is gone."""
        if not name.startswith(jobs.PREFIX):
            return
        age = self._strangers.due(name, now)
        if age is None and not self._ledger.was_ours(name):
            return
        try:
            job = store.read_or_damaged(home, name)
        except NotFoundError:  # somebody removed it
            spool.collect_finished(home, name)
            return
        if self._ledger.is_done(name, job.external_id):
            spool.collect_finished(home, name)
        elif age is None or job.trigger != "executor" or not job.state.terminal:
            return
        elif key := keys.key_of_labels(job.labels):
            if spool.collect_finished(home, name):
                self._report(Entry(name, key), job)
        elif age >= DROP_AFTER:
            spool.collect_finished(home, name)

    def _report(self, entry: Entry, job: model.Job) -> None:
        self._on_report(entry, results.report(job, keys.kind_of(entry.key)), job)
