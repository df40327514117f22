"""The section `[air_executor]` of Airflow's configuration: read, checked, turned into options."""

from __future__ import annotations

import difflib
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from air_executor import settings, validation
from air_executor.errors import InvalidNameError, SettingsError
from air_executor.paths import HOME_NAME, HOME_VARIABLE, Home, airflow_home

SECTION = "air_executor"
KNOWN = ("base_path", "start_runner", "queues", "slots", "python", "token_lifetime", "sync_wait", "warm_dags")
TOKEN_LIFETIME = 7 * 24 * 3600.0
"""Seconds that the token of a workload lives: how long a task may wait in its queue."""
MAX_SYNC_WAIT = 25.0
"""Seconds; after 30 without a heartbeat, Airflow takes a scheduler for dead."""
SYNC_WAIT = 1.0
"""Seconds that the scheduler may be held up to learn of the end of a task at once."""
_TRUE, _FALSE = ("t", "true", "1"), ("f", "false", "0")
"""As Airflow reads booleans."""


class Source(Protocol):
    """What is needed of an executor's configuration, which knows the executor's team."""

    def get(self, *args: Any, **kwargs: Any) -> str | None:
        """The value of an option."""

    def getsection(self, section: str) -> Mapping[str, Any] | None:
        """All options of a section that are set."""


@dataclass(frozen=True)
class Options:
    """The options of an executor."""

    base_path: Path
    """The home."""
    default_queue: str
    """Where jobs go that name no queue."""
    queues: tuple[str, ...]
    """What the embedded runner serves, and unless somebody chose these also what has a table in config.toml."""
    start_runner: bool = True
    slots: int | None = None
    """None: as many as Airflow's parallelism."""
    python: str = sys.executable
    token_lifetime: float = TOKEN_LIFETIME
    sync_wait: float = SYNC_WAIT
    warm_dags: bool = False
    """Whether tasks may be forked from a process that has parsed their DAG file."""
    queues_chosen: bool = False
    """Whether somebody said which queues there are."""


def load(source: Source, environ: Mapping[str, str] = os.environ) -> Options:
    """The options as configured for an executor.

    Raises:
        SettingsError: an option is unknown or malformed; the message names it.
    """
    for unknown in unknown_options(source, environ):
        raise SettingsError(unknown)
    default_queue = source.get("operators", "default_queue", fallback=None) or "default"
    chosen = _queues(_get(source, "queues"))
    return Options(
        base_path=base_path(source, environ),
        default_queue=default_queue,
        queues=chosen or (_check_queue("[operators] default_queue", default_queue),),
        queues_chosen=bool(chosen),
        start_runner=_boolean("start_runner", _get(source, "start_runner"), default=True),
        slots=_slots(_get(source, "slots")),
        python=_python(_get(source, "python")),
        token_lifetime=_seconds("token_lifetime", _get(source, "token_lifetime"), TOKEN_LIFETIME),
        sync_wait=_sync_wait(_get(source, "sync_wait")),
        warm_dags=_boolean("warm_dags", _get(source, "warm_dags"), default=False),
    )


def served(options: Options) -> tuple[str, ...]:
    """What the embedded runner serves, now that config.toml is looked at.

    Raises:
        SettingsError: it cannot be read, or its tables of queues are malformed.
    """
    if options.queues_chosen:
        return options.queues
    return settings.with_tables(options.default_queue, settings.queues(Home(options.base_path)))


def base_path(source: Source, environ: Mapping[str, str] = os.environ) -> Path:
    """The home alone, whatever else is configured: for those who submit jobs and execute nothing.

    Raises:
        SettingsError: it is not an absolute path.
    """
    return _base_path(_get(source, "base_path"), environ)


def _get(source: Source, name: str) -> str | None:
    value = source.get(SECTION, name, fallback=None)
    return value.strip() or None if isinstance(value, str) else value


def unknown_options(source: Source, environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """A sentence for each option that is none."""
    prefix = f"AIRFLOW__{SECTION.upper()}__"
    given = {str(name).lower(): f"[{SECTION}] {name}" for name in source.getsection(SECTION) or {}}
    given |= {name.removeprefix(prefix).lower(): f"${name}" for name in environ if name.startswith(prefix)}
    for name, where in given.items():
        if name.removesuffix("_cmd").removesuffix("_secret") not in KNOWN:
            close = difflib.get_close_matches(name, KNOWN, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(KNOWN)}"
            yield f"unknown option {where}; {hint}"


def _base_path(value: str | None, environ: Mapping[str, str]) -> Path:
    where = f"[{SECTION}] base_path"
    if value is None and environ.get(HOME_VARIABLE):
        value, where = environ[HOME_VARIABLE], f"${HOME_VARIABLE}"
    if value is None:
        return airflow_home(environ) / HOME_NAME
    path = Path(os.path.expandvars(value)).expanduser()
    if not path.is_absolute():
        raise SettingsError(f"{where} must be an absolute path, not {value!r}: Airflow's processes may run anywhere")
    return path


def _queues(value: str | None) -> tuple[str, ...]:
    names = [part.strip() for part in (value or "").split(",") if part.strip()]
    return tuple(dict.fromkeys(_check_queue(f"[{SECTION}] queues", name) for name in names))


def _check_queue(where: str, name: str) -> str:
    try:
        return validation.check_name("the queue", name, validation.MAX_QUEUE_BYTES)
    except InvalidNameError as error:
        raise SettingsError(f"{where}: {error}") from None


def _boolean(name: str, value: str | None, *, default: bool) -> bool:
    word = str(default if value is None else value).lower()
    if word not in _TRUE + _FALSE:
        raise SettingsError(f"[{SECTION}] {name} must be True or False, not {value!r}")
    return word in _TRUE


def _slots(value: str | None) -> int | None:
    if value is None:
        return None
    try:
        slots = int(value)
    except ValueError:
        slots = 0
    if slots < 1:
        raise SettingsError(f"[{SECTION}] slots must be a whole number of at least 1, not {value!r}")
    return slots


def _seconds(name: str, value: str | None, default: float, *, zero: bool = False) -> float:
    if value is None:
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf or (seconds == 0 and not zero):
        least = "of 0 or more" if zero else "above 0"
        raise SettingsError(f"[{SECTION}] {name} must be a number of seconds {least}, not {value!r}")
    return seconds


def _sync_wait(value: str | None) -> float:
    seconds = _seconds("sync_wait", value, SYNC_WAIT, zero=True)
    if seconds > MAX_SYNC_WAIT:
        raise SettingsError(f"[{SECTION}] sync_wait must be at most {MAX_SYNC_WAIT:g} seconds, not {value!r}")
    return seconds


def _python(value: str | None) -> str:
    if value is None:
        return sys.executable
    path = Path(os.path.expandvars(value)).expanduser()
    if not path.is_absolute() or not os.access(path, os.X_OK):
        raise SettingsError(f"[{SECTION}] python must be the absolute path of a Python, not {value!r}")
    return str(path)
