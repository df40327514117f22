"""Jobs whose runner or ephemeral runner died: which go on, which are brought to rest, which are left alone.

A claim whose holder is dead is taken over by rename, as a waiting marker is claimed. A job whose lock is held may still
be alive and is never given to another.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from air_executor import _files, model, processes, repair, runners, spool, store
from air_executor.errors import AirExecutorError, CorruptFileError, NotFoundError
from air_executor.paths import Home
from air_executor.sightings import Sightings
from air_executor.slurm import pilots, record
from air_runner import ours, supervise
from air_runner.slurm.contact import Contact

log = logging.getLogger(__name__)


class Fate(enum.Enum):
    """What becomes of a claimed job that nobody watches."""

    ADOPT = "adopt"
    RESOLVE = "resolve"
    LEAVE = "leave"


@dataclass(frozen=True)
class Adopted:
    """A job whose ephemeral runner lives on this host, to be watched from now on."""

    job: model.Job
    process: model.Process


def decide(*, alive: bool | None, locked: bool) -> Fate:
    """Pure.

    Args:
        alive: whether the ephemeral runner that the job names lives; None if it is not named or on another host.
        locked: whether somebody holds the job's lock.
    """
    if alive:
        return Fate.ADOPT
    return Fate.LEAVE if locked else Fate.RESOLVE


@dataclass(frozen=True)
class Submitted:
    """A job that is in Slurm, or goes there."""

    job: str


def recover(
    home: Home,
    runner_id: str,
    watched: Collection[str],
    seen: Sightings,
    cluster: Contact | None = None,
    *,
    others: bool = True,
) -> Iterator[Adopted | Submitted | str]:
    """Go through the claims of dead runners and those of ours that we do not watch.

    Args:
        watched: the jobs that this runner knows to be running.
        seen: what this runner has seen of the others.
        cluster: the one who sees to jobs in Slurm. Those of others are left to a runner that can ask Slurm.
        others: whether to see to other runners at all.

    Yields:
        Jobs to watch from now on, and the names of jobs that were brought to rest.
    """
    if others:
        _take_over(home, runner_id, seen, cluster)
    for name in spool.claimed(home, runner_id):
        if name not in watched:
            try:
                if cluster is not None and cluster.owns(name):
                    yield Submitted(name)
                else:
                    yield from _recover_one(home, runner_id, name, seen)
            except (OSError, AirExecutorError) as error:  # a job that cannot be looked at must not hide the others
                log.error("cannot recover %s: %s; trying again", name, error)
    if others:
        runners.forget_dead(home, seen)  # last: what is known of a dead runner is part of the reasons above


def _take_over(home: Home, runner_id: str, seen: Sightings, cluster: Contact | None) -> None:
    """Have the claims of the dead, but for jobs in Slurm if it cannot be asked here, and for what may be explained."""
    abandoned = list(repair.abandoned_claims(home, seen))
    can_ask = bool(abandoned) and cluster is not None and cluster.can_ask
    for holder, name in abandoned:
        if record.exists(home.job(name)) and not can_ask:
            continue
        if pilots.awaits_word(home, holder, seen.dead_for(holder)):
            continue
        spool.take_over(home, name, holder, runner_id)
        spool.remove_holder(home, holder)  # which is gone; when this was the last of its claims


def _recover_one(home: Home, runner_id: str, name: str, seen: Sightings) -> Iterator[Adopted | str]:
    job, process = None, None
    try:
        job = store.read(home, name)
        process = job.runner if not job.state.terminal else None
    except (NotFoundError, CorruptFileError, ValueError):
        process = None
    alive = processes.is_alive(process) if process is not None else None
    if process is not None and alive is False and processes.is_local(process):
        supervise.kill_recorded_remnants(home, name, process)  # they may hold the lock, too
    if process is not None and alive and ours.has_job(process.pid, name) is False:
        alive = None  # the file is damaged: it names a process that is somebody else's, which nobody may stop
    fate = decide(alive=alive, locked=_files.is_locked(home.job(name).lock))
    if fate is Fate.ADOPT and job is not None and process is not None:
        yield Adopted(job, process)
    elif fate is Fate.RESOLVE:
        repair.resolve(home, name, describe_loss(home, process, seen), by=f"runner {runner_id}", holder=runner_id)
        yield name


def describe_loss(home: Home, process: model.Process | None, seen: Sightings) -> str:
    """What is known of the end of an ephemeral runner that nobody saw die."""
    if process is None:
        return "its runner died before it started"
    if why := pilots.describe_end(home, process.runner or ""):
        return why
    text = f"its ephemeral runner (pid {process.pid} on {process.host}) is gone"
    if process.host == processes.host() and process.boot_id != processes.boot_id():
        return f"{text}: the host was restarted"
    beat = seen.last_beat(process.runner or "")
    return text if beat is None else f"{text}; its runner {process.runner} was last seen at {beat}"
