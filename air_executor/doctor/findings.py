"""What a check found, and what may be done about it. Words only: nothing here looks at anything."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


class Level(str, enum.Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"

    __str__ = str.__str__


class Check(str, enum.Enum):
    """What is looked at; docs/operations.md has a row for each."""

    PYTHON = "python"
    ENVIRONMENT = "environment"
    HOME = "home"
    OWNER = "owner"
    PRIVACY = "privacy"
    PERMISSIONS = "permissions"
    SPACE = "space"
    INODES = "inodes"
    WRITE = "write"
    FILESYSTEM = "filesystem"
    RENAME = "rename"
    LOCKS = "locks"
    WATCHING = "watching"
    CLOCKS = "clocks"
    SETTINGS = "settings"
    LEFTOVERS = "leftovers"
    DAMAGED = "damaged"
    SPOOL = "spool"
    RUNNER = "runner"
    DRAINING = "draining"
    QUEUE = "queue"
    PAUSED = "paused"
    COMPONENT = "component"
    SLURM = "slurm"
    WEBHOOKS = "webhooks"
    VERSION = "version"
    TEMPLATES = "templates"
    LIMITS = "limits"
    AIRFLOW = "airflow"
    ENTRY_POINTS = "entry_points"
    OPTIONS = "options"
    BASE_PATH = "base_path"
    SLOTS = "slots"
    IDLE_SLEEP = "idle_sleep"
    TOKENS = "tokens"
    API_SERVER = "api_server"
    DATABASE = "database"

    __str__ = str.__str__


@dataclass(frozen=True)
class Remedy:
    """What `--fix` may do about a finding."""

    does: str
    """In words, for those who want to know it before."""
    apply: Callable[[], Iterable[str]]
    """Does it; a line for each thing that was done. Raises what the system says if it refuses."""


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    check: Check
    level: Level
    text: str
    fix: str = ""
    """What to do, exactly: a command, or a line and the file for it. Empty if all is well."""
    remedy: Remedy | None = field(default=None, compare=False, repr=False)
    """The same, if it is safe to be done without asking."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        facts = {"check": self.check.value, "level": self.level.value, "text": self.text, "fix": self.fix}
        return {**facts, "fixable": self.remedy is not None}


def ok(check: Check, text: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, text)


def warn(check: Check, text: str, fix: str, remedy: Remedy | None = None) -> Finding:
    """It works, but not as well as it should, or not for long."""
    return Finding(check, Level.WARNING, text, fix, remedy)


def problem(check: Check, text: str, fix: str, remedy: Remedy | None = None) -> Finding:
    """It does not work."""
    return Finding(check, Level.PROBLEM, text, fix, remedy)


def several(paths: Iterable[object], most: int = 3) -> str:
    """The first of many things, and how many more there are."""
    found = [str(path) for path in paths]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
