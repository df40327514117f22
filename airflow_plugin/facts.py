"""What `air-executor doctor` wants to know of Airflow, in one process and one line: `python -m airflow_plugin.facts`.

Nothing is written, not even a configuration where there is none, and nothing that is printed is secret.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from air_executor import sentences
from air_executor.doctor import airflow, facts
from air_executor.errors import SettingsError
from air_executor.paths import HOME_VARIABLE
from airflow_plugin import config

ASKED = (
    ("core", "executor"),
    ("core", "parallelism"),
    ("core", "execution_api_server_url"),
    ("scheduler", "scheduler_idle_sleep_time"),
    ("scheduler", "task_queued_timeout"),
    ("air_executor", "base_path"),
    ("air_executor", "token_lifetime"),
    ("database", "sql_alchemy_conn"),
)
SECRET = frozenset({"database.sql_alchemy_conn", "core.execution_api_server_url"})
"""Of these only the source is told."""
ENTRY_POINTS = (("apache_airflow_provider", "provider_info"), ("airflow.plugins", "air_executor"))
CONNECT_TIMEOUT = 5


def gather() -> facts.Facts:
    """Everything."""
    from airflow import __version__
    from airflow.configuration import AIRFLOW_CONFIG, conf

    ours = airflow.NAMES.intersection(airflow.executors(conf.get("core", "executor", fallback="")))
    return facts.Facts(
        version=__version__,
        python=sys.executable,
        config=str(AIRFLOW_CONFIG),
        has_config=Path(AIRFLOW_CONFIG).is_file(),
        options={f"{section}.{name}": _option(conf, section, name) for section, name in ASKED},
        **(_surroundings(conf) if ours else {}),
    )


def _surroundings(conf: Any) -> dict[str, Any]:
    """What matters to this executor alone."""
    url = _api_url(conf)
    return {
        "wrong": list(dict.fromkeys([*config.unknown_options(conf, os.environ), *malformed(conf)])),
        "missing": list(_missing_entry_points()),
        "loads": _why_not_loaded(),
        "api": without_user(url),
        "api_trouble": _why_no_answer(url),
        "database": look_at_database(conf.get("database", "sql_alchemy_conn", fallback=None) or ""),
        **_chosen(conf),
    }


def _chosen(conf: Any) -> dict[str, Any]:
    """What counts of `[air_executor]`, where it makes sense."""
    try:
        home = str(config.base_path(conf))
    except SettingsError:
        return {}
    try:
        options = config.load(conf)
    except SettingsError:
        return {"base_path": home}
    return {
        "base_path": home,
        "slots": options.slots,
        "start_runner": options.start_runner,
        "queues": list(_served(options)),
        "token_lifetime": options.token_lifetime,
    }


def _served(options: config.Options) -> tuple[str, ...]:
    """What the executor's runner serves; what is wrong with config.toml is said of the home."""
    try:
        return config.served(options)
    except SettingsError:
        return options.queues


class _Only:
    """A configuration of which one option of ours is seen."""

    def __init__(self, conf: Any, name: str) -> None:
        self._conf, self._name = conf, name

    def get(self, section: str, name: str, **kwargs: Any) -> str | None:
        if section == config.SECTION and name != self._name:
            return None
        value: str | None = self._conf.get(section, name, **kwargs)
        return value

    def getsection(self, section: str) -> Mapping[str, Any]:
        return {}


def malformed(conf: Any) -> Iterator[str]:
    """Each option that the executor refuses, and not only the first. Without the values of variables."""
    environ = {name: value for name, value in os.environ.items() if name == HOME_VARIABLE}
    for name in config.KNOWN:
        try:
            config.load(_Only(conf, name), environ if name == "base_path" else {})
        except SettingsError as error:
            variable = f"AIRFLOW__{config.SECTION}__{name}".upper()
            if variable in os.environ:
                yield f"{sentences.without_value(error)} (it is set by {variable})"
            else:
                yield sentences.without_value(error) if f"${HOME_VARIABLE}" in str(error) else str(error)


def _option(conf: Any, section: str, name: str) -> facts.Option:
    variable = f"AIRFLOW__{section}__{name}".upper()
    value = None if f"{section}.{name}" in SECRET else conf.get(section, name, fallback=None)
    return facts.Option(value, _source(conf, section, name, variable), variable)


def _source(conf: Any, section: str, name: str, variable: str) -> str:
    if any(f"{variable}{suffix}" in os.environ for suffix in ("", "_CMD", "_SECRET")):
        return facts.ENVIRONMENT
    # Asked of the class below: Airflow's own looks at its defaults and its environment, too.
    if any(ConfigParser.has_option(conf, section, f"{name}{suffix}") for suffix in ("", "_cmd", "_secret")):
        return facts.FILE
    return facts.DEFAULT


def _missing_entry_points() -> Iterator[str]:
    for group, name in ENTRY_POINTS:
        found = metadata.entry_points(group=group)
        if not any(point.value.startswith("airflow_plugin.") for point in found if point.name == name):
            yield f"{group}: {name}"


def _why_not_loaded() -> str:
    try:
        from airflow_plugin.executor import AirExecutor  # noqa: F401
    except Exception as error:  # whatever it is, Airflow would not get it either
        return type(error).__name__
    return ""


# --- The execution API ---


def _api_url(conf: Any) -> str:
    from airflow.executors.base_executor import get_execution_api_server_url

    return get_execution_api_server_url(conf)


def without_user(url: str) -> str:
    """An address without user, password and query."""
    try:
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    except ValueError:
        return ""


def _why_no_answer(url: str) -> str:
    """Whether somebody listens there. Who it is, a task finds out."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), CONNECT_TIMEOUT):
            return ""
    except ValueError:
        return "it is no address"
    except OSError as error:
        return error.strerror or type(error).__name__


# --- The database ---


def look_at_database(address: str) -> facts.Database:
    """Whether it can be used, and what it is. Of an error only its kind is told: messages may quote the address."""
    from sqlalchemy.engine import make_url

    try:
        url = make_url(address)
        kind, where = url.get_backend_name(), f"{url.host}:{url.port or 'its port'}" if url.host else url.database
    except Exception as error:
        return facts.Database("sql_alchemy_conn", "an address that makes no sense", type(error).__name__)
    look = _look_at_file if kind == "sqlite" else _look_at_server
    try:
        return facts.Database(kind, str(where), migrated=look(url))
    except FileNotFoundError:
        return facts.Database(kind, str(where), migrated=False)
    except Exception as error:
        return facts.Database(kind, str(where), type(getattr(error, "orig", None) or error).__name__)


_VERSION = "SELECT version_num FROM alembic_version"


def _look_at_file(url: Any) -> bool:
    """Connecting to a file that is not there would make it."""
    import sqlite3

    path = Path(url.database or "")
    if not path.is_file():
        raise FileNotFoundError(path)
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=CONNECT_TIMEOUT)
    try:
        return bool(connection.execute(_VERSION).fetchall())
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return False
        raise
    finally:
        connection.close()


def _look_at_server(url: Any) -> bool:
    from sqlalchemy import create_engine, inspect, pool

    engine = create_engine(url, poolclass=pool.NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT})
    with engine.connect() as connection:
        return inspect(connection).has_table("alembic_version")


def main() -> int:
    """Print the facts; whatever Airflow prints goes elsewhere."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ["_AIRFLOW__AS_LIBRARY"] = "1"  # or importing it would set up logging, and write a configuration
    with answer:
        answer.write(gather().to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
