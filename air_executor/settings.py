"""Options and where they come from: flags > environment > config.toml > defaults.

`config.toml` has one table for each class below, and those of queues and webhooks, which no variable changes. The
variable of `[runner] slots` is `AIR_EXECUTOR_RUNNER_SLOTS`. A list in a variable is separated by commas. An unknown or
malformed option is an error that names it.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from air_executor import _files, conversions, definitions, queuetables, retention
from air_executor.errors import CorruptFileError, SettingsError
from air_executor.model import DEFAULT_QUEUE, Job
from air_executor.paths import Home
from air_executor.queuetables import QueueSettings
from air_executor.slurm import options as slurm_options
from air_executor.webhooks import tables as webhook_tables
from air_executor.webhooks.tables import WebhookSettings

LEAST_METRICS_INTERVAL = 0.1
LEAST_SLURM_TIMEOUT = 1.0
LAUNCHERS = ("fork", "exec")
DEFAULT_LAUNCHER = "exec" if sys.platform == "darwin" else "fork"
"""Forking after frameworks are loaded is unsafe on macOS."""

VARIABLE_PREFIX = "AIR_EXECUTOR_"

T = TypeVar("T")


@dataclass(frozen=True)
class RunnerSettings:
    """The table `[runner]`."""

    queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    """The queues that this runner serves; where nobody says, those that have a table in config.toml, too."""
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
class SlurmSettings:
    """The table `[slurm]`: how a runner deals with Slurm."""

    max_jobs: int = 1000
    """How many jobs a runner has in Slurm at once."""
    poll: float = 15.0
    """Seconds between two looks at what Slurm does with them, at most."""
    patience: float = 10.0
    """Seconds until what was written on a node is seen here: caches of a network's filesystem."""
    timeout: float = 30.0
    """Seconds that one command of Slurm may take."""


@dataclass(frozen=True)
class HttpSettings:
    """The table `[http]`: the HTTP API of `air-executor serve`."""

    host: str = "127.0.0.1"
    """The address on which it is served."""
    port: int = 8470
    """0: any that is free."""
    tls_cert: str | None = None
    """A file with the certificate and those it was signed with, PEM. A path that is relative begins in the home."""
    tls_key: str | None = None
    """A file with its private key; None: that is in the same file."""
    allow_plain: bool = False
    """Whether it is served without TLS also to other hosts, as behind a proxy that has TLS."""
    rate: float = 50.0
    """Requests a second of one token, in the long run; 0: any number."""
    burst: int = 200
    """How many it may make at once, after it made none for a while."""
    stranger_rate: float = 5.0
    """The same for an address that has no valid token."""
    stranger_burst: int = 30
    max_body_kb: int = 1024
    """KiB that the body of a request may have."""
    max_requests: int = 200
    """Requests that are answered at once, those that wait for the end of a run or follow a log among them."""
    client_timeout: float = 30.0
    """Seconds that a client may take to send a request, or to take a part of an answer."""
    shutdown: float = 10.0
    """Seconds that requests may take to end after a signal."""


@dataclass(frozen=True)
class Settings:
    """All tables of config.toml."""

    runner: RunnerSettings = field(default_factory=RunnerSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    slurm: SlurmSettings = field(default_factory=SlurmSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    queues: Mapping[str, QueueSettings] = field(default_factory=dict)
    """The queues that have a table `[queues.<name>]`, in their order."""
    webhooks: Mapping[str, WebhookSettings] = field(default_factory=dict)
    """Those that have a table `[webhooks.<name>]`, in their order."""

    def queue(self, name: str) -> QueueSettings:
        """What is set for a queue, also for one without a table."""
        return self.queues.get(name) or QueueSettings()

    @property
    def far_queues(self) -> frozenset[str]:
        """Those whose jobs go to Slurm, each for itself."""
        return frozenset(name for name, queue in self.queues.items() if queue.launcher == queuetables.SLURM) - (
            self.pilot_queues
        )

    @property
    def pilot_queues(self) -> frozenset[str]:
        """Those whose jobs are run by pilots."""
        return frozenset(name for name, queue in self.queues.items() if queue.pilots)

    def slurm_options(self, job: Job) -> dict[str, Any] | None:
        """What Slurm is asked for a job, its queue's defaults and its limits included; None if no job of Slurm is made.

        A job that asks for anything goes to Slurm whatever its queue, also if all it says is that it wants to. Of the
        jobs of a queue with pilots only such a one does: the pilots run all others.
        """
        queue = self.queue(job.queue)
        if job.slurm is None and (queue.launcher != queuetables.SLURM or queue.pilots):
            return None
        return slurm_options.of_job(job, queue.slurm, self.runner.grace)


TABLES: Mapping[str, type[Any]] = {
    "runner": RunnerSettings,
    "retention": RetentionSettings,
    "slurm": SlurmSettings,
    "http": HttpSettings,
}
"""The tables whose options may come from variables, too."""


def with_tables(default: str, queues: Iterable[str]) -> tuple[str, ...]:
    """The queues that a runner serves if nobody says: the default one, and those that have a table."""
    return tuple(dict.fromkeys((default, *queues)))


def load(home: Home, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a home, without flags.

    Raises:
        SettingsError: an option is unknown or malformed; names the file or the variable.
    """
    tables = _read_config(home)
    _refuse_unknown(tables, [item.name for item in dataclasses.fields(Settings)], f"{home.config}: unknown table")
    tables_of_queues = queuetables.read(str(home.config), tables.get("queues", {}))
    served = {"queues": with_tables(DEFAULT_QUEUE, tables_of_queues)}
    return Settings(
        runner=_load_table(home, "runner", RunnerSettings, tables, environ, served),
        retention=_load_table(home, "retention", RetentionSettings, tables, environ),
        slurm=_load_table(home, "slurm", SlurmSettings, tables, environ),
        http=_load_table(home, "http", HttpSettings, tables, environ),
        queues=tables_of_queues,
        webhooks=webhook_tables.read(str(home.config), tables.get("webhooks", {})),
    )


def queues(home: Home) -> dict[str, QueueSettings]:
    """The queues that have a table, whatever else config.toml says; raises as `load`, of what is wrong with these."""
    return queuetables.read(str(home.config), _read_config(home).get("queues", {}))


def webhooks(home: Home) -> dict[str, WebhookSettings]:
    """The webhooks that have a table, whatever else config.toml says; raises as `load`, of what is wrong with these."""
    return webhook_tables.read(str(home.config), _read_config(home).get("webhooks", {}))


def written(home: Home) -> Mapping[str, Mapping[str, Any]]:
    """What config.toml itself says: its tables. `load` tells whether all of it makes sense; raises as that."""
    return _read_config(home)


def _load_table(
    home: Home,
    name: str,
    kind: type[T],
    tables: Mapping[str, Any],
    environ: Mapping[str, str],
    defaults: Mapping[str, Any] | None = None,
) -> T:
    values = _from_file(home, name, kind, tables.get(name, {}))
    return kind(**{**(defaults or {}), **values, **_from_environment(name, kind, environ)})


S = TypeVar("S", RunnerSettings, HttpSettings)


def override(settings: S, flags: Mapping[str, Any], prefix: str = "--") -> S:
    """`settings` with the flags that were given (those that are not None).

    Args:
        prefix: what stands before a flag's name in an error.

    Raises:
        SettingsError: a flag is malformed.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    checked = {
        name: _check(prefix + name.replace("_", "-"), type(settings), name, value) for name, value in given.items()
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
    converted = conversions.CONVERTERS[declared](where, value)
    if name == "queues":
        _check_queues(where, converted)
    if name == "launcher" and converted not in LAUNCHERS:
        raise SettingsError(f"{where} must be one of {', '.join(LAUNCHERS)}, not {converted!r}")
    if name == "port" and not 0 <= converted < 2**16:
        raise SettingsError(f"{where} must be a port from 1 to 65535, or 0 for any that is free, not {converted}")
    if name == "metrics_port" and not 0 <= converted < 2**16:
        raise SettingsError(f"{where} must be a port from 1 to 65535, or 0 for none, not {converted}")
    if name == "metrics_interval" and 0 < converted < LEAST_METRICS_INTERVAL:
        raise SettingsError(f"{where} must be 0 for none, or at least {LEAST_METRICS_INTERVAL} s, not {converted}")
    if name in ("metrics_host", "host") and not converted.strip():
        raise SettingsError(f"{where} must be an address such as 127.0.0.1, not {converted!r}")
    if name == "timeout" and converted < LEAST_SLURM_TIMEOUT:
        raise SettingsError(f"{where} must be at least {LEAST_SLURM_TIMEOUT:g} s, not {converted}")
    if name in ("keep", "max_mb", "output_mb") and converted < 0:
        raise SettingsError(f"{where} must be 0 or more, not {converted}")
    if name in ("slots", "heartbeat", "grace", "max_jobs", "poll", *_POSITIVE_OF_HTTP) and converted <= 0:
        raise SettingsError(f"{where} must be more than 0, not {converted}")
    return converted


_POSITIVE_OF_HTTP = ("burst", "stranger_burst", "max_body_kb", "max_requests", "client_timeout")


def _check_queues(where: str, queues: tuple[str, ...]) -> None:
    if not queues:
        raise SettingsError(f"{where} must name at least one queue")
    for queue in queues:
        conversions.check_queue(where, queue)
