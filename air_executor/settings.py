"""Options and where they come from: flags > environment > config.toml > defaults.

`config.toml` has one table for each class below; the variable of `[runner] slots` is `AIR_EXECUTOR_RUNNER_SLOTS`.
A list in a variable is separated by commas. An unknown or malformed option is an error that names it.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from air_executor import _files, definitions, retention, validation
from air_executor.errors import CorruptFileError, InvalidInputError, SettingsError
from air_executor.model import DEFAULT_QUEUE
from air_executor.paths import Home

LEAST_METRICS_INTERVAL = 0.1
LAUNCHERS = ("fork", "exec")
DEFAULT_LAUNCHER = "exec" if sys.platform == "darwin" else "fork"
"""Forking after frameworks are loaded is unsafe on macOS."""

VARIABLE_PREFIX = "AIR_EXECUTOR_"

T = TypeVar("T")


@dataclass(frozen=True)
class RunnerSettings:
    """The table `[runner]`."""

    queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    """The queues that this runner serves."""
    slots: int = 32
    """How many jobs run at once; the default is Airflow's default parallelism."""
    launcher: str = DEFAULT_LAUNCHER
    """How an ephemeral runner comes to life: fork or exec."""
    preload: tuple[str, ...] = ()
    """Modules for which a template is kept warm from the start."""
    grace: float = 10.0
    """Seconds between TERM and KILL."""
    output_mb: int = 256
    """How much a task may write in one attempt, MiB, where neither it nor its job says; 0: any amount."""
    heartbeat: float = 3.0
    """Seconds between two heartbeats; a runner of another host counts as dead after five of them."""
    linger: float = 0.0
    """Seconds after which a runner that has nothing to do and that no submitter wants ends; 0: never."""
    metrics_interval: float = 15.0
    """Seconds between two writes of the runner's metrics to a file; 0: there is none."""
    metrics_port: int = 0
    """Where metrics are served over HTTP; 0: nowhere."""
    metrics_host: str = "127.0.0.1"
    """The address on which they are served, to everybody who reaches it."""
    cgroup: bool = False
    """Whether the runner makes a control group for itself and its jobs: none escapes when all of it is killed."""
    handover: bool = False
    """Whether a SIGTERM ends the runner at once and leaves its jobs to the next one; else it drains."""


@dataclass(frozen=True)
class RetentionSettings:
    """The table `[retention]`: which jobs that are over the runners keep. 0: no limit."""

    completed_days: float = 7.0
    """Days since their end, for completed jobs."""
    failed_days: float = 30.0
    """The same for failed and cancelled ones."""
    keep: int = 0
    """How many; completed ones go first, then those that ended first."""
    max_mb: int = 0
    """How many MiB their directories may hold together."""
    interval: float = 3600.0
    """Seconds between two looks; 0: nothing is removed."""

    @property
    def policy(self) -> retention.Policy:
        """The same as a policy."""
        return retention.Policy(
            completed_age=self.completed_days * 86_400 or None,
            failed_age=self.failed_days * 86_400 or None,
            keep=self.keep or None,
            max_bytes=self.max_mb * 2**20 or None,
        )


@dataclass(frozen=True)
class Settings:
    """All tables of config.toml."""

    runner: RunnerSettings = field(default_factory=RunnerSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)


def load(home: Home, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a home, without flags.

    Raises:
        SettingsError: an option is unknown or malformed; names the file or the variable.
    """
    tables = _read_config(home)
    _refuse_unknown(tables, [item.name for item in dataclasses.fields(Settings)], f"{home.config}: unknown table")
    return Settings(
        runner=_load_table(home, "runner", RunnerSettings, tables, environ),
        retention=_load_table(home, "retention", RetentionSettings, tables, environ),
    )


def written(home: Home) -> Mapping[str, Mapping[str, Any]]:
    """What config.toml itself says: its tables. `load` tells whether all of it makes sense; raises as that."""
    return _read_config(home)


def _load_table(home: Home, name: str, kind: type[T], tables: Mapping[str, Any], environ: Mapping[str, str]) -> T:
    values = _from_file(home, name, kind, tables.get(name, {}))
    return kind(**{**values, **_from_environment(name, kind, environ)})


def override(settings: RunnerSettings, flags: Mapping[str, Any], prefix: str = "--") -> RunnerSettings:
    """`settings` with the flags that were given (those that are not None).

    Args:
        prefix: what stands before a flag's name in an error.

    Raises:
        SettingsError: a flag is malformed.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    checked = {
        name: _check(prefix + name.replace("_", "-"), RunnerSettings, name, value) for name, value in given.items()
    }
    return dataclasses.replace(settings, **checked)


def _read_config(home: Home) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        tables: dict[str, Any] = tomllib.loads(_files.read_bytes(home.config).decode("utf-8"))
        return tables
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise SettingsError(f"{home.config}: not valid TOML: {error}") from None
    except CorruptFileError as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise SettingsError(f"{home.config}: cannot be read: {error.strerror}") from None


def _from_file(home: Home, table: str, kind: type[Any], values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise SettingsError(f"{home.config}: [{table}] should be a table")
    names = [item.name for item in dataclasses.fields(kind)]
    _refuse_unknown(values, names, f"{home.config}: unknown option in [{table}]")
    return {name: _check(f"{home.config}: [{table}] {name}", kind, name, value) for name, value in values.items()}


def _from_environment(table: str, kind: type[Any], environ: Mapping[str, str]) -> dict[str, Any]:
    prefix = f"{VARIABLE_PREFIX}{table.upper()}_"
    names = {item.name.upper(): item.name for item in dataclasses.fields(kind)}
    given = {name.removeprefix(prefix): value for name, value in environ.items() if name.startswith(prefix)}
    _refuse_unknown(given, list(names), f"environment: unknown variable {prefix}")
    return {names[key]: _check(f"${prefix}{key}", kind, names[key], value) for key, value in given.items()}


def _refuse_unknown(values: Mapping[str, Any], known: list[str], what: str) -> None:
    for name in values:
        if name not in known:
            hint = definitions.hint(name, known)
            raise SettingsError(f"{what}{'' if what.endswith('_') else ' '}{name}; {hint}")


def _check(where: str, kind: type[Any], name: str, value: Any) -> Any:
    declared = next(str(item.type) for item in dataclasses.fields(kind) if item.name == name)
    converted = _CONVERTERS[declared](where, value)
    if name == "queues":
        _check_queues(where, converted)
    if name == "launcher" and converted not in LAUNCHERS:
        raise SettingsError(f"{where} must be one of {', '.join(LAUNCHERS)}, not {converted!r}")
    if name == "metrics_port" and not 0 <= converted < 2**16:
        raise SettingsError(f"{where} must be a port from 1 to 65535, or 0 for none, not {converted}")
    if name == "metrics_interval" and 0 < converted < LEAST_METRICS_INTERVAL:
        raise SettingsError(f"{where} must be 0 for none, or at least {LEAST_METRICS_INTERVAL} s, not {converted}")
    if name == "metrics_host" and not converted.strip():
        raise SettingsError(f"{where} must be an address such as 127.0.0.1, not {converted!r}")
    if name in ("keep", "max_mb", "output_mb") and converted < 0:
        raise SettingsError(f"{where} must be 0 or more, not {converted}")
    if name in ("slots", "heartbeat", "grace") and converted <= 0:
        raise SettingsError(f"{where} must be more than 0, not {converted}")
    return converted


def _check_queues(where: str, queues: tuple[str, ...]) -> None:
    if not queues:
        raise SettingsError(f"{where} must name at least one queue")
    for queue in queues:
        try:
            validation.check_name("the queue", queue, validation.MAX_QUEUE_BYTES)
        except InvalidInputError as error:
            raise SettingsError(f"{where}: {error}") from None


def _to_texts(where: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise SettingsError(f"{where} must be a list of texts, not {_show(value)}")
    return tuple(dict.fromkeys(value))


def _to_int(where: str, value: Any) -> int:
    try:
        if isinstance(value, (bool, float)):
            raise ValueError
        number = int(value)
        if abs(number) >= 2**53:
            raise ValueError
        return number
    except (TypeError, ValueError):
        raise SettingsError(f"{where} must be a whole number, not {_show(value)}") from None


def _to_float(where: str, value: Any) -> float:
    try:
        number = float(value)
        if isinstance(value, bool) or not 0 <= number < float("inf"):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        unit = "days" if where.lower().endswith("_days") else "seconds"
        raise SettingsError(f"{where} must be a number of {unit}, not {_show(value)}") from None
    return number


def _to_bool(where: str, value: Any) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in known:
        raise SettingsError(f"{where} must be true or false, not {_show(value)}")
    return known[value.lower()]


def _show(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 2**53:  # Python may refuse to spell it
        return "a number so large"
    return f"{value!r:.80}"


def _to_text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"{where} must be a text, not {_show(value)}")
    return value


_CONVERTERS: Mapping[str, Callable[[str, Any], Any]] = {
    "tuple[str, ...]": _to_texts,
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
    "str": _to_text,
}
