"""What groups of jobs used: how often they ran, how long they waited and took, their memory."""

from __future__ import annotations

import json
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
    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """Of those that are known; None if none is."""
        known = sorted(value for value in values if value is not None)
        if not known:
            return None
        return cls(len(known), percentile(known, 50), percentile(known, 95), known[-1])


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
    """As `wall`, of those that completed: what limits follow from."""
    completed_peak: Spread | None


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
        f" coalesce(max_tree_rss, max_rss)) FROM job WHERE {found.sql}",
        found.values,
    ):
        own = {"queue": queue, "trigger": trigger, "name": name}
        known: dict[str, str] = json.loads(labels) if any(key not in own for key in by) else {}
        groups[tuple(own[key] if key in own else known.get(key) for key in by)].append(tuple(facts))
    return [_group(key, runs) for key, runs in groups.items()]


def _group(key: tuple[str | None, ...], runs: list[tuple[Any, ...]]) -> Group:
    states, waits, walls, cpus, peaks = zip(*runs, strict=True)
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
    )
