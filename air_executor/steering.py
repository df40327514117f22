"""Changing what a running runner does, and which queues there are to be steered. Pausing is in `pauses`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from air_executor import orders, pauses, runners, settings, spool
from air_executor.errors import InvalidInputError, RunnerError
from air_executor.paths import Home, command
from air_executor.sightings import Sightings

LASTS = "until it ends; flags, environment and config.toml decide at its next start"
LASTS_EMBEDDED = "until the next start of a scheduler, which brings a runner with [air_executor] slots"


def check_changes(slots: Any, queues: Any) -> dict[str, Any]:
    """What shall be changed of a runner, checked as its flags are; empty if nothing shall. Pure.

    Raises:
        SettingsError: a value is malformed.
    """
    given = {key: value for key, value in (("slots", slots), ("queues", queues)) if value is not None}
    checked = settings.override(settings.RunnerSettings(), given, prefix="")
    return {key: getattr(checked, key) for key in given}


def set_runner(
    home: Home,
    runner_id: str,
    *,
    slots: int | str | None = None,
    queues: Sequence[str] | str | None = None,
    by: str | None = None,
    why: str = "",
    seen: Sightings | None = None,
) -> Mapping[str, Any]:
    """Let a living runner work with other slots, or serve other queues, until it ends; it does so at once.

    With fewer slots than jobs that run, these go on, and nothing starts until there is room. Jobs of a queue that it
    serves no longer wait on, for other runners.

    Args:
        by: who wants it; who runs this process if it is not given.

    Returns:
        What it was asked to change: `slots`, `queues`.

    Raises:
        InvalidInputError: a value is malformed, or there is none.
        NotFoundError: there is no such runner, or it is dead.
        RunnerError: it is Airflow's, and its queues are decided there.
        OSError: the home refused.
    """
    changes = check_changes(slots, queues)
    if not changes:
        raise InvalidInputError("give slots, queues, or both")
    if "queues" in changes:
        _refuse_embedded(home, runners.read(home, runner_id))
    runners.tell(home, runner_id, orders.SET, seen, by=by, why=why, changes=changes)
    return changes


def _refuse_embedded(home: Home, info: runners.RunnerInfo) -> None:
    """A scheduler starts another runner as soon as one of its queues is not served."""
    if info.embedded:
        raise RunnerError(
            f"the runner {info.id} belongs to Airflow's executor, which decides its queues: set [air_executor] queues"
            " and restart the scheduler, start another runner for other queues, or keep a queue's jobs waiting with:"
            f" {command(home, 'queue', 'pause', 'QUEUE')}"
        )


def how_long(info: runners.RunnerInfo) -> str:
    """How long what was set for a runner lasts."""
    return LASTS_EMBEDDED if info.embedded else LASTS


def known_queues(home: Home, alive: Iterable[runners.RunnerInfo]) -> list[str]:
    """The queues that ever had a job, that a living runner serves, or that are paused."""
    served = {queue for info in alive for queue in info.queues}
    return sorted({*spool.queues(home), *served, *pauses.names(home)})
