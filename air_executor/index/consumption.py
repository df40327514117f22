"""What groups of jobs used: how often they ran, how long they waited and took, their memory; and which limits would do.

A limit follows from the runs that completed, as one that failed may have used too much or ended early: from the largest
value that any of them had, with headroom, rounded up. Fewer than ten runs say too little.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from air_executor import model
from air_executor.index import filters
from air_executor.index.filters import Filter
from air_executor.index.history import percentile

MAX_KEYS = 8
_COLUMNS = ("queue", "trigger", "name")
"""What jobs can be grouped by beside their labels."""
_OVER = tuple(sorted(state.value for state in model.TERMINAL_JOB_STATES))


@dataclass(frozen=True)
class Spread:
    """Some values of one kind."""

    count: int
    total: float
    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """Of those that are known; None if none is."""
        known = sorted(value for value in values if value is not None)
        if not known:
            return None
        return cls(len(known), math.fsum(known), percentile(known, 50), percentile(known, 95), known[-1])


@dataclass(frozen=True)
class Group:
    """Jobs that are over and have the same values of what they are grouped by."""

    key: tuple[str | None, ...]
    """None where a job has no such label."""
    runs: int
    completed: int
    failed: int
    wait: Spread | None
    """Seconds from queue to start."""
    wall: Spread | None
    """Seconds from start to end."""
    cpu: Spread | None
    """Seconds of processor."""
    peak: Spread | None
    """MiB: the most memory that a run was seen with."""
    completed_wall: Spread | None
    """As `wall`, of those that completed."""
    completed_peak: Spread | None
    together: int
    """Of how many runs that completed it is known what their processes had together: those that had a limit. Of others
    only the largest process is."""

    @property
    def memory_mb(self) -> int | None:
        """A limit of memory that would do, MiB; None if too little is known."""
        return suggest(self.completed_peak, MEMORY_HEADROOM, _MEMORY_STEPS)

    @property
    def timeout(self) -> int | None:
        """A limit of time that would do, seconds; None if too little is known."""
        return suggest(self.completed_wall, TIME_HEADROOM, _TIME_STEPS)


MIN_RUNS = 10
MEMORY_HEADROOM = 1.5
TIME_HEADROOM = 3.0
"""More than of memory: the time of a job depends on what else runs."""
_MEMORY_STEPS = ((8192, 1024), (1024, 256), (0, 64))
"""Beyond so many MiB, rounded up to a multiple of so many."""
_TIME_STEPS = ((36_000, 3600), (3600, 600), (0, 60))


def suggest(spread: Spread | None, headroom: float, steps: Sequence[tuple[int, int]]) -> int | None:
    """The largest value with headroom, rounded up; None if there are too few. Pure."""
    if spread is None or spread.count < MIN_RUNS:
        return None
    wanted = max(1.0, spread.max * headroom)
    step = next(size for beyond, size in steps if wanted > beyond)
    return math.ceil(wanted / step) * step


def usage(connection: sqlite3.Connection, by: Sequence[str], filter: Filter) -> list[Group]:
    """What jobs that are over and fit used.

    Raises:
        ValueError: there is nothing to group by, or too much.
    """
    if isinstance(by, str) or not 1 <= len(by) <= MAX_KEYS or not all(isinstance(key, str) and key for key in by):
        raise ValueError(f"jobs are grouped by 1 to {MAX_KEYS} labels, or {', '.join(_COLUMNS)}")
    found = filters.condition(connection, filter)
    found.add(f"state IN ({filters.marks(_OVER)})", *_OVER)
    groups: dict[tuple[str | None, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for labels, queue, trigger, name, *facts in connection.execute(
        "SELECT labels, queue, trigger, name, state, wait, run, cpu, max(coalesce(max_rss, max_tree_rss),"
        f" coalesce(max_tree_rss, max_rss)), max_tree_rss FROM job WHERE {found.sql}",
        found.values,
    ):
        own = {"queue": queue, "trigger": trigger, "name": name}
        known: dict[str, str] = json.loads(labels) if any(key not in own for key in by) else {}
        groups[tuple(own[key] if key in own else known.get(key) for key in by)].append(tuple(facts))
    return [_group(key, runs) for key, runs in groups.items()]


def _group(key: tuple[str | None, ...], runs: list[tuple[Any, ...]]) -> Group:
    states, waits, walls, cpus, peaks, _ = zip(*runs, strict=True)
    good = [run for run in runs if run[0] == model.JobState.COMPLETED.value]
    return Group(
        key=key,
        runs=len(runs),
        completed=len(good),
        failed=states.count(model.JobState.FAILED.value),
        wait=Spread.of(waits),
        wall=Spread.of(walls),
        cpu=Spread.of(cpus),
        peak=Spread.of(peaks),
        completed_wall=Spread.of([run[2] for run in good]),
        completed_peak=Spread.of([run[4] for run in good]),
        together=sum(run[5] is not None for run in good),
    )


def labels(connection: sqlite3.Connection) -> list[str]:
    """The names of the labels that jobs have, at most a hundred."""
    return [name for (name,) in connection.execute("SELECT DISTINCT name FROM label ORDER BY 1 LIMIT 100")]
