"""What an executor remembers: which jobs it waits for, which it is done with, which are not its own. No I/O."""

from __future__ import annotations

import itertools
import math
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_DONE = 10_000


@dataclass
class Entry:
    """A job that Airflow waits for."""

    name: str
    key: Any
    queue: str | None = None
    """None if it was adopted from a home that could not be read."""
    external_id: str | None = None
    subject: Any = None
    """Whom its token is for: the id of a task instance, a callback or a connection test."""
    log_path: str | None = None
    """Where Airflow has the log of its task; None if that is not known, or it is no task."""
    warned: bool = False
    """Whether somebody was told that nobody takes jobs from its queue."""
    stuck: bool = False
    """Whether somebody was told that Slurm does not start it."""
    outage: str | None = None
    """Since when Slurm did not answer, when it was last looked whether somebody is to be told."""
    announced: bool = False
    """Whether the success of its task is on its way to Airflow."""
    followed: bool = False
    """Whether something of its run was handed over since."""
    known: bool = False
    """Whether the scheduler was woken for its success already, and its end is no news any more."""
    since: float = field(default_factory=time.monotonic)
    """When it was handed over or adopted."""
    token_since: float = -math.inf
    """When its token was made, as far as that is known."""
    runs: bool = False
    """Whether Airflow says that its task runs, and so hears of everything itself."""


class Ledger:
    """The jobs of an executor, by name and by Airflow's key."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._names: dict[Any, str] = {}
        self._done: OrderedDict[str, str | None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    @property
    def queues(self) -> list[str]:
        """The queues of the jobs."""
        return sorted({entry.queue for entry in self._entries.values() if entry.queue})

    def add(self, entry: Entry) -> None:
        """Wait for a job."""
        self._done.pop(entry.name, None)
        self._entries[entry.name] = entry
        self._names[entry.key] = entry.name

    def get(self, name: str) -> Entry | None:
        """The entry of a job."""
        return self._entries.get(name)

    def find(self, key: Any) -> Entry | None:
        """The entry of a workload."""
        name = self._names.get(key)
        return None if name is None else self._entries.get(name)

    def close(self, entry: Entry) -> None:
        """Wait no more; an answer that comes late is for nobody."""
        if self._entries.pop(entry.name, None) is None:
            return
        self._names.pop(entry.key, None)
        self._done[entry.name] = entry.external_id
        while len(self._done) > MAX_DONE:
            self._done.popitem(last=False)

    def was_ours(self, name: str) -> bool:
        """Whether this executor has waited for a job of that name, and does not any more."""
        return name in self._done

    def is_done(self, name: str, external_id: str | None) -> bool:
        """Whether the end of this run of the job is known already, and not that of a run after it."""
        return name in self._done and self._done[name] in (None, external_id)

    def next_to_check(self, count: int) -> list[Entry]:
        """The entries that were not looked at for longest; they go to the end of the line."""
        names = list(itertools.islice(self._entries, count))
        for name in names:
            self._entries.move_to_end(name)
        return [self._entries[name] for name in names]


class Strangers:
    """Answers that nobody has taken yet, each with the moments at which to look at it."""

    LOOKS = (30.0, 120.0)
    """Seconds after an answer was first seen."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}

    def due(self, name: str, now: float) -> float | None:
        """How long an answer has been lying there, if it is time for another look."""
        since, looks = self._seen.setdefault(name, (now, 0))
        if looks == len(self.LOOKS) or now - since < self.LOOKS[looks]:
            return None
        self._seen[name] = since, looks + 1
        return now - since

    def keep_only(self, names: Collection[str]) -> None:
        """Forget those that somebody took."""
        for name in [name for name in self._seen if name not in names]:
            del self._seen[name]
