"""What ended when: counts and times for charts, and why jobs failed."""

from __future__ import annotations

import math
import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from air_executor import model
from air_executor.index import filters
from air_executor.index.filters import Filter

MAX_STEPS = 2000
MAX_REASONS = 10
_REASONS_READ = 20_000
_REASON_LENGTH = 300
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_HEXADECIMAL = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b")


class Times(NamedTuple):
    """Seconds that so many per cent of the jobs took at most: times that jobs really had (nearest rank)."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Step:
    """What ended within some seconds."""

    start: float
    completed: int
    failed: int
    cancelled: int
    wait: Times | None
    """From queue to start, of those that started."""
    run: Times | None
    """From start to end, of those that started."""


@dataclass(frozen=True)
class History:
    """What ended from `since` until `until`."""

    since: float
    until: float
    step: float
    steps: list[Step]
    """All, also those in which nothing ended."""
    total: Step
    """All of them together."""
    failures: dict[str, int]
    """Failed jobs by the kind of their exit, the commonest first."""
    reasons: list[tuple[str, int]]
    """The commonest reasons of failed jobs, with `N` for each number."""


_Ended = tuple[str, float | None, float | None]
"""State, wait and run of a job."""


def history(connection: sqlite3.Connection, filter: Filter, since: float, until: float, step: float) -> History:
    """What jobs that fit came to.

    Raises:
        ValueError: times or step make no sense, or are too many steps.
    """
    since, until = filters.check_time("since", since), filters.check_time("until", until)
    if not until > since:
        raise ValueError("until must be after since")
    if not filters.check_time("step", step) >= 1:
        raise ValueError(f"a step is at least a second, not {step!r:.40}")
    number = math.ceil((until - since) / step)
    if number > MAX_STEPS:
        raise ValueError(f"{number} steps are too many; at most {MAX_STEPS} are possible")
    found = filters.condition(connection, filter)
    found.add("finished >= ?", since)
    found.add("finished < ?", until)
    ended = connection.execute(
        f"SELECT CAST((finished - ?) / ? AS INTEGER), state, wait, run FROM job WHERE {found.sql}",
        (since, step, *found.values),
    )
    groups: list[list[_Ended]] = [[] for _ in range(number)]
    for place, state, wait, run in ended:
        groups[place if place < number else -1].append((state, wait, run))
    return History(
        since,
        until,
        step,
        [_step(since + place * step, group) for place, group in enumerate(groups)],
        _step(since, [each for group in groups for each in group]),
        *_failures(connection, found),
    )


def _step(start: float, ended: Sequence[_Ended]) -> Step:
    states = Counter([state for state, _, _ in ended])
    return Step(
        start=start,
        completed=states[model.JobState.COMPLETED.value],
        failed=states[model.JobState.FAILED.value],
        cancelled=states[model.JobState.CANCELLED.value],
        wait=_times([wait for _, wait, _ in ended if wait is not None]),
        run=_times([run for _, _, run in ended if run is not None]),
    )


def _times(seconds: list[float]) -> Times | None:
    seconds.sort()
    return Times(*(percentile(seconds, part) for part in (50, 95, 99))) if seconds else None


def percentile(ordered: Sequence[float], part: int) -> float:
    """The smallest value that so many per cent of the values do not exceed. Pure; there must be a value."""
    return ordered[max(0, -(-len(ordered) * part // 100) - 1)]


def _failures(connection: sqlite3.Connection, found: filters.Condition) -> tuple[dict[str, int], list[tuple[str, int]]]:
    kinds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for kind, reason, count in connection.execute(
        "SELECT exit_kind, substr(reason, 1, ?), count(*) FROM job"
        f" WHERE {found.sql} AND state = ? GROUP BY 1, 2 LIMIT ?",
        (_REASON_LENGTH, *found.values, model.JobState.FAILED.value, _REASONS_READ),
    ):
        kinds[kind or "unknown"] += count
        reasons[normalise(reason or "")] += count
    return dict(kinds.most_common()), reasons.most_common(MAX_REASONS)


def normalise(reason: str) -> str:
    """A reason without what differs between two jobs that failed for the same one. Pure."""
    return _NUMBER.sub("N", _HEXADECIMAL.sub("N", reason))
