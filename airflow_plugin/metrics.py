"""What an executor tells Airflow's own statistics, which go to StatsD or OpenTelemetry if that is configured.

Airflow's base class tells of open slots, queued and running tasks (`executor.*`); here is what it does not know. Where
no statistics are configured this costs next to nothing. A caller in the scheduler's loop guards each call.

In names there are only our own words; the queue is a tag, and of queues only so many have one of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import timedelta

# Not `airflow.sdk.observability.stats`: that is another copy with a state of its own, the one of tasks. This one is set
# up and used by the base class of executors.
from airflow.observability import stats

from air_executor import model
from air_executor.exposition import Names
from air_executor.runners import RunnerInfo

MAX_QUEUES = 100
"""Queues with a tag of their own."""

PREFIX = "air_executor"


class Metrics:
    """Tells them.

    Args:
        team: the team whose executor this is, if there are teams.
    """

    def __init__(self, team: str | None = None) -> None:
        self._tags = {} if team is None else {"team_name": team}
        self._names = Names(MAX_QUEUES)

    def submitted(self, queues: Iterable[str]) -> None:
        """Jobs were handed over, each to its queue."""
        for queue, count in Counter(map(self._names.label, queues)).items():
            stats.incr(f"{PREFIX}.submitted", count, tags={**self._tags, "queue": queue})

    def refused(self) -> None:
        """No job could be made of a workload; it failed."""
        self._count("refused")

    def postponed(self) -> None:
        """A job could not be handed over now."""
        self._count("postponed")

    def home_refused(self) -> None:
        """The home could not be used: nothing could be handed over."""
        self._count("home_refused")

    def adopted(self) -> None:
        """A task of another scheduler goes on under this one."""
        self._count("adopted")

    def ended(self, job: model.Job) -> None:
        """A job is over, and Airflow was told what that means."""
        kind = job.exit.kind.value if job.exit is not None else "unknown"
        tags = {**self._tags, "queue": self._names.label(job.queue)}
        stats.incr(f"{PREFIX}.ended.{job.state.value}.{kind}", tags=tags)
        if (waited := _between(job.queued_at, job.started_at)) is not None:
            stats.timing(f"{PREFIX}.wait_time", waited, tags=tags)
        if (ran := _between(job.started_at, job.finished_at)) is not None:
            stats.timing(f"{PREFIX}.run_time", ran, tags=tags)

    def runners(self, alive: Collection[RunnerInfo]) -> None:
        """What runners there are."""
        self._gauge("runners", len(alive))
        self._gauge("runner_slots", sum(info.slots for info in alive if not info.draining))
        self._gauge("runner_slots_in_use", sum(info.working for info in alive))

    def _count(self, name: str) -> None:
        stats.incr(f"{PREFIX}.{name}", tags=self._tags)

    def _gauge(self, name: str, value: float) -> None:
        stats.gauge(f"{PREFIX}.{name}", value, tags=self._tags)


def _between(start: str | None, end: str | None) -> timedelta | None:
    """The time between two moments of a job's file; None if one is not known. Pure."""
    try:
        return max(timedelta(0), model.parse_time(end or "") - model.parse_time(start or ""))
    except ValueError:
        return None
