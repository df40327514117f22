"""What to do about a queue that no runner serves: in the same words for whoever submits, looks, or examines.

What is decided is pure (`for_queue`, `find_drained`); `find` and `find_airflow` look at a home.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from air_executor import audit, model, runners, spool, store
from air_executor.errors import AirExecutorError, CorruptFileError
from air_executor.paths import Home, command
from air_executor.sightings import Sightings

_PAST = {"drain": "drained", "stop": "stopped", "handover": "stopped", "abort": "stopped"}
_LOOKED_AT = 5
"""Jobs of a queue that are read to see whose they are."""


@dataclass(frozen=True)
class Drained:
    """A living runner that takes no jobs."""

    id: str
    queues: Sequence[str]
    told: str = ""
    """`drained by user ana@host: why`, if that is known."""
    ending: bool = False
    """It was asked to end, and does so after its last job."""


@dataclass(frozen=True)
class Remedy:
    """What keeps a queue from being served, and what to do."""

    why: str
    """To be put behind "no runner serves it"; may be empty."""
    advice: str
    """What the command in `fix` does."""
    fix: str


def for_queue(
    home: Home, queue: str | None, drained: Iterable[Drained], airflow: str | None, start: str | None = None
) -> Remedy:
    """What to do about a queue, or about all if it is None. Pure.

    Args:
        airflow: None where the home is no Airflow's; else its AIRFLOW_HOME, empty where that is not known.
        start: the command that starts what serves the default queue here, if it is not the usual one.
    """
    for each in drained:
        if not each.ending and queue in (None, *each.queues):
            why = f": the runner {each.id} is {each.told or 'drained'}"
            return Remedy(why, "let it take jobs again with", command(home, "runner", "resume", each.id))
    name = queue or "default"
    usual = runners.start_command(home, name)
    if name == "default" and start not in (None, usual):
        return Remedy("", "start one with", str(start))
    if airflow is None:
        return Remedy("", "start one with", usual)
    where = "AIRFLOW_HOME and the like" if not airflow else f"AIRFLOW_HOME={shlex.quote(airflow)}"
    needs = f"Airflow's tasks need a runner with Airflow's environment ({where}, as its scheduler has it)"
    if name != "default":
        needs += f", best by adding {name} to [air_executor] queues and restarting the scheduler"
    variable = f"AIRFLOW_HOME={shlex.quote(airflow)} " if airflow else ""
    return Remedy(f"; {needs}", "start one there with", variable + usual)


def find_drained(runner_id: str, queues: Sequence[str], events: Iterable[Mapping[str, Any]]) -> Drained:
    """Who let a draining runner take no more jobs, and whether it ends, by what was noted of it. Pure."""
    found = Drained(runner_id, queues)
    for event in events:
        what = str(event.get("what"))
        if event.get("runner") != runner_id:
            continue
        if what in _PAST:
            why = f": {event['why']}" if event.get("why") else ""
            told = f"{_PAST[what]} by {event.get('by', 'unknown')}{why}"
            found = Drained(runner_id, queues, told, ending=found.ending or what != "drain")
        elif what in ("resume", audit.STARTED):
            found = Drained(runner_id, queues)
    return found


def draining(home: Home, alive: Iterable[runners.RunnerInfo]) -> list[Drained]:
    """Of runners that live those that take no jobs."""
    found = []
    for info in alive:
        if info.draining:
            events: list[dict[str, Any]] = []
            with contextlib.suppress(CorruptFileError, OSError):
                if home.steering_log.exists():  # to read takes a lock, and who only looks leaves no file behind
                    events = audit.latest(home, runner=info.id)
            found.append(find_drained(info.id, info.queues, events))
    return found


def find(home: Home, queue: str) -> Remedy:
    """What to do about a queue that no runner serves."""
    alive = runners.alive_runners(home, Sightings(guess=True))
    return for_queue(home, queue, draining(home, alive), find_airflow(home, [queue]))


def describe(home: Home, queue: str) -> str | None:
    """Why a job of that queue waits in vain, in a sentence with what to do; None if a runner serves it."""
    if not runners.unserved(home, [queue]):
        return None
    remedy = find(home, queue)
    return f"no runner serves the queue {queue}{remedy.why}; {remedy.advice}: {remedy.fix}"


def find_airflow(home: Home, queues: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> str | None:
    """The AIRFLOW_HOME of the Airflow whose home this is; empty if that is not known, None if it is no Airflow's.

    Args:
        queues: in which jobs wait; where they are an executor's, an Airflow cannot do without a runner of its own.
    """
    beside = home.root.parent
    given = environ.get("AIRFLOW_HOME")
    for path in (beside, beside / ".airflow"):  # the second as start-dev.sh makes it
        if (path / "airflow.cfg").is_file() or (given and Path(given).expanduser().absolute() == path):
            return str(path)
    theirs = any(home.components.glob("*.json")) or any(_has_tasks(home, queue) for queue in queues)
    return "" if theirs else None


def _has_tasks(home: Home, queue: str) -> bool:
    """Whether an executor's jobs are among the first that wait there."""
    for marker in itertools.islice(spool.waiting(home, queue), _LOOKED_AT):
        with contextlib.suppress(AirExecutorError, OSError):
            if store.read(home, marker.job).trigger == model.Trigger.EXECUTOR.value:
                return True
    return False
