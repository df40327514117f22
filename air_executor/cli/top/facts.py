"""What is shown, as plain data: what one look found, and which jobs of it are wanted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from air_executor import model
from air_executor.health import Status

_RANKS = {"working": 0, "waiting": 1}


@dataclass(frozen=True)
class JobFacts:
    """A job in one row."""

    name: str
    state: str
    queue: str
    since: float
    """When it was queued, started or ended, whichever was last; seconds since the epoch."""
    took: float | None = None
    """Seconds from its start to its end; None until then."""
    runner: str = ""
    why: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state not in _RANKS


@dataclass(frozen=True)
class Details:
    """One job as a whole."""

    job: model.Job
    tasks: Sequence[model.Task] = ()
    events: Sequence[dict[str, Any]] = ()
    directory: str = ""
    waits: str = ""
    """Why it will not start now, if somebody wanted that."""
    slurm: str = ""
    """How it stands in Slurm, if it was submitted there."""
    problem: str = ""
    """Why there are no tasks: a damaged file."""


@dataclass(frozen=True)
class Log:
    """The end of what a job wrote so far."""

    job: str
    lines: Sequence[str] = ()
    state: str = ""
    cut: bool = False
    """Whether there is more before."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that one look found."""

    status: Status
    at: float = 0.0
    """When that was; 0 if there was no look yet."""
    live: Sequence[JobFacts] = ()
    """Working ones, and of those that wait the first; in their order."""
    over: Sequence[JobFacts] = ()
    """The newest that ended."""
    total: int = 0
    """How many jobs there are in all."""
    unread: int = 0
    """How many of them the index does not know yet."""
    details: Details | None = None
    log: Log | None = None
    trouble: str = ""
    """Why the last look was in vain; the rest is from the one before."""


@dataclass(frozen=True)
class Filter:
    """Which jobs are wanted."""

    state: str = ""
    queue: str = ""
    runner: str = ""
    words: tuple[str, ...] = field(default=())
    """Each is in the name or the reason; capital letters do not matter."""


EVERYTHING = Filter()


def parse_filter(text: str, state: str = "") -> Filter:
    """From what was typed: words, and `queue=`, `state=` and `runner=`, which are compared as a whole."""
    named: dict[str, str] = {"state": state}
    words = []
    for word in text.split():
        key, separator, value = word.partition("=")
        if separator and key in ("queue", "state", "runner"):
            named[key] = named.get(key) or value
        else:
            words.append(word.lower())
    return Filter(**named, words=tuple(words))


def fits(job: JobFacts, wanted: Filter) -> bool:
    """Whether a job is wanted."""
    given = ((wanted.state, job.state), (wanted.queue, job.queue), (wanted.runner, job.runner))
    if any(want and want != has for want, has in given):
        return False
    name, why = job.name.lower(), job.why.lower()
    return all(word in name or word in why for word in wanted.words)


def jobs_of(found: Snapshot, wanted: Filter) -> list[JobFacts]:
    """The jobs that are wanted: live ones first, then the newest that ended."""
    live = {job.name for job in found.live}
    return [job for job in (*found.live, *(each for each in found.over if each.name not in live)) if fits(job, wanted)]


def in_order(jobs: Iterable[JobFacts]) -> list[JobFacts]:
    """Live jobs as they are shown: the longest running first, then those that wait, as they were given."""
    found = list(jobs)
    working = sorted((job for job in found if job.state == "working"), key=lambda job: (job.since, job.name))
    return [*working, *(job for job in found if job.state != "working")]


def of_job(job: model.Job, runner: str = "") -> JobFacts:
    """A job as it is shown."""
    from air_executor.cli import listing

    moment = {"waiting": job.queued_at, "working": job.started_at}.get(job.state.value, job.finished_at)
    over = job.state.terminal
    return JobFacts(
        name=job.name,
        state=job.state.value,
        queue=job.queue,
        since=seconds(moment or job.updated_at),
        took=listing.took(job) if over else None,
        runner=runner or (job.runner.runner or "" if job.runner else ""),
        why=job.exit.reason if over and job.exit and job.state is not model.JobState.COMPLETED else "",
    )


def seconds(moment: str) -> float:
    """A time of a file in seconds since the epoch; 0 if it is none."""
    try:
        return model.parse_time(moment).timestamp()
    except ValueError:
        return 0.0
