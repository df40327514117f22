"""Why jobs in some queues do not start, for those who wait for them."""

from __future__ import annotations

from collections.abc import Sequence

from air_executor import pauses, runners
from air_executor.paths import Home
from air_executor.sightings import Sightings


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
