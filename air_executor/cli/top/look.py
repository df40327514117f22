"""Looks at a home again and again, at each part as often as it may have changed and not more than is cheap.

Live jobs are found in the spool: claims are read, of those that wait the markers say enough. Those that ended come from
the index, which has the jobs that were created last. A live job that is no longer in the spool is read at once: its end
is to be seen also if it was created long ago.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from air_executor import health, journal, model, runners, spool, status, store
from air_executor.cli.top import facts
from air_executor.cli.top.logs import LogView
from air_executor.cli.top.pace import Pace
from air_executor.client import AirExecutorClient
from air_executor.errors import AirExecutorError, CorruptFileError
from air_executor.index import Filter, Index, JobRow
from air_executor.paths import Home
from air_executor.sightings import Sightings
from air_executor.slurm import standing

WAITING_SHOWN = 500
OVER_SHOWN = 500
_SPOOL, _OVER, _TOTAL, _HEALTH, _DETAILS, _LOG = 1.0, 1.0, 3.0, 5.0, 1.0, 0.3
"""Seconds between two looks."""
_INDEX_REST = 0.25
_OVER_STATES = tuple(sorted(state.value for state in model.TERMINAL_JOB_STATES))
_TROUBLE = (AirExecutorError, OSError, sqlite3.Error, ValueError)
"""What a look may come to that the next one may not."""


@dataclass(frozen=True)
class Interest:
    """What somebody looks at."""

    wanted: facts.Filter = facts.EVERYTHING
    """The jobs that are shown."""
    job: str = ""
    """The job whose details are shown."""
    log: str = ""
    """The job whose log is shown."""


class Look:
    """What was found so far."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.interest = Interest()
        self._seen = Sightings(guess=True)
        empty = health.Status(str(home.root), model.now(), exists=True, start=runners.start_command(home))
        self.found = facts.Snapshot(empty)
        self._index = Index(home)
        self._ends = Ends(home)
        self._log: LogView | None = None
        self._details_key: object = None
        self._troubles: dict[Callable[[], None], str] = {}
        """Of each part why the last look at it was in vain."""
        self._paces = {
            self._look_at_spool: Pace(_SPOOL),
            self._look_at_components: Pace(_HEALTH),
            self._look_at_over: Pace(_OVER),
            self._count: Pace(_TOTAL),
            self._look_at_details: Pace(_DETAILS),
            self._look_at_log: Pace(_LOG),
        }

    def close(self) -> None:
        """No look follows."""
        self._index.close()

    @property
    def due(self) -> float:
        """When to look next, by the monotonic clock."""
        return min(self._paces[each].due for each in self._wanted())

    def hurry(self) -> None:
        """Something was done that may be seen everywhere."""
        for pace in self._paces.values():
            pace.hurry()

    def turn_to(self, interest: Interest) -> None:
        """Look at something else."""
        self.interest = interest
        for look in (self._look_at_over, self._look_at_details, self._look_at_log):
            self._paces[look].hurry()

    def look(self) -> None:
        """Look at what is due. What goes wrong is told in `found.trouble`."""
        wanted = self._wanted()
        for look in wanted:
            pace, began = self._paces[look], time.monotonic()
            if pace.due > began:
                continue
            self._troubles.pop(look, None)
            try:
                look()
            except _TROUBLE as error:
                self._troubles[look] = describe(error)
            pace.looked(began, time.monotonic())
        if self.found.unread:  # it is being made, which is worth some work
            self._paces[self._look_at_over].due = time.monotonic() + _INDEX_REST
        trouble = next((self._troubles[look] for look in wanted if look in self._troubles), "")
        self._put(at=time.time(), trouble=trouble)

    def _wanted(self) -> list[Callable[[], None]]:
        wanted = list(self._paces)
        if not self.interest.job:
            wanted.remove(self._look_at_details)
        if not self.interest.log:
            wanted.remove(self._look_at_log)
        return wanted

    def _put(self, **changes: object) -> None:
        self.found = dataclasses.replace(self.found, **changes)  # type: ignore[arg-type]

    def _look_at_spool(self) -> None:
        store.check_home(self.home)
        infos = runners.all_runners(self.home)
        alive = [info for info in infos if self._seen.is_alive(info)]
        seen = dataclasses.replace(
            self.found.status,
            at=model.now(),
            runners=status.gather_runners(self.home, infos, self._seen),
            queues=status.gather_queues(self.home, alive),
            slurm=status.gather_slurm(self.home, alive),
            settings=status.gather_settings(self.home),
            given_up=status.gather_given_up(self.home),
        )
        live, names = live_jobs(self.home)
        self._ends.note_live(names)
        self._put(status=seen, live=live, over=self._ends.merged(self.found.over))

    def _look_at_components(self) -> None:
        self._put(status=dataclasses.replace(self.found.status, components=status.gather_components(self.home)))

    def _look_at_over(self) -> None:
        unread = self._index.refresh().unread
        wanted = self.interest.wanted
        states = [wanted.state] if wanted.state in _OVER_STATES else _OVER_STATES
        queues = [wanted.queue] if wanted.queue else ()
        chosen = Filter(states, queues, text=wanted.words[0] if wanted.words else "")
        rows = self._index.page(chosen, OVER_SHOWN).jobs
        self._put(over=self._ends.merged(map(of_row, rows)), unread=unread)

    def _count(self) -> None:
        self._put(total=sum(self._index.count().values()))

    def _look_at_details(self) -> None:
        name = self.interest.job
        store.check_exists(self.home, name)
        paths = self.home.job(name)
        events = paths.events.stat().st_size if paths.events.is_file() else 0
        paused = any(queue.paused for queue in self.found.status.queues)
        key = (name, _changed(self.home, name), events, paused)
        if key != self._details_key:
            self._put(details=read_details(self.home, name))
            self._details_key = key

    def _look_at_log(self) -> None:
        name = self.interest.log
        if self._log is None or self._log.name != name:
            self._log = LogView(self.home, name)
        job = store.read_or_damaged(self.home, name)  # first: what is written before its end is then there
        self._log.read()
        self._put(log=facts.Log(name, self._log.lines, job.state.value, self._log.cut))


class Ends:
    """The latest ends that were seen here, for as long as the index may not know them."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._live: set[str] = set()
        self._jobs: dict[str, facts.JobFacts] = {}

    def note_live(self, live: set[str]) -> None:
        """These are live now; those that were and are not any more have ended."""
        gone, self._live = self._live - live, live
        for name in itertools.islice(gone, OVER_SHOWN):
            with contextlib.suppress(AirExecutorError, OSError):  # removed meanwhile
                self._jobs[name] = facts.of_job(store.read_or_damaged(self._home, name))
        ended = [job for job in self._jobs.values() if job.over and job.name not in live]
        latest = heapq.nlargest(OVER_SHOWN, ended, key=lambda job: job.since)
        self._jobs = {job.name: job for job in latest if self._home.job(job.name).root.is_dir()}

    def merged(self, known: Iterable[facts.JobFacts]) -> list[facts.JobFacts]:
        """These ends and those that are known otherwise, the last one first."""
        over: dict[str, facts.JobFacts] = {}
        for job in (*known, *self._jobs.values()):
            if job.name not in over or over[job.name].since < job.since:
                over[job.name] = job
        return sorted(over.values(), key=lambda job: job.since, reverse=True)[:OVER_SHOWN]


def of_row(row: JobRow) -> facts.JobFacts:
    """A job that is over, as the index has it."""
    failed = row.state != model.JobState.COMPLETED
    moment = row.finished or row.created
    why = (row.reason or "") if failed else ""
    return facts.JobFacts(row.name, row.state, row.queue, moment, row.run, row.runner or "", why)


def _changed(home: Home, name: str) -> int:
    """When the directory of a job last changed, which it does with each change of the job's state."""
    return home.job(name).root.stat().st_mtime_ns


def describe(error: Exception) -> str:
    """An error in one line, as the commands say it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def live_jobs(home: Home) -> tuple[list[facts.JobFacts], set[str]]:
    """The jobs that somebody has claimed, and the first of those that wait; and the names of all live ones."""
    markers = [marker for queue in spool.queues(home) for marker in spool.waiting(home, queue)]
    claimed = {name: holder for holder in spool.holders(home) for name in spool.claimed(home, holder)}
    found = {}
    for marker in heapq.nsmallest(WAITING_SHOWN, markers):
        found[marker.job] = facts.JobFacts(marker.job, "waiting", marker.queue, marker.queued_at)
    for name, holder in claimed.items():  # after the markers: what was claimed meanwhile is seen here
        with contextlib.suppress(AirExecutorError, OSError):
            job = facts.of_job(store.read_or_damaged(home, name), holder)
            if not job.over:
                found[name] = job
    waiting = {marker.job for marker in markers if marker.job not in claimed or marker.job in found}
    return facts.in_order(found.values()), waiting | set(found)


def read_details(home: Home, name: str) -> facts.Details:
    """One job with its tasks and its history.

    Raises:
        NotFoundError: there is no such job.
    """
    from air_executor.cli import show

    job = store.read_or_damaged(home, name)
    found = facts.Details(
        job,
        directory=str(home.job(name).root),
        waits=standing.read_waits(home, job) or show.paused(home, job) or show.without_pilots(home, job) or "",
        slurm=show.in_slurm(home, job) or "",
    )
    try:
        events = [show.presentable(event) for event in journal.read(home.job(name).events)]
        return dataclasses.replace(found, tasks=AirExecutorClient(home.root).get_tasks(name), events=events)
    except CorruptFileError as error:
        return dataclasses.replace(found, problem=str(error))
