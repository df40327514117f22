"""The way from a DAG to a home: which one a connection means, and whether jobs would run there."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.hook import BaseHook

from air_executor import validation
from air_executor.errors import AirExecutorError, HomeError, InvalidNameError, SettingsError
from air_executor.remote import address
from airflow_plugin import config

if TYPE_CHECKING:
    from air_executor.clients import Client
    from air_executor.remote.client import RemoteClient
    from airflow_plugin.ways import Way

DEFAULT_CONNECTION = "air_executor_default"
CONNECTION_TYPE = "air_executor"
WEB = ("http", "https")


@dataclass(frozen=True)
class Target:
    """Where jobs go, and what is taken for them if nothing else is said."""

    home: Path | None
    """The directory; None: it is behind an `address`."""
    named: bool = False
    """Whether somebody wrote it into a connection: then it must be there already."""
    environment: str | None = None
    """The environment of a pipeline."""
    queue: str | None = None
    """Where jobs go that name no queue; None: where the tasks of Airflow go that name none."""
    poll_interval: float | None = None
    """Seconds between looks over HTTP, and where changes of files are not told; None: the core's own choice."""
    address: str | None = None
    """Of the HTTP API."""
    token: str | None = field(default=None, repr=False)
    organization: str | None = None
    """A label of every job."""
    jitter: float | None = None
    """By what part of it the time between looks over HTTP is longer or shorter."""
    verify: bool | str | None = None
    """Over HTTP: the file with the certificates that are trusted, or False: all are."""
    allow_plain: bool | None = None
    """Whether the token may go to another host without TLS."""

    @property
    def labels(self) -> dict[str, str]:
        """Of every job."""
        return {"organization": self.organization} if self.organization else {}


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
        if target.named and target.home is not None:
            _check_there(self.air_conn_id, target.home)
        return target

    def get_conn(self) -> Client:
        """The client of the home; raises as `target`."""
        return self.find_way().client

    def find_way(self, poll_interval: float | None = None) -> Way:
        """The way to the home; raises as `target`.

        Args:
            poll_interval: instead of the connection's.
        """
        from air_executor.client import AirExecutorClient
        from airflow_plugin.ways import FileWay, HttpWay

        interval = poll_interval or self.target.poll_interval
        if self.target.address is not None:
            return HttpWay(open_remote(self.air_conn_id, self.target, interval))
        return FileWay(AirExecutorClient(self.target.home), interval)

    @property
    def queue(self) -> str:
        """Where jobs go that name no queue."""
        from airflow.configuration import conf

        return self.target.queue or conf.get("operators", "default_queue", fallback=None) or "default"

    def test_connection(self) -> tuple[bool, str]:
        """Whether a job that is submitted now would run; the answer for Airflow's button "Test"."""
        from airflow.sdk.exceptions import AirflowException

        try:
            if self.target.home is None:
                return True, examine_remote(open_remote(self.air_conn_id, self.target).impatient(), self.queue)
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
    url = _address(where, connection, host)
    return Target(
        home=None if url else _home(where, host) if host else default(),
        named=bool(host),
        environment=_text(where, extra, "environment"),
        queue=_queue(where, _text(where, extra, "queue")),
        poll_interval=_seconds(where, extra, "poll_interval"),
        **(_over_http(where, connection, extra, url) if url else {}),
    )


def _address(where: str, connection: Any, host: str) -> str | None:
    """The web address, which people may give as a whole or in fields; None: it is a directory."""
    schema = (connection.schema or "").strip().lower().removesuffix("://")
    if not host.lower().startswith(("http:", "https:")):
        if schema not in WEB:
            return None
        if not host or "/" in host:
            raise SettingsError(f"{where} has the schema {schema} and no host; give https://host:port as its host")
        host = f"{schema}://{host}"
    authority = host.partition("://")[2].partition("/")[0]
    if connection.port and not authority.rpartition("]")[2].rpartition(":")[1]:
        host = host.replace(authority, f"{authority}:{connection.port}", 1)
    return host


def _over_http(where: str, connection: Any, extra: Mapping[str, Any], url: str) -> dict[str, Any]:
    allow_plain = _choice(where, extra, "allow_plain")
    try:
        checked = address.check(url, allow_plain=bool(allow_plain))
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None
    if not (connection.password or "").strip():
        raise SettingsError(f"{where} has no password; give it the token that `air-executor token create` has printed")
    return {
        "address": checked,
        "token": connection.password.strip(),
        "organization": _text(where, extra, "organization"),
        "jitter": _part(where, extra, "jitter"),
        "verify": _verify(where, extra),
        "allow_plain": allow_plain,
    }


def open_remote(conn_id: str, target: Target, poll_interval: float | None = None) -> RemoteClient:
    """The client of a home behind an HTTP API.

    Raises:
        SettingsError: what the connection says cannot be used.
    """
    from air_executor.remote.client import JITTER, RemoteClient
    from air_executor.remote.patience import PERSISTENT

    try:
        return RemoteClient(
            str(target.address),
            target.token,
            verify=target.verify,
            allow_plain=target.allow_plain,
            poll_interval=poll_interval,
            jitter=JITTER if target.jitter is None else target.jitter,
            patience=PERSISTENT,
        )
    except SettingsError as error:
        raise SettingsError(f"the connection {conn_id!r}: {error}") from None


def examine_remote(client: RemoteClient, queue: str) -> str:
    """Say who would run a job of that queue.

    Raises:
        RemoteError: the API does not answer, or refuses the token.
        HomeError: the token allows too little, or nobody would run the job.
    """
    scopes = client.health().get("scopes") or []
    if "admin" not in scopes and (missing := [each for each in ("submit", "cancel") if each not in scopes]):
        raise HomeError(f"{client.address} answers, but its token lacks the scope {' and '.join(missing)}")
    found: dict[str, Any] = next((each for each in client.queues() if each["name"] == queue), {})
    if not found.get("served_by"):
        raise HomeError(
            f"{client.address} can be used, but no runner serves its queue {queue!r}; start one on its host"
        )
    served = "a runner" if found["served_by"] == 1 else f"{found['served_by']} runners"
    paused = ", and is paused" if found["paused"] else ""
    return f"{client.address} can be used; its queue {queue!r} is served by {served}{paused}"


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


def _part(where: str, extra: Mapping[str, Any], name: str) -> float | None:
    value = extra.get(name)
    if value in (None, ""):
        return None
    try:
        part = float(value)
    except (TypeError, ValueError):
        part = -1.0
    if not 0 <= part < 1:
        raise SettingsError(f"{where}: {name} must be a number from 0 to below 1, not {str(value)[:40]!r}")
    return part


_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _choice(where: str, extra: Mapping[str, Any], name: str) -> bool | None:
    value = extra.get(name)
    if value in (None, ""):
        return None
    found = _WORDS.get(str(value).strip().lower())
    if found is None:
        raise SettingsError(f"{where}: {name} must be true or false, not {str(value)[:40]!r}")
    return found


def _verify(where: str, extra: Mapping[str, Any]) -> bool | str | None:
    """A path, or whether certificates are checked."""
    value = extra.get("verify")
    if isinstance(value, str) and value.strip() and value.strip().lower() not in _WORDS:
        path = Path(value.strip()).expanduser()
        if not path.is_file():
            raise SettingsError(f"{where}: verify must be a file with certificates, or false; {path} is no file")
        return str(path)
    return _choice(where, extra, "verify")
