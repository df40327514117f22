"""An index of the jobs of a home: what filters, pages and charts need, in one SQLite file of each host.

It is a cache of what the job directories say, made and kept by those who look (the API server, `air-executor usage`),
never by those who submit or run jobs, and needed by nobody: deleted or damaged, it is made anew; where the home cannot
be written, it is in memory. Being a cache, it may lag: `looking` says what is seen when.

::

    index = Index(home)
    progress = index.refresh()                       about once a second while somebody looks
    page = index.page(Filter(states=["failed"]), limit=50)
    older = index.page(Filter(states=["failed"]), limit=50, before_key=page.next_key)

=============  ========================================================
`filters`      which jobs are meant, as values and as SQL
`rows`         what is kept of a job
`files`        the file: its tables, opening it, whose it is
`database`     damage, several readers, the way out into memory
`looking`      when to look at which directories
`reading`      looking at a job, and keeping what it says
`pages`        jobs newest first, counts, what there is to choose from
`history`      what ended when, how long it took, why it failed
`consumption`  what groups of jobs used
=============  ========================================================
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from air_executor.index import consumption, history, pages
from air_executor.index.consumption import Group, Spread
from air_executor.index.database import Database
from air_executor.index.files import Unusable
from air_executor.index.filters import EVERYTHING, Filter
from air_executor.index.history import History, Step, Times
from air_executor.index.looking import Looker, Progress
from air_executor.index.pages import Facets, Page
from air_executor.index.rows import JobRow
from air_executor.paths import Home

__all__ = [
    "EVERYTHING",
    "Facets",
    "Filter",
    "Group",
    "History",
    "Index",
    "JobRow",
    "Page",
    "Progress",
    "Spread",
    "Step",
    "Times",
]

DEFAULT_BUDGET = 0.25
"""Seconds that one refresh may read jobs for."""

_TRIES = 5

T = TypeVar("T")


class Index:
    """The jobs of a home, to be asked by any thread. Making one costs nothing; the file is opened when it is needed.

    Every question may raise `ValueError` for a limit, a time or a key that makes no sense.
    """

    def __init__(self, home: Home) -> None:
        self._database = Database(home)
        self._looker = Looker(home, self._database)
        self._mending = threading.Lock()

    def refresh(self, budget_seconds: float = DEFAULT_BUDGET) -> Progress:
        """Look at what is new or has changed, and read that for at most so many seconds, the newest first.

        If another thread or process does so just now, nothing is done.

        Returns:
            How many jobs are still unread: call it again until there are none.
        """
        if not 0 < budget_seconds < 3600:
            raise ValueError(f"a budget is more than 0 and less than 3600 seconds, not {budget_seconds!r:.40}")
        return self._safely(lambda: self._looker.refresh(budget_seconds))

    def catch_up(self) -> None:
        """Look at every job, and read all that is new or has changed, however long that takes.

        Afterwards the index says what the directories said when this was called, or later.
        """
        self._safely(self._looker.catch_up)

    def page(self, filter: Filter = EVERYTHING, limit: int = 50, before_key: str | None = None) -> Page:
        """The newest jobs that fit; those that are older than a key, which the page before has as its `next_key`."""
        return self._ask(lambda c: pages.page(c, filter, limit, before_key))

    def count(self, filter: Filter = EVERYTHING) -> dict[str, int]:
        """How many jobs fit, by state: each state is there."""
        return self._ask(lambda c: pages.count(c, filter))

    def facets(self, filter: Filter = EVERYTHING) -> Facets:
        """The queues and triggers that jobs which fit have."""
        return self._ask(lambda c: pages.facets(c, filter))

    def history(self, filter: Filter, since: float, until: float, step: float) -> History:
        """What ended from `since` until `until`, in steps of so many seconds, and why it failed."""
        return self._ask(lambda c: history.history(c, filter, since, until, step))

    def usage(self, by: Sequence[str], filter: Filter = EVERYTHING) -> list[Group]:
        """What jobs that are over used, in groups that have the same labels, queue, trigger or name, in no order."""
        return self._ask(lambda c: consumption.usage(c, by, filter))

    def labels(self) -> list[str]:
        """The names of the labels that jobs have, at most a hundred."""
        return self._ask(consumption.labels)

    @property
    def in_memory(self) -> bool:
        """Whether there is no file, because the home or its filesystem refused one. Known once something was asked."""
        return self._database.in_memory

    def close(self) -> None:
        """Close the file. It is opened again if something is asked."""
        self._database.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        def answer() -> T:
            with self._database.reading() as connection:
                return question(connection)

        return self._safely(answer)

    def _safely(self, work: Callable[[], T]) -> T:
        """Do something with the file; with another one if it is damaged, and in memory if that does not help."""
        for attempt in range(_TRIES):
            generation = self._database.generation
            try:
                if attempt:  # in a file that is new, what is newest should be there
                    self._looker.refresh(DEFAULT_BUDGET)
                return work()
            except Unusable as error:
                if attempt == _TRIES - 1:
                    raise
                with self._mending:  # of several threads one mends it
                    if self._database.generation == generation:
                        self._database.replace(error)
        raise AssertionError
