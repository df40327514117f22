"""Bringing the spool in line with the jobs: every job in its place, and nothing that stands for no job.

Nothing here changes a job. What became of a job's processes is `repair`'s, which does this, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from air_executor import held, model, processes, spool, store
from air_executor.errors import AirExecutorError, CorruptFileError, InvalidNameError, JobBusyError, NotFoundError
from air_executor.model import JobState
from air_executor.paths import Home
from air_executor.slurm import record

LOST_HOLDER = "lost"
"""Who has the claim of a job that does not say whose it was."""


@dataclass(frozen=True)
class Change:
    """One thing that was repaired."""

    job: str
    what: str
    failed: bool = False
    """Whether nothing could be done, and `what` says why."""


def rebuild(home: Home) -> Iterator[Change]:
    """The part of `repair` that changes nothing of a job.

    Raises:
        OSError: the home refused.
    """
    known = set(claims(home))
    for name in list(store.names(home)):
        with contextlib.suppress(AirExecutorError):  # damaged, or gone meanwhile
            if change := give_place(home, store.read(home, name), name in known):
                yield Change(name, change)
    yield from drop_answers(home)
    yield from drop_foreign_markers(home)


def claims(home: Home) -> Iterator[str]:
    """The jobs that somebody has claimed."""
    return (name for holder in spool.holders(home) for name in spool.claimed(home, holder))


def is_out_of_place(home: Home, job: model.Job) -> bool:
    """Whether a job is not where it should be in the spool. A look only: it may be between two places."""
    if job.state is JobState.WORKING:
        return job.name not in claims(home) and _needs_claim(home, job)
    return _is_lost(home, job)


def give_place(home: Home, job: model.Job, claimed: bool) -> str | None:
    """Give a job its place in the spool; what was done, if it had none."""
    if job.state is JobState.WAITING and not claimed and requeue_lost(home, job.name):
        return "was waiting without a place in its queue"
    if job.state is JobState.WORKING and not claimed and _needs_claim(home, job):
        return _claim_for_the_dead(home, job)
    return None


def _claim_for_the_dead(home: Home, job: model.Job) -> str | None:
    """Put back the claim that somebody deleted: a runner takes it over, alone, and kills what the dead one left."""
    holder = (job.runner and job.runner.runner) or LOST_HOLDER
    if (home.claims(holder) / job.name).exists():
        return None
    spool.claim_again(home, holder, job.name)
    return "was working without a claim; a runner brings it to rest, or watches it in Slurm"


def requeue_lost(home: Home, name: str, job: model.Job | None = None) -> bool:
    """Give a waiting job its marker back if it has none and nobody has claimed it; whether that was so.

    Looked at once more under the lock, because the job may be between two files of somebody who is just working on it.

    Args:
        job: what was just read of it.
    """
    if not _is_lost(home, job or store.read(home, name)):
        return False
    try:
        with held.HeldJob.acquire(home, name) as taken:
            if not _is_lost(home, taken.job):
                return False
            spool.enqueue(home, taken.job)
            return True
    except (JobBusyError, NotFoundError, CorruptFileError):
        return False


def _is_lost(home: Home, job: model.Job) -> bool:
    return job.state is JobState.WAITING and not has_place(home, job)


def has_place(home: Home, job: model.Job) -> bool:
    """Whether a job stands in its queue, or anybody has claimed it."""
    in_queue = job.state is JobState.WAITING and spool.marker_of(job).path(home).is_file()
    return in_queue or any((home.claims(holder) / job.name).is_file() for holder in spool.holders(home))


def _needs_claim(home: Home, job: model.Job) -> bool:
    """Whether nobody sees to its end without a claim: its process is gone, or on a node that has no runner."""
    return record.exists(home.job(job.name)) or not _may_live(job)


def _may_live(job: model.Job) -> bool:
    return job.runner is not None and processes.is_alive(job.runner) is not False


def drop_answers(home: Home) -> Iterator[Change]:
    """Of jobs that somebody removed."""
    for name in spool.finished(home):
        if not home.job(name).root.exists() and spool.collect_finished(home, name):
            yield Change(name, "the answer of a job that is gone, removed")


def drop_foreign_markers(home: Home) -> Iterator[Change]:
    """Markers of jobs that are gone or over, and those of an earlier place in a queue: no job may have two."""
    for queue in spool.queues(home):
        for marker in spool.waiting(home, queue):
            try:
                job = store.read(home, marker.job)
                foreign = job.state.terminal or spool.marker_of(job) != marker
            except (NotFoundError, InvalidNameError):
                foreign = True
            except (CorruptFileError, OSError):
                foreign = False  # somebody holds it, or it cannot be read: whoever has it next says so
            if foreign:
                marker.path(home).unlink(missing_ok=True)
                yield Change(marker.job, "a marker of a job that does not wait there, removed")
