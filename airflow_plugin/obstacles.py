"""Why jobs in some queues do not start, for those who wait for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from air_executor import pauses, runners, spool
from air_executor.paths import Home
from air_executor.sightings import Sightings
from airflow_plugin.ledger import Entry, Ledger


class Stuck(NamedTuple):
    """Jobs of an executor that wait in vain in a queue."""

    queue: str
    why: str
    """And what to do."""
    entries: list[Entry]


def find_stuck(home: Home, ledger: Ledger, seen: Sightings) -> Iterator[Stuck]:
    """The jobs of an executor that wait in vain."""
    for queue, why in find(home, ledger.queues, seen).items():
        waiting = {marker.job for marker in spool.waiting(home, queue)}
        entries = [entry for entry in ledger if entry.queue == queue and entry.name in waiting]
        if entries:
            yield Stuck(queue, why, entries)


def find(home: Home, queues: Sequence[str], seen: Sightings) -> dict[str, str]:
    """For each of these queues whose jobs wait in vain: why, and what to do."""
    unserved = {queue: _advise(home, queue) for queue in runners.unserved(home, queues, seen)}
    paused = {queue: why for queue in queues if (why := pauses.describe(home, queue))}
    return unserved | paused


def _advise(home: Home, queue: str) -> str:
    start = runners.start_command(home, queue)
    return (
        f"no living runner serves the queue {queue!r}: add it to [air_executor] queues, or start a runner with"
        f" Airflow's environment (AIRFLOW_HOME and the like): {start}"
    )


def served(home: Home, ledger: Ledger, seen: Sightings) -> list[str]:
    """The queues of an executor's jobs in which they wait for their turn, and for nothing else."""
    queues = ledger.queues
    idle = {*runners.unserved(home, queues, seen), *pauses.names(home)}
    return [queue for queue in queues if queue not in idle]
