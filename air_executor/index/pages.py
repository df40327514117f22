"""Jobs newest first, page by page; counts; what there is to choose from."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from air_executor import model
from air_executor.index import filters
from air_executor.index.filters import Filter
from air_executor.index.rows import COLUMNS, JobRow

MAX_LIMIT = 1000
_MAX_FACETS = 1000


@dataclass(frozen=True)
class Page:
    """Some jobs, the one that was created last first."""

    jobs: list[JobRow]
    next_key: str | None
    """What to ask for the next page with; None if there is none."""


@dataclass(frozen=True)
class Facets:
    """What jobs differ by, sorted; at most a thousand of each."""

    queues: list[str]
    triggers: list[str]


def page(connection: sqlite3.Connection, filter: Filter, limit: int, before_key: str | None) -> Page:
    """The newest jobs that fit.

    The key is time and name of the last job: pages neither repeat nor miss a job when others come or go meanwhile.

    Raises:
        ValueError: the limit or the key.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"a page has from 1 to {MAX_LIMIT} jobs, not {limit!r:.40}")
    found = filters.condition(connection, filter)
    if before_key is not None:
        found.add("(created, name) < (?, ?)", *_parse(before_key))
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM job WHERE {found.sql} ORDER BY created DESC, name DESC LIMIT ?",
        (*found.values, limit + 1),
    ).fetchall()
    jobs = [JobRow._make(row) for row in rows[:limit]]
    return Page(jobs, _key(jobs[-1]) if len(rows) > limit else None)


def _key(job: JobRow) -> str:
    return f"{job.created!r}~{job.name}"


def _parse(key: str) -> tuple[float, str]:
    created, separator, name = key.partition("~") if isinstance(key, str) else ("", "", "")
    try:
        if not separator:
            raise ValueError
        return filters.check_time("the key", float(created)), filters.storable(name)
    except ValueError:
        raise ValueError(f"{key!r:.60} is not the key of a page; take it from the page before") from None


def count(connection: sqlite3.Connection, filter: Filter) -> dict[str, int]:
    """How many jobs fit, by state."""
    found = filters.condition(connection, filter)
    counts = connection.execute(f"SELECT state, count(*) FROM job WHERE {found.sql} GROUP BY state", found.values)
    return dict.fromkeys((state.value for state in model.JobState), 0) | dict(counts.fetchall())


def facets(connection: sqlite3.Connection, filter: Filter) -> Facets:
    """The queues and triggers of the jobs that fit."""

    found = filters.condition(connection, filter)
    pairs = connection.execute(f"SELECT DISTINCT queue, trigger FROM job WHERE {found.sql}", found.values).fetchall()
    queues, triggers = sorted({queue for queue, _ in pairs}), sorted({trigger for _, trigger in pairs})
    return Facets(queues[:_MAX_FACETS], triggers[:_MAX_FACETS])
