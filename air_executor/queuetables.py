"""The tables `[queues.<name>]` of config.toml: where a queue's jobs run, and what they ask of Slurm. Pure functions.

::

    [queues.gpu]
    launcher = "slurm"
    partition = "gpu"       # and every other option of Slurm that a job may have: what its jobs ask for by themselves
    setup = "module load cuda"
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from air_executor import conversions, definitions
from air_executor.errors import SettingsError
from air_executor.slurm import options

LOCAL, SLURM = "local", "slurm"
LAUNCHERS = (LOCAL, SLURM)
_PILOTS = ("pilots", "pilot_idle", "pilot_slots")


@dataclass(frozen=True)
class QueueSettings:
    """One table `[queues.<name>]`; a queue without one is `local`."""

    launcher: str = LOCAL
    """Where its jobs run: with the runner (local), or where Slurm has room (slurm)."""
    setup: str = ""
    """Lines of a login bash that run on the node before Python starts, for jobs that go to Slurm."""
    python: str | None = None
    """The Python that runs them on the node; None: that of the runner."""
    pilots: int = 0
    """How many pilots at most run its jobs; 0: each job is one of Slurm."""
    pilot_idle: float = 60.0
    """Seconds after which a pilot without a job ends."""
    pilot_slots: int | None = None
    """How many jobs a pilot runs at once; None: as many as it has `cpus`."""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    """What its jobs ask of Slurm where they do not say: see `slurm.options`."""

    @property
    def slots_of_pilot(self) -> int:
        """How many jobs a pilot runs at once."""
        return self.pilot_slots or int(self.slurm.get("cpus", 1))


_TYPES = {item.name: str(item.type) for item in dataclasses.fields(QueueSettings) if item.name != "slurm"}


def read(where: str, tables: Any) -> dict[str, QueueSettings]:
    """The queues that have a table, in their order.

    Args:
        where: how errors call the file.
        tables: what it holds below `queues`.

    Raises:
        SettingsError: a queue or an option cannot be what it says.
    """
    if not isinstance(tables, Mapping):
        raise SettingsError(f"{where}: [queues] should be tables; write [queues.NAME]")
    return {name: _read_one(where, name, table) for name, table in tables.items()}


def _read_one(where: str, name: str, table: Any) -> QueueSettings:
    conversions.check_queue(f"{where}: [queues.{name[:40]}]", name)
    here = f"{where}: [queues.{name}]"
    if not isinstance(table, Mapping):
        raise SettingsError(f"{where}: queues.{name} should be a table; write [queues.{name}]")
    for option, value in table.items():
        _refuse_unknown(here, name, option, value)
    own = {option: _check(f"{here} {option}", option, table[option]) for option in table if option in _TYPES}
    asked = {option: value for option, value in table.items() if option in options.NAMES}
    for option, value in asked.items():
        if why := options.why_not(option, value):
            raise SettingsError(f"{here} {option} {why}")
    settings = QueueSettings(**own, slurm=asked)
    if settings.launcher == LOCAL and (idle := [option for option in table if option in (*asked, *_PILOTS)]):
        raise SettingsError(f'{here} {idle[0]} is for queues whose jobs run on Slurm; set launcher = "{SLURM}", too')
    return settings


def _refuse_unknown(here: str, name: str, option: str, value: Any) -> None:
    known = (*_TYPES, *options.NAMES)
    if option not in known:
        nested = f'; the queue "{name}.{option}" is written [queues."{name}.{option}"]' if _is_table(value) else ""
        raise SettingsError(f"{here} has the unknown option {option[:60]}; {definitions.hint(option, known)}{nested}")


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _check(where: str, name: str, value: Any) -> Any:
    converted = conversions.CONVERTERS[_TYPES[name]](where, value)
    if name == "launcher" and converted not in LAUNCHERS:
        raise SettingsError(f"{where} must be one of {', '.join(LAUNCHERS)}, not {conversions.show(converted)}")
    if name == "setup" and "\0" in converted:
        raise SettingsError(f"{where} must be lines for a shell, without NUL characters")
    if name == "python" and (not converted.isprintable() or not converted.strip() or converted.startswith("-")):
        raise SettingsError(f"{where} must be a Python of the node, such as /usr/bin/python3")
    if name == "pilots" and converted < 0:
        raise SettingsError(f"{where} must be 0 or more, not {converted}")
    if name == "pilot_slots" and converted <= 0:
        raise SettingsError(f"{where} must be more than 0, not {converted}")
    return converted
