"""The way from a DAG to a home: which one a connection means, and whether jobs would run there."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.hook import BaseHook

from air_executor import validation
from air_executor.errors import AirExecutorError, HomeError, InvalidNameError, SettingsError
from airflow_plugin import config

if TYPE_CHECKING:
    from air_executor.client import AirExecutorClient

DEFAULT_CONNECTION = "air_executor_default"
CONNECTION_TYPE = "air_executor"
WEB = ("http", "https", "http://", "https://")


@dataclass(frozen=True)
class Target:
    """Where jobs go, and what is taken for them if nothing else is said."""

    home: Path
    named: bool = False
    """Whether somebody wrote it into a connection: then it must be there already."""
    environment: str | None = None
    """The environment of a pipeline."""
    queue: str | None = None
    """Where jobs go that name no queue; None: where the tasks of Airflow go that name none."""
    poll_interval: float | None = None
    """Seconds between looks where changes of files are not told; None: the core's own choice."""


class AirJobHook(BaseHook):
    """Submit jobs to Air-Executor, look at them, wait for them, stop them.

    Args:
        air_conn_id: a connection of the type `air_executor`. As long as there is none with the default's name, the home
            of `[air_executor] base_path` is taken.
    """

    conn_name_attr = "air_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = CONNECTION_TYPE
    hook_name = "Air-Executor"

    def __init__(self, air_conn_id: str = DEFAULT_CONNECTION) -> None:
        super().__init__()
        self.air_conn_id = air_conn_id

    @cached_property
    def target(self) -> Target:
        """What the connection says.

        Raises:
            SettingsError: it cannot be understood, or it is not for Air-Executor.
            HomeError: it points nowhere.
            AirflowNotFoundException: it was named, and there is none.
        """
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            connection = self.get_connection(self.air_conn_id)
        except AirflowNotFoundException:
            if self.air_conn_id != DEFAULT_CONNECTION:
                raise
            return Target(configured_home())
        target = read_connection(self.air_conn_id, connection, configured_home)
        if target.named:
            _check_there(self.air_conn_id, target.home)
        return target

    def get_conn(self) -> AirExecutorClient:
        """The client of the home; raises as `target`."""
        from air_executor.client import AirExecutorClient

        return AirExecutorClient(self.target.home)

    @property
    def queue(self) -> str:
        """Where jobs go that name no queue."""
        from airflow.configuration import conf

        return self.target.queue or conf.get("operators", "default_queue", fallback=None) or "default"

    def test_connection(self) -> tuple[bool, str]:
        """Whether a job that is submitted now would run; the answer for Airflow's button "Test"."""
        from airflow.sdk.exceptions import AirflowException

        try:
            return True, examine(self.target.home, self.queue)
        except (AirExecutorError, AirflowException) as error:
            return False, str(error)


def configured_home() -> Path:
    """The home of the executor: `[air_executor] base_path`, or what counts without it."""
    from airflow.configuration import conf

    return config.base_path(conf)


def read_connection(conn_id: str, connection: Any, default: Any = configured_home) -> Target:
    """What a connection says.

    Args:
        conn_id: its id, for messages.
        connection: Airflow's object.
        default: gives the home if the connection names none.

    Raises:
        SettingsError: it cannot be understood, or it is not for Air-Executor. The message holds no secret.
    """
    where = f"the connection {conn_id!r}"
    if connection.conn_type != CONNECTION_TYPE:
        raise SettingsError(f"{where} is of the type {connection.conn_type!r}; {CONNECTION_TYPE!r} is needed")
    host, extra = (connection.host or "").strip(), _extra(where, connection)
    if (connection.schema or "").lower() in WEB or host.lower().startswith(("http:", "https:")):
        raise SettingsError(f"{where} names a web address; for now a home is a directory that this host can reach")
    return Target(
        home=_home(where, host) if host else default(),
        named=bool(host),
        environment=_text(where, extra, "environment"),
        queue=_queue(where, _text(where, extra, "queue")),
        poll_interval=_seconds(where, extra, "poll_interval"),
    )


def examine(home: Path, queue: str) -> str:
    """Say who would run a job of that queue.

    Raises:
        HomeError: the home is not there, cannot be written, or nobody would run the job.
    """
    from air_executor import pauses, runners
    from air_executor.paths import Home

    if not home.is_dir():
        raise HomeError(f"{home} is no directory; start a runner there, or correct the connection")
    _check_writable(home)
    alive = runners.alive_runners(Home(home))
    serving = runners.serving(alive, queue)
    if not serving:
        others = f" ({len(alive)} serve other queues)" if alive else ""
        how = runners.start_command(Home(home), queue)
        raise HomeError(f"{home} can be used, but no runner serves its queue {queue!r}{others}; start one: {how}")
    names = ", ".join(f"{info.id} ({info.slots} slots)" for info in serving[:3])
    others = " and others" if len(serving) > 3 else ""
    paused = pauses.read(Home(home), queue)
    return f"{home} can be used; its queue {queue!r} is served by {names}{others}" + (
        f", and {paused}" if paused else ""
    )


def _check_there(conn_id: str, home: Path) -> None:
    if not home.is_dir():
        raise HomeError(
            f"the connection {conn_id!r} points to {home}, which is no directory on this host; create it by starting a "
            f"runner there (air-executor --home {home} runner start), or correct the connection"
        )


def _check_writable(home: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise HomeError(f"{home} cannot be written by this process: {error.strerror}") from None


def _home(where: str, text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise SettingsError(f"{where}: the home must be an absolute path, not {text!r}: workers may run anywhere")
    return path


def _extra(where: str, connection: Any) -> Mapping[str, Any]:
    try:
        extra = connection.extra_dejson
    except ValueError:
        extra = None
    if not isinstance(extra, Mapping):
        raise SettingsError(f"{where}: its extra fields are no JSON object")
    return extra


def _text(where: str, extra: Mapping[str, Any], name: str) -> str | None:
    value = extra.get(name)
    if value is not None and not isinstance(value, str):
        raise SettingsError(f"{where}: {name} must be text, not {type(value).__name__}")
    return (value or "").strip() or None


def _queue(where: str, name: str | None) -> str | None:
    try:
        return name and validation.check_name("the queue", name, validation.MAX_QUEUE_BYTES)
    except InvalidNameError as error:
        raise SettingsError(f"{where}: {error}") from None


def _seconds(where: str, extra: Mapping[str, Any], name: str) -> float | None:
    value = extra.get(name)
    if value in (None, ""):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise SettingsError(f"{where}: {name} must be a number of seconds above 0, not {str(value)[:40]!r}")
    return seconds
