"""Which jobs are meant: values that somebody gave, checked, and SQL with question marks in their places."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from air_executor import model

MAX_CHOICES = 200
"""How many queues, triggers or labels one filter may name."""
MAX_DAGS = 200_000
MAX_TEXT = 500
MAX_VALUE = 10_000
"""Characters of a label's value, or any other name."""
_FEW = 50
"""Up to so many values stand in the query itself; more are in a table of the connection."""
MAX_TIME = 1e12
_STATES = tuple(state.value for state in model.JobState)


@dataclass(frozen=True)
class Filter:
    """Jobs that fit all of it; what is left empty does not matter.

    Raises:
        ValueError: a value is of the wrong kind, too long, or no state; the message says which.
    """

    states: Collection[str] = ()
    queues: Collection[str] = ()
    triggers: Collection[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    """All of these, with these values."""
    text: str = ""
    """In the name, the id or the reason of the exit; capital letters do not matter."""
    since: float | None = None
    """Created at this time or later, seconds since the epoch."""
    until: float | None = None
    """Created before this time."""
    dags: Collection[str] | None = None
    """Only jobs with one of these as their label `dag_id`: what somebody may see. None is no restriction, and an empty
    collection admits none."""
    without_dag: bool = False
    """Whether `dags`, if given, also admits jobs that have no label `dag_id`."""
    of_nobody: bool = True
    """Whether jobs are admitted that are damaged so that no label is left, which may have had any."""

    def __post_init__(self) -> None:
        for what in ("states", "queues", "triggers"):
            _check_texts(what, getattr(self, what), MAX_CHOICES)
        if unknown := [state for state in self.states if state not in _STATES]:
            raise ValueError(f"{unknown[0]!r:.60} is not a state; states are {', '.join(_STATES)}")
        if not isinstance(self.labels, Mapping) or len(self.labels) > MAX_CHOICES:
            raise ValueError(f"labels map at most {MAX_CHOICES} names to values")
        _check_texts("labels", [*self.labels.keys(), *self.labels.values()], 2 * MAX_CHOICES)
        if not isinstance(self.text, str) or len(self.text) > MAX_TEXT:
            raise ValueError(f"a text to look for has at most {MAX_TEXT} characters")
        if self.dags is not None:
            _check_texts("dags", self.dags, MAX_DAGS)
        for what in ("since", "until"):
            if (moment := getattr(self, what)) is not None:
                check_time(what, moment)


def _check_texts(what: str, values: object, most: int) -> None:
    if isinstance(values, (str, bytes)) or not isinstance(values, Collection):
        raise ValueError(f"{what} is a list of texts, not {type(values).__name__}")
    if len(values) > most:
        raise ValueError(f"{what} has {len(values)} values; at most {most} are possible")
    if not all(isinstance(value, str) and len(value) <= MAX_VALUE for value in values):
        raise ValueError(f"{what} holds texts of at most {MAX_VALUE} characters")


def check_time(what: str, moment: object) -> float:
    """A time as a number.

    Raises:
        ValueError: it is none.
    """
    valid = isinstance(moment, (int, float)) and not isinstance(moment, bool) and math.isfinite(moment)
    if not valid or not abs(moment) <= MAX_TIME:  # type: ignore[arg-type]
        raise ValueError(f"{what} is a time in seconds since the epoch, not {moment!r:.40}")
    return float(moment)  # type: ignore[arg-type]


def storable(text: str) -> str:
    """The text as SQLite can take it: half a character, which a name of a file may hold, is written out."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


EVERYTHING = Filter()


class Condition:
    """SQL for `WHERE`, and its values."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.values: list[Any] = []

    @property
    def sql(self) -> str:
        return " AND ".join(self._parts) or "1"

    def add(self, part: str, *values: Any) -> None:
        """One more part that must hold."""
        self._parts.append(part)
        self.values += values

    def add_choice(self, column: str, values: Collection[str]) -> None:
        """The column has one of the values; nothing is added if there are none."""
        if values:
            self.add(f"{column} IN ({marks(values)})", *map(storable, values))


def marks(values: Collection[object]) -> str:
    """The places of so many values in SQL."""
    return ",".join("?" * len(values))


def condition(connection: sqlite3.Connection, chosen: Filter) -> Condition:
    """What the filter comes to on this connection, on which it may have to leave the many values that it has."""
    found = Condition()
    found.add_choice("state", chosen.states)
    found.add_choice("queue", chosen.queues)
    found.add_choice("trigger", chosen.triggers)
    for name, value in chosen.labels.items():
        if name == "dag_id":
            found.add("dag_id = ?", storable(value))
        else:
            found.add("id IN (SELECT job FROM label WHERE name = ? AND value = ?)", storable(name), storable(value))
    if chosen.since is not None:
        found.add("created >= ?", chosen.since)
    if chosen.until is not None:
        found.add("created < ?", chosen.until)
    if chosen.text:
        found.add(
            r"(name LIKE ? ESCAPE '\' OR job_id LIKE ? ESCAPE '\' OR reason LIKE ? ESCAPE '\')",
            *[_like(chosen.text)] * 3,
        )
    if chosen.dags is not None:
        _restrict(connection, found, chosen.dags, chosen.without_dag)
    if not chosen.of_nobody:
        # One that is damaged while it runs has no exit yet.
        found.add("NOT (labels = '{}' AND (damaged OR exit_kind IS ?))", model.ExitKind.DAMAGED.value)
    return found


def _like(text: str) -> str:
    escaped = storable(text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _restrict(connection: sqlite3.Connection, found: Condition, dags: Collection[str], without_dag: bool) -> None:
    """Rights of access: a part of its own, which no other can widen."""
    beside = " OR dag_id IS NULL" if without_dag else ""
    if len(dags) <= _FEW:
        found.add(f"(dag_id IN ({marks(dags)}){beside})", *map(storable, dags))
    else:
        _leave(connection, dags)
        found.add(f"(+dag_id IN (SELECT dag FROM temp.allowed){beside})")


def _leave(connection: sqlite3.Connection, dags: Iterable[str]) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS temp.allowed (dag TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.execute("DELETE FROM temp.allowed")
    connection.executemany("INSERT OR IGNORE INTO temp.allowed VALUES (?)", ((storable(dag),) for dag in dags))
