"""How Airflow is set up: airflow.cfg, secrets, environment, database.

Everything is in airflow.cfg and not in variables, so that `AIRFLOW_HOME=.airflow airflow ...` in any shell means the
same installation, and the secrets are not in the environment of every task.
"""

from __future__ import annotations

import base64
import collections
import configparser
import importlib.metadata
import io
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from air_executor import _files
from dev.checkout import Checkout, Ports
from dev.errors import DevError

USER = "admin"
EXECUTOR = "airflow_plugin.AirExecutor"

MARK = "AIR_EXECUTOR_STARTED_IN"
"""In the environment of everything that is started: the checkout, so that it can be found whoever its parent is."""

Settings = dict[str, dict[str, str]]

IDLE_SLEEP = ("scheduler", "scheduler_idle_sleep_time")
TASTE = {
    ("core", "executor"),
    ("core", "dags_folder"),
    ("core", "load_examples"),
    ("core", "test_connection"),
    ("dag_processor", "refresh_interval"),
    ("dag_processor", "min_file_process_interval"),
    IDLE_SLEEP,
}
"""Options that are set here and that a variable may change. On the others depends whether the components find each
other, and that nothing outside of the checkout is used."""


def prepare(checkout: Checkout, ports: Ports) -> dict[str, str]:
    """Write the configuration and bring the database up to date; returns the environment of all components."""
    settings = _settings(checkout, ports, _secrets(checkout.secrets))
    apply_choices(settings, os.environ)
    _files.replace(checkout.config, _render(settings).encode())
    password(checkout)
    environment = _environment(checkout, settings)
    _migrate(checkout, environment)
    return environment


def apply_choices(settings: Settings, variables: Mapping[str, str]) -> None:
    """Put what variables choose into the settings, so that the file says what runs, in every shell."""
    chosen = {each: value for each in TASTE if (value := variables.get(_variable(*each)))}
    for (section, option), value in chosen.items():
        settings[section][option] = _absolute(value) if option == "dags_folder" else value
    if IDLE_SLEEP not in chosen and not _waits(settings["core"]["executor"]):
        del settings["scheduler"]["scheduler_idle_sleep_time"]


def unused(checkout: Checkout, variables: Mapping[str, str]) -> list[str]:
    """The names of variables that would take from the checkout what must be its own, and are therefore not used."""
    own = _own_variables(_settings(checkout, Ports(0), collections.defaultdict(str)))
    elsewhere = {name for name, place in _places(checkout).items() if variables.get(name, place) != place}
    return sorted(own & variables.keys() | elsewhere)


def password(checkout: Checkout) -> str:
    """The user's password, made up once."""
    try:
        return str(_files.read_object(checkout.passwords)[USER])
    except (FileNotFoundError, KeyError):
        made = secrets.token_urlsafe(12)
        _files.replace(checkout.passwords, json.dumps({USER: made}).encode())
        return made


def _secrets(path: Path) -> dict[str, str]:
    """The same for all components and for every start, so that tokens and sessions stay valid."""
    try:
        return _files.read_object(path)
    except FileNotFoundError:
        made = {name: secrets.token_urlsafe(32) for name in ("jwt_secret", "secret_key")}
        made["fernet_key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        _files.replace_object(path, made)
        return made


def _settings(checkout: Checkout, ports: Ports, keys: Mapping[str, str]) -> Settings:
    return {
        "core": {
            "executor": EXECUTOR,
            "dags_folder": str(checkout.dags),
            "load_examples": "False",
            "test_connection": "Enabled",
            "fernet_key": keys["fernet_key"],
            "execution_api_server_url": f"http://127.0.0.1:{ports.web}/execution/",
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": str(checkout.passwords),
        },
        "database": {"sql_alchemy_conn": f"sqlite:///{checkout.database}"},
        "api": {
            # Not a name: it may stand for two addresses, and only one of them is listened on.
            "host": "127.0.0.1",
            "port": str(ports.web),
            "base_url": ports.url,
            "secret_key": keys["secret_key"],
        },
        "api_auth": {"jwt_secret": keys["jwt_secret"]},
        "logging": {
            "base_log_folder": str(checkout.logs),
            "worker_log_server_port": str(ports.worker_logs),
            "trigger_log_server_port": str(ports.triggerer_logs),
        },
        # Whoever develops wants to see an edited DAG soon; the default is minutes.
        "dag_processor": {"refresh_interval": "10", "min_file_process_interval": "10"},
        # AirExecutor waits instead, and wakes the scheduler at once when a task has ended.
        "scheduler": {"scheduler_idle_sleep_time": "0"},
        # The runner here is a component like any other, and started again if it dies.
        "air_executor": {"base_path": str(checkout.home), "start_runner": "False"},
    }


def _render(settings: Settings) -> str:
    parser = configparser.RawConfigParser()
    for section, options in settings.items():
        parser[section] = {name: value.replace("%", "%%") for name, value in options.items()}
    text = io.StringIO()
    text.write(
        "# Written by start-dev.sh at every start. To change an option, set AIRFLOW__SECTION__OPTION instead;\n"
        "# it says which it does not use, as ports, paths, database and secrets belong to this directory.\n\n"
    )
    parser.write(text)
    return text.getvalue()


def _variable(section: str, option: str) -> str:
    return f"AIRFLOW__{section}__{option}".upper()


def _absolute(path: str) -> str:
    """Tasks run elsewhere, where a relative path would mean another directory."""
    return str(Path(os.path.expandvars(path)).expanduser().absolute())


def _waits(executors: str) -> bool:
    """Whether one of them waits in the scheduler's place; without it, the scheduler would never rest."""
    return any(each.rpartition(":")[2].strip() == EXECUTOR for each in executors.replace(";", ",").split(","))


def _own_variables(settings: Settings) -> set[str]:
    return {
        _variable(section, option) + suffix
        for section, options in settings.items()
        for option in options
        if (section, option) not in TASTE
        for suffix in ("", "_CMD", "_SECRET")
    }


def _places(checkout: Checkout) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(checkout.airflow_home),
        "AIRFLOW_CONFIG": str(checkout.config),
        "AIR_EXECUTOR_HOME": str(checkout.home),
    }


def _environment(checkout: Checkout, settings: Settings) -> dict[str, str]:
    """This process's environment, without what would override the file: that has what was chosen."""
    overriding = _own_variables(settings) | {_variable(*each) for each in TASTE}
    environment = {name: value for name, value in os.environ.items() if name not in overriding}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    programs = str(Path(sys.executable).parent)
    return {
        **environment,
        **_places(checkout),
        MARK: str(checkout.root),
        "SPT_NOENV": "1",  # or setproctitle writes over the environment that others see
        "PATH": os.pathsep.join([programs, environment.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        # The components talk to each other here, never through a proxy.
        **{name: _with_localhost(environment.get(name, "")) for name in ("no_proxy", "NO_PROXY")},
    }


def _with_localhost(hosts: str) -> str:
    return ",".join(dict.fromkeys([*filter(None, hosts.split(",")), "127.0.0.1", "localhost"]))


def _migrate(checkout: Checkout, environment: dict[str, str]) -> None:
    """Skipped if this version of Airflow has done it, as it takes seconds to find out that there is nothing to do."""
    version = importlib.metadata.version("apache-airflow-core")
    last = checkout.migrated.read_text().strip() if checkout.migrated.exists() else ""
    if last == version and checkout.database.exists():
        return
    log = checkout.log("migrate")
    with log.open("wb") as output:
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        code = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ).returncode
    if code != 0:
        raise DevError(f"airflow db migrate failed (exit code {code}): see {log}")
    _files.replace(checkout.migrated, version.encode())
