"""Which jobs are kept and which are removed: pure decisions on plain data. The files are the business of `pruning`.

A job goes when it ended too long ago; then, while there are more or larger ones than allowed, the one that ended first
goes: completed ones before failed and cancelled ones, because people come back to those.

A job whose end is announced and not collected stays for `UNCOLLECTED_TIME`, whatever the limits say: a scheduler that
is down will want its result. A deferred task's job may go while the task waits for its trigger: Airflow has what it
said, and the next run of the try gets a new directory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

UNCOLLECTED_TIME = 30 * 86_400.0
"""Seconds after its end in which a job is not removed while somebody may still want its result."""


@dataclass(frozen=True)
class Policy:
    """What is kept. None: no limit."""

    completed_age: float | None = None
    """Seconds since their end, for completed jobs."""
    failed_age: float | None = None
    """The same for failed and cancelled ones."""
    keep: int | None = None
    """How many jobs that are over."""
    max_bytes: int | None = None
    """How much the directories of all jobs that are over may hold."""

    @property
    def limits_all(self) -> bool:
        """Whether all jobs that are over must be looked at, not only the old ones."""
        return self.keep is not None or self.max_bytes is not None

    @property
    def least_age(self) -> float | None:
        """The age below which no job is too old."""
        return min((age for age in (self.completed_age, self.failed_age) if age is not None), default=None)

    @property
    def limits_nothing(self) -> bool:
        """Whether everything is kept."""
        return self.least_age is None and not self.limits_all


@dataclass(frozen=True)
class Ended:
    """A job that is over."""

    name: str
    ended: float
    """Seconds since the epoch."""
    completed: bool
    size: int = 0
    """Bytes."""
    announced: bool = False
    """Whether its end was announced, and nobody has collected that."""


def choose(jobs: Iterable[Ended], policy: Policy, now: float) -> list[Ended]:
    """The jobs to remove, in the order in which they should go."""
    order = sorted(jobs, key=lambda job: (not job.completed, job.ended, job.name))
    removable = [job for job in order if not job.announced or now - job.ended > UNCOLLECTED_TIME]
    chosen = [job for job in removable if _is_too_old(job, policy, now)]
    number, size = len(order) - len(chosen), sum(job.size for job in order) - sum(job.size for job in chosen)
    old = set(chosen)
    for job in removable:
        if not _is_too_much(number, size, policy):
            break
        if job not in old:
            chosen.append(job)
            number, size = number - 1, size - job.size
    return chosen


def _is_too_old(job: Ended, policy: Policy, now: float) -> bool:
    limit = policy.completed_age if job.completed else policy.failed_age
    return limit is not None and now - job.ended > limit


def _is_too_much(number: int, size: int, policy: Policy) -> bool:
    too_many = policy.keep is not None and number > policy.keep
    return too_many or (policy.max_bytes is not None and size > policy.max_bytes)
