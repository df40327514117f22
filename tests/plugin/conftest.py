"""Airflow's real objects and a real home, without a scheduler and without a runner.

Airflow reads its home when it is imported, so this file chooses one before anything else does.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="air-plugin-tests-"))
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith(("AIRFLOW__", "AIR_EXECUTOR"))]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": str(AIRFLOW_HOME),
    "AIRFLOW__API_AUTH__JWT_SECRET": "0123456789abcdef" * 4,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__EXECUTOR": "airflow_plugin.AirExecutor",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME / 'airflow.db'}",
    "AIRFLOW__API__BASE_URL": "http://localhost:8080",
}

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Airflow warns of while it is imported is not about us
    from airflow_plugin import workload

    workload.preload()
    importlib.import_module(
        "airflow.settings"
    ).configure_orm()  # which a template has no use for, and the scheduler has
    importlib.import_module("airflow.jobs.scheduler_job_runner")

from airflow.executors import executor_loader  # noqa: E402
from airflow.executors.executor_loader import ExecutorLoader  # noqa: E402

from air_executor import store  # noqa: E402
from air_executor.client import AirExecutorClient  # noqa: E402
from air_executor.paths import Home  # noqa: E402
from airflow_plugin.executor import AirExecutor  # noqa: E402
from tests.http import apart  # noqa: E402
from tests.plugin import fleet  # noqa: E402


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that the executor finds by its option."""
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__BASE_PATH", str(home.root))
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__START_RUNNER", "False")
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__SYNC_WAIT", "0")
    return home


@pytest.fixture
def api(home: Home) -> AirExecutorClient:
    return AirExecutorClient(home.root)


@pytest.fixture
def executor(home: Home) -> AirExecutor:
    """A started executor that starts no runner."""
    return fleet.start_executor()


@pytest.fixture(scope="module")
def servers() -> Iterator[apart.HttpServers]:
    """A process that serves homes over HTTP. Not for longer: tests of Airflow's supervisor end all children of this."""
    with apart.HttpServers() as process:
        yield process


FILES, HTTP = "files", "http"
only_files = pytest.mark.parametrize("way", [FILES], indirect=True)
"""For what is not there over HTTP, or the same."""
only_http = pytest.mark.parametrize("way", [HTTP], indirect=True)


@dataclass(frozen=True)
class Way:
    """How operators, sensors and triggers reach the home."""

    kind: str
    place: str
    """The directory or the address."""

    @property
    def is_http(self) -> bool:
        return self.kind == HTTP

    def target(self) -> dict[str, Any]:
        """What a trigger is given."""
        return {} if self.is_http else {"home": self.place}

    def of(self, stopper: str) -> str:
        """A pattern of who cancelled a job."""
        return rf"token a test \([0-9a-f]{{12}}\): for {stopper}" if self.is_http else stopper


@pytest.fixture(params=[FILES, HTTP])
def way(request: pytest.FixtureRequest, home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Way]:
    """The home, for Airflow's side by its files, or behind an HTTP API alone."""
    if request.param == FILES:
        yield Way(FILES, str(home.root))
        return
    servers: apart.HttpServers = request.getfixturevalue("servers")
    with servers.serving(home) as address:
        extra = {"poll_interval": 0.05}
        connection = {"conn_type": "air_executor", "host": address, "password": apart.token(home), "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_AIR_EXECUTOR_DEFAULT", json.dumps(connection))
        monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__BASE_PATH", str(tmp_path / "not the home"))
        yield Way(HTTP, address)


@pytest.fixture(scope="session")
def database() -> Iterator[Any]:
    """A ready metadata database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from airflow.utils.db import initdb

        initdb()
    yield
    from airflow.settings import dispose_orm

    dispose_orm(do_log=False)


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> type[ExecutorLoader]:
    """Airflow's loader, which remembers what was configured."""
    for name, value in vars(executor_loader).items():
        if name.startswith("_") and isinstance(value, (dict, list)) and not name.startswith("__"):
            monkeypatch.setattr(executor_loader, name, _fresh(value))
    return ExecutorLoader


def _fresh(value: object) -> object:
    fresh = value.copy()  # type: ignore[attr-defined]
    fresh.clear()
    return fresh
