"""Why jobs in some queues do not start, for those who wait for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from air_executor import model, pauses, runners, spool, store
from air_executor.errors import AirExecutorError
from air_executor.paths import Home
from air_executor.sightings import Sightings
from air_executor.slurm import condition, failing, record, standing, states
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


def find_stuck_in_slurm(home: Home, ledger: Ledger) -> Iterator[tuple[Entry, str]]:
    """The jobs of an executor that Slurm has and will not start unless somebody does something; each is told once.

    Only where a runner noted that there are some are jobs read.
    """
    for each in condition.read_all(home):
        if any(states.explain(reason).stuck for reason in each.reasons):
            known = (ledger.get(name) for name in spool.claimed(home, each.runner))
            for entry in filter(None, known):
                if not entry.stuck and (why := _stuck_in_slurm(home, entry.name)):
                    yield entry, why


def find_unanswered(home: Home, ledger: Ledger) -> Iterator[tuple[Entry, str]]:
    """The jobs of an executor that wait for a Slurm that does not answer; each is told once in every outage."""
    for each in condition.read_all(home):
        if (why := standing.away(each)) is None:
            continue
        for entry in filter(None, (ledger.get(name) for name in spool.claimed(home, each.runner))):
            if entry.outage != (outage := each.trouble_since or ""):
                entry.outage = outage
                if _waits(home, entry.name):
                    yield entry, why


def _waits(home: Home, name: str) -> bool:
    try:
        return store.read(home, name).state is model.JobState.WAITING
    except (AirExecutorError, OSError):  # it is over, or damaged: others tell of that
        return False


def find_without_pilots(home: Home, ledger: Ledger, seen: Sightings) -> Iterator[tuple[Entry, str]]:
    """The jobs of an executor that wait for pilots which come to nothing, again and again; each is told once."""
    said = {each.runner: each.failing for each in condition.read_all(home)}
    if not any(said.values()):
        return
    found = failing.find(said, runners.alive_runners(home, seen))
    for queue in set(found) - pauses.names(home):
        waiting = {marker.job for marker in spool.waiting(home, queue)}
        for entry in ledger:
            if entry.queue == queue and entry.name in waiting and not entry.stuck:
                yield entry, failing.explain(home, found[queue])


def _stuck_in_slurm(home: Home, name: str) -> str | None:
    try:
        job = store.read(home, name)
        found = standing.of_job(job, record.read(home.job(name), job.attempt))
    except (AirExecutorError, OSError):  # it is over, or is looked at again
        return None
    return standing.waits(found, job) if found is not None and found.stuck else None


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
