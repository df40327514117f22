"""What Airflow says of itself: plain data that `airflow_plugin.facts` gathers in a process of its own, once a look.

No value in it is secret: of addresses neither user nor password, of connections nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

UNSET, DEFAULT, FILE, ENVIRONMENT = "unset", "default", "file", "environment"
"""Where the value of an option comes from."""


@dataclass(frozen=True)
class Option:
    """An option as it counts."""

    value: str | None = None
    source: str = UNSET
    variable: str = ""
    """The variable that sets it, or would."""


@dataclass(frozen=True)
class Database:
    """Airflow's database."""

    kind: str = ""
    """Such as sqlite or postgresql; empty if it is not known."""
    where: str = ""
    trouble: str = ""
    """Why it cannot be used; empty if it can."""
    migrated: bool = True
    """Whether it has Airflow's tables."""


@dataclass(frozen=True)
class Facts:
    """All that is judged."""

    version: str = ""
    python: str = ""
    config: str = ""
    """The airflow.cfg that counts, or would."""
    has_config: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)
    """By `section.name`."""
    wrong: list[str] = field(default_factory=list)
    """What is unknown or malformed in `[air_executor]`, each in a sentence."""
    base_path: str | None = None
    """The home, as the executor finds it; None if it refuses what is set."""
    slots: int | None = None
    start_runner: bool = True
    queues: list[str] = field(default_factory=list)
    """What its runner serves."""
    token_lifetime: float = 0.0
    missing: list[str] = field(default_factory=list)
    """Entry points of the package that are not installed."""
    loads: str = ""
    """Why the executor cannot be imported; empty if it can."""
    api: str = ""
    """Address of the execution API."""
    api_trouble: str = ""
    database: Database = field(default_factory=Database)

    def option(self, section: str, name: str) -> Option:
        """An option that was asked for."""
        return self.options.get(f"{section}.{name}", Option())

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def from_json(text: str) -> Facts:
    """What `to_json` wrote; raises ValueError or TypeError of anything else."""
    content: dict[str, Any] = json.loads(text)
    options = {name: Option(**value) for name, value in content.pop("options").items()}
    database = Database(**content.pop("database"))
    return Facts(**content, options=options, database=database)
