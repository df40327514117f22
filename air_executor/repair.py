"""Bringing jobs in line with what became of their processes, and the spool in line with the jobs (`respool`).

`spool/` is an index. Delete it, and this rebuilds it from the job directories; every runner does so when it starts, and
`air-executor repair` at any time. It is safe beside running runners.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from air_executor import (
    _files,
    _json,
    ends,
    held,
    journal,
    model,
    processes,
    respool,
    runners,
    spool,
    store,
    temporaries,
)
from air_executor.errors import AirExecutorError, CorruptFileError, InvalidNameError, JobBusyError, NotFoundError
from air_executor.model import ExitKind, JobState
from air_executor.paths import Home
from air_executor.respool import Change
from air_executor.sightings import Sightings

CRASH_LIMIT = 5
"""A job whose ephemeral runner died so often before a task started is failed: it is likely the cause."""

LOSS_LIMIT = 100
"""So is one whose runner died so often before the job had an ephemeral runner. All jobs that a runner has just claimed
share its end, whatever the cause; so this only bounds a loop, and a runner that dies again and again fails few."""

SUBMIT_TIME = 5.0
"""Seconds that a submission, or a retry, may take between a job's directory and its marker."""


LIMITS = {model.Blame.JOB: CRASH_LIMIT, model.Blame.RUNNER: LOSS_LIMIT, model.Blame.HOME: math.inf}


class Verdict(enum.Enum):
    """What to do with a job that no living process runs."""

    LEAVE = "leave"
    QUEUE = "queue"
    FAIL = "fail"
    CANCEL = "cancel"
    SETTLE = "settle"


def judge(job: model.Job, *, started: bool, cancel_asked: bool, blame: model.Blame = model.Blame.JOB) -> Verdict:
    """What becomes of a job whose ephemeral runner is gone. Pure.

    Args:
        started: whether a task of it may have started.
        cancel_asked: whether somebody asked for its cancellation.
        blame: what kept it from starting, if it did not start.
    """
    if job.state.terminal:
        return Verdict.SETTLE
    if cancel_asked:
        return Verdict.CANCEL
    if job.state is JobState.WORKING and started:
        return Verdict.FAIL
    return Verdict.FAIL if _count(job, blame) + 1 >= LIMITS[blame] else Verdict.QUEUE


def _count(job: model.Job, blame: model.Blame) -> int:
    return {model.Blame.JOB: job.crashes, model.Blame.RUNNER: job.losses}.get(blame, 0)


def resolve(
    home: Home,
    name: str,
    why: str,
    *,
    by: str,
    holder: str | None = None,
    outcome: model.Exit | None = None,
    blame: model.Blame | None = None,
    keep: bool = False,
) -> Verdict:
    """Bring a job to rest whose ephemeral runner is gone.

    Args:
        why: what is known of its end.
        by: who says so, for the journal.
        holder: who has the claim; it is given up.
        outcome: how the ephemeral runner ended, if that is known.
        blame: what kept it from starting, if that is known.
        keep: whether the holder keeps the claim of a job that waits again, and sees to its next start.

    Returns:
        What was done; LEAVE if a process still holds the job, or if there is no such job.
    """
    try:
        with held.HeldJob.acquire(home, name) as job:
            return _resolve_held(job, why, by, holder, outcome, blame, keep=keep)
    except JobBusyError:
        return Verdict.LEAVE
    except (NotFoundError, InvalidNameError):
        verdict = Verdict.LEAVE
    except CorruptFileError as error:
        try:
            condemned = held.condemn(home, name, error, by=by)
        except (JobBusyError, NotFoundError):  # somebody took it, or removed it, since it was read
            return Verdict.LEAVE
        if not condemned.state.terminal:
            return Verdict.LEAVE
        verdict = Verdict.FAIL
    if holder is not None:
        spool.drop_claim(home, holder, name)
    return verdict


def _resolve_held(
    job: held.HeldJob,
    why: str,
    by: str,
    holder: str | None,
    outcome: model.Exit | None,
    blame: model.Blame | None,
    *,
    keep: bool,
) -> Verdict:
    request = read_cancel(job)
    started = any(task.has_started for task in job.tasks)
    started = started or journal.is_damaged(job.paths.events) or _lost_power(job.job)
    if blame is None:
        crashed = job.job.state is JobState.WORKING or outcome is not None
        blame = model.Blame.JOB if crashed else model.Blame.RUNNER
    verdict = judge(job.job, started=started, cancel_asked=request is not None, blame=blame)
    if verdict is Verdict.QUEUE:
        job.back_to_queue(by=by, why=why, blame=blame)
        if keep:
            return verdict
        if holder is None or not (job.home.claims(holder) / job.job.name).exists():
            spool.enqueue(job.home, job.job)
        else:
            spool.requeue(job.home, job.job, holder)
        return verdict
    if verdict is Verdict.SETTLE:
        job.settle()
    elif verdict is Verdict.CANCEL and request is not None:
        job.finish(request.state, request.exit, by=request.by)
    elif outcome is not None and outcome.kind is ExitKind.SUCCESS:  # which its ephemeral runner could not write
        job.finish(JobState.COMPLETED, outcome, by=by)
    else:
        crashes = f" ({LIMITS[blame]} times before a task started)" if not started else ""
        cancelled = outcome is not None and outcome.kind is ExitKind.CANCELLED  # not here, but where it ran
        state = JobState.CANCELLED if cancelled else JobState.FAILED
        job.finish(state, outcome or model.Exit(ExitKind.RUNNER_LOST, why + crashes), by=by)
    if holder is not None:
        spool.drop_claim(job.home, holder, job.job.name)
    return verdict


def _lost_power(job: model.Job) -> bool:
    """Whether the host was restarted under the job: the event that a task started may not have reached the disk."""
    process = job.runner
    return process is not None and process.host == processes.host() and process.boot_id != processes.boot_id()


@dataclass(frozen=True)
class StopRequest:
    """The content of a job's cancel file: who wants it stopped, and why."""

    by: str
    exit: model.Exit

    @property
    def state(self) -> JobState:
        """What the job becomes: cancelled by a person, failed by a limit."""
        return JobState.CANCELLED if self.exit.kind is ExitKind.CANCELLED else JobState.FAILED


def note_stop(home: Home, name: str, *, by: str, outcome: model.Exit) -> None:
    """Leave a stop request in a job; if there is one already, that one counts.

    Raises:
        OSError: the home refused.
    """
    request = {"at": model.now(), "by": by, "exit": model.to_dict(outcome)}
    with contextlib.suppress(FileExistsError):
        _files.write_new(home.job(name).cancel, _json.pretty(request))


def read_cancel(job: held.HeldJob) -> StopRequest | None:
    """The stop request of a job that this process holds."""
    return read_stop_request(job.home, job.job.name)


def read_stop_request(home: Home, name: str) -> StopRequest | None:
    """The stop request of a job, or None. An unreadable one counts: its presence is the request."""
    path = home.job(name).cancel
    if not os.path.lexists(path):  # mostly, and quick
        return None
    try:
        content = _files.read_object(path)
        return StopRequest(str(content.get("by", "unknown")), model.from_dict(model.Exit, content["exit"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (CorruptFileError, KeyError, TypeError, ValueError, OSError):
        if not os.path.lexists(path):  # no descriptor was left to look with: that is no request
            return None
        return StopRequest("unknown", model.Exit(ExitKind.CANCELLED, "cancelled by a file named cancel"))


def repair(home: Home, *, by: str = "repair") -> Iterator[Change]:
    """Go through all jobs and claims once, yielding what was changed. A generator, so that a runner can do it in steps.

    Raises:
        OSError: the home refused.
    """
    store.ensure_home(home)
    yield from _remove_temporaries(home)
    yield from _repair_jobs(home, list(store.names(home)), by)
    yield from respool.drop_answers(home)
    yield from _end_waits(home)
    yield from (Change("spool/listeners", what) for what in ends.drop_old(home, home_time(home)))
    spool.drop_successes(home)
    yield from respool.drop_foreign_markers(home)  # last: also those of jobs that were just found to be damaged


def home_time(home: Home) -> float:
    """What the times of files in the home are measured by: on a shared filesystem not the clock of this host."""
    try:
        return _files.time_in(home.runners)
    except OSError:  # a full disk
        return time.time()


def repair_recent(home: Home, since: float, by: str) -> Iterator[Change]:
    """Find at any time what a submitter left that died: its temporaries, and jobs that never came into their queue.

    Looks at no job that did not change since `since` (by the clock of the home), so that it can be done now and then,
    each time with the moment of the time before. Jobs of the last `SUBMIT_TIME` seconds are left to the next time: a
    living submitter may be about to queue them.

    Raises:
        OSError: the home refused.
    """
    now = home_time(home)
    yield from _remove_temporaries(home)
    names = [name for changed, name in store.changes(home) if _is_due(changed, since, now)]
    yield from _repair_jobs(home, names, by)


def _is_due(changed: float, since: float, now: float) -> bool:
    """Pure. What changed in the future did so before the clock was set back."""
    return changed >= since - SUBMIT_TIME and not now - SUBMIT_TIME < changed <= now


def _repair_jobs(home: Home, names: Iterable[str], by: str) -> Iterator[Change]:
    known = set(respool.claims(home))
    for name in names:
        try:
            change = _repair_job(home, name, name in known, by)
        except (OSError, AirExecutorError) as error:  # one that cannot be looked at must not hide the others
            yield Change(name, f"cannot be repaired: {error}", failed=True)
        else:
            if change:
                yield Change(name, change)


def _repair_job(home: Home, name: str, claimed: bool, by: str) -> str | None:
    try:
        job = store.read(home, name)
        if _is_unfinished(home, job):
            _finish_writing(home, name)
            job = store.read(home, name)
    except NotFoundError:
        return None
    except CorruptFileError as error:
        try:
            job = held.condemn(home, name, error, by=by)
        except JobBusyError:
            return f"damaged, and held by a process that writes it anew at its end: {error}"
        return f"damaged, now failed: {error}" if job.state.terminal else None
    return respool.give_place(home, job, claimed)


def _is_unfinished(home: Home, job: model.Job) -> bool:
    """Whether somebody died between two files of the job. The workload is the last thing that goes."""
    paths = home.job(job.name)
    return (job.state.terminal and paths.workload.exists()) or bool(temporaries.within(paths.root))


def _finish_writing(home: Home, name: str) -> None:
    with contextlib.suppress(JobBusyError, NotFoundError), held.HeldJob.acquire(home, name) as job:
        if job.job.state.terminal:
            job.settle()


def _remove_temporaries(home: Home) -> Iterator[Change]:
    """Submissions that were cut off, of which nobody was ever told, and other things that were never finished."""
    places = (home.jobs, home.runners, home.components, home.metrics, home.control, home.paused, home.webhooks)
    for directory in places:
        for path in temporaries.abandoned(directory):
            if temporaries.remove(path):
                yield Change(path.name, "left unfinished by a process that is gone, removed")


def _end_waits(home: Home) -> Iterator[Change]:
    """For jobs that are over or gone, of which those who wait were not told; and after them, nobody waits any more."""
    for name in sorted(ends.awaited(home)):
        try:
            over = store.read(home, name).state.terminal
        except NotFoundError:
            over = True
        except (CorruptFileError, OSError):  # whoever brings it to rest ends this, too
            over = False
        if over:
            ends.stop_awaiting(home, name)
            yield Change(name, "was awaited and is over, or gone; those who wait were told")


def abandoned_claims(home: Home, seen: Sightings) -> Iterator[tuple[str, str]]:
    """(holder, job) of claims whose holder is dead.

    A holder without a runner's file is a client in the middle of a cancellation; it gets some time.
    """
    for holder in spool.holders(home):
        try:
            dead = not seen.is_alive(runners.read(home, holder))
        except (NotFoundError, CorruptFileError):
            dead = seen.is_old_holder(home, holder)
        if dead:
            for name in spool.claimed(home, holder):
                yield holder, name
