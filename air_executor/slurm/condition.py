"""How a runner and Slurm get on: `slurm/runners/<runner id>.json`, for `status`, `doctor` and pages.

Written by the runner whenever something has changed, and removed when it ends. For people: nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from air_executor import _files, model, validation
from air_executor.errors import CorruptFileError
from air_executor.paths import Home

SUFFIX = ".json"


@dataclass(frozen=True)
class Refusal:
    """A job or a pilot that could not be submitted, or not be started."""

    at: str
    job: str
    queue: str
    why: str


@dataclass(frozen=True)
class Pilot:
    """A pilot allocation."""

    name: str
    queue: str
    id: str | None
    state: str
    node: str | None = None
    reason: str | None = None
    """Why it waits in Slurm."""


@dataclass(frozen=True)
class Failing:
    """A queue whose last pilots, one after another, have run nothing."""

    queue: str
    failures: int
    """Tries, of which those that were made together count once."""
    why: str
    """That of the last."""
    since: str
    refused: bool = False
    """Whether Slurm did not take the last one at all."""


@dataclass(frozen=True)
class Condition:
    """What a runner last heard of Slurm."""

    runner: str
    at: str
    answered_at: str | None = None
    """When Slurm last answered; None if it never did."""
    trouble: str | None = None
    """What it says instead of an answer."""
    trouble_since: str | None = None
    to_submit: int = 0
    """Jobs that are to be submitted."""
    unsure: int = 0
    """Jobs that were submitted without an answer: whether Slurm has them, its next answer tells."""
    held_on: int = 0
    """Jobs that are over for Slurm, while a process still holds them."""
    states: dict[str, int] = field(default_factory=dict)
    """Jobs in Slurm, by state."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Jobs and pilots that wait there, by what for."""
    refusals: tuple[Refusal, ...] = ()
    """The last few."""
    refused: int = 0
    """How many there were in all."""
    pilots: tuple[Pilot, ...] = ()
    polls: int = 0
    """How often Slurm was asked for all jobs."""
    failing: tuple[Failing, ...] = ()
    limits: dict[str, int] = field(default_factory=dict)
    """Those of `to_submit` that Slurm does not take for now, by what it says."""


def write(home: Home, condition: Condition) -> None:
    """Write it whole.

    Raises:
        OSError: the home refused.
    """
    _files.make_directory(home.slurm_conditions)
    content: dict[str, Any] = {"schema": model.SCHEMA, **asdict(condition)}
    _files.replace_object(home.slurm_condition(condition.runner), content)


def remove(home: Home, runner_id: str) -> None:
    """The runner has ended."""
    _files.discard(home.slurm_condition(runner_id))


def read_all(home: Home) -> Iterator[Condition]:
    """Those of all runners that use Slurm, or did when they were killed; what cannot be read is passed over."""
    try:
        names = sorted(path.name.removesuffix(SUFFIX) for path in home.slurm_conditions.glob(f"*{SUFFIX}"))
    except OSError:
        return
    for name in names:
        if validation.is_name(name) and (found := read(home, name)) is not None:
            yield found


def read(home: Home, runner_id: str) -> Condition | None:
    """That of a runner; None if it does not use Slurm, or what it wrote cannot be read."""
    try:
        content = _files.read_object(home.slurm_condition(runner_id))
        values = _pick(Condition, content)
        values["refusals"] = tuple(Refusal(**_pick(Refusal, entry)) for entry in values.get("refusals", ()))
        values["pilots"] = tuple(Pilot(**_pick(Pilot, entry)) for entry in values.get("pilots", ()))
        values["failing"] = tuple(Failing(**_pick(Failing, entry)) for entry in values.get("failing", ()))
        found = Condition(**{**values, "runner": runner_id})
        return found if _is_sound(found) else None
    except (OSError, CorruptFileError, TypeError, AttributeError):
        return None


def _is_sound(found: Condition) -> bool:
    """Whether a program can work with it."""
    counts = (found.to_submit, found.unsure, found.held_on, found.polls, found.refused)
    tables = (found.states, found.reasons, found.limits)
    if not all(isinstance(table, dict) for table in tables):
        return False
    numbers = [*counts, *(count for table in tables for count in table.values())]
    numbers += [each.failures for each in found.failing]
    said = [found.at, found.answered_at, found.trouble, found.trouble_since]
    said += [value for each in (*found.refusals, *found.pilots, *found.failing) for value in vars(each).values()]
    return all(isinstance(number, int) for number in numbers) and all(
        isinstance(value, (str, int, type(None))) for value in said
    )


def _pick(kind: type, content: dict[str, Any]) -> dict[str, Any]:
    """What is known here of what a version wrote that may be newer."""
    return {item.name: content[item.name] for item in fields(kind) if item.name in content}
