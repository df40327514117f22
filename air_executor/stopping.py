"""Asking for the end of a job: a waiting one is over at once, a working one when its process has seen to it."""

from __future__ import annotations

from air_executor import _files, model, repair, respool, spool, store, temporaries
from air_executor.model import JobState
from air_executor.paths import Home


def stop(home: Home, job: model.Job, *, by: str, outcome: model.Exit) -> model.Job:
    """Ask for a job's end with the outcome that it shall have; the first who asks is the one who counts.

    Returns:
        The job as it is now.
    """
    if job.state.terminal:
        return job
    repair.note_stop(home, job.name, by=by, outcome=outcome)
    if job.state is JobState.WAITING:
        _cancel_waiting(home, job, by)
    job = store.read_or_damaged(home, job.name)
    if not job.state.terminal:
        spool.request_cancel(home, job.name)
    return job


def _cancel_waiting(home: Home, job: model.Job, by: str) -> None:
    """Claim it as a runner would: whoever wins the rename decides, and only the holder of the claim writes.

    A job without a marker, whose submitter died or whose spool was deleted, gets one: else nobody could end it.
    """
    holder = f"client-{temporaries.writer()}"
    _files.make_directory(home.claims(holder))
    try:
        marker = spool.marker_of(job)
        found = spool.claim(home, marker, holder)
        if found or (respool.requeue_lost(home, job.name) and spool.claim(home, marker, holder)):
            repair.resolve(home, job.name, "cancelled", by=by, holder=holder)
    finally:
        spool.remove_holder(home, holder)
