"""Removing jobs that are over: finding them, and taking their directories away. `retention` decides what is kept."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from air_executor import _files, ends, held, model, retention, spool, store, temporaries
from air_executor.errors import CorruptFileError, JobBusyError, NotFoundError
from air_executor.model import JobState
from air_executor.paths import Home
from air_executor.retention import Ended, Policy


def choose(home: Home, policy: Policy) -> list[Ended]:
    """The jobs that the policy does not keep."""
    now = time.time()
    return retention.choose(find(home, policy, now), policy, now)


def prune(home: Home, policy: Policy) -> Iterator[str]:
    """Remove what the policy does not keep, yielding the names of the jobs that went.

    Raises:
        OSError: the home refused.
    """
    for job in choose(home, policy):
        if remove(home, job):
            yield job.name


def prune_if_due(home: Home, policy: Policy, interval: float) -> Iterator[str]:
    """`prune`, unless another process of this home does it just now, or did within the last `interval` seconds."""
    lock = _files.Lock(home.prune_lock)
    done_at = _modified(home.prune_lock)
    if not lock.acquire():
        return
    try:
        if 0 <= time.time() - done_at < interval:  # the other way round somebody has set the clock back
            return
        yield from prune(home, policy)
        os.utime(home.prune_lock)
    finally:
        lock.release()


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def find(home: Home, policy: Policy, now: float) -> Iterator[Ended]:
    """The jobs that are over and that the policy may not keep.

    A directory's time is no earlier than its job's end: of one that changed lately nothing needs to be read for limits
    of age. And where there are no more jobs than may be kept, their number needs no look at all.
    """
    changes: Iterable[tuple[float, str]] = store.changes(home)
    counted = policy.max_bytes is not None
    if policy.keep is not None:  # else none are counted, and a runner need not remember all jobs at once
        changes = list(changes)
        counted = counted or len(changes) > policy.keep
    least = policy.least_age
    announced = set(spool.finished(home))
    for changed, name in changes:
        wanted = counted or (least is not None and now - changed > least)
        if wanted and (job := _look(home, name, policy, name in announced)):
            yield job


def _look(home: Home, name: str, policy: Policy, announced: bool) -> Ended | None:
    try:
        job = store.read(home, name)
    except (NotFoundError, CorruptFileError):  # what became of a damaged one is not known before it is repaired
        return None
    if not job.state.terminal:
        return None
    size = 0 if policy.max_bytes is None else size_of(home.job(name).root)
    return Ended(name, _ended(job), job.state is JobState.COMPLETED, size, announced)


def _ended(job: model.Job) -> float:
    return model.parse_time(job.finished_at or job.updated_at).timestamp()


def size_of(directory: Path) -> int:
    """Bytes of all files below a directory."""
    total = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += size_of(directory / entry.name)
            else:
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def remove(home: Home, chosen: Ended) -> bool:
    """Remove a job, unless somebody holds it or it began anew since it was looked at; whether it is gone.

    Under the lock, so that no new attempt can begin meanwhile; by rename first, so that no half job is seen.
    """
    paths = home.job(chosen.name)
    if not paths.root.is_dir():  # before the lock file is created
        return False
    try:
        lock = held.lock_job(home, chosen.name)
    except (JobBusyError, NotFoundError):
        return False
    try:
        if not _is_as_chosen(home, chosen):
            return False
        doomed = temporaries.removal(home.jobs)
        paths.root.rename(doomed)
        spool.collect_finished(home, chosen.name)
        ends.stop_awaiting(home, chosen.name)  # whoever waits for it looks, and sees that it is gone
        shutil.rmtree(doomed, ignore_errors=True)
        return True
    except FileNotFoundError:  # somebody else prunes, too
        return False
    finally:
        lock.release()


def _is_as_chosen(home: Home, chosen: Ended) -> bool:
    try:
        job = store.read(home, chosen.name)
    except (NotFoundError, CorruptFileError):
        return False
    announced = (home.finished / chosen.name).exists()  # then somebody waits for the answer who has not had it yet
    return job.state.terminal and _ended(job) == chosen.ended and announced <= chosen.announced
