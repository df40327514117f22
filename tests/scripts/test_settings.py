"""Which variables change the Airflow that start-dev.sh sets up, and which do not."""

from __future__ import annotations

import configparser
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
LOCAL = {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor"}
BOTH = "LocalExecutor,air:airflow_plugin.AirExecutor"
IDLE_SLEEP = "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME"


class Prepared:
    """What components are started with."""

    def __init__(self, settings: ModuleType, root: Path) -> None:
        from dev.checkout import Checkout, Ports

        self.checkout = Checkout(root)
        self.checkout.airflow_home.mkdir(exist_ok=True)
        self.environment = settings.prepare(self.checkout, Ports(8080))
        self._file = configparser.ConfigParser()
        self._file.read(self.checkout.config)

    def option(self, section: str, name: str) -> str | None:
        """As Airflow has it: variables win."""
        in_file = self._file.get(section, name, fallback=None)
        return self.environment.get(f"AIRFLOW__{section}__{name}".upper(), in_file)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from dev import settings

    # A migration takes seconds, and what it does has tests of its own.
    monkeypatch.setattr(settings, "_migrate", lambda *_: None)
    return settings


def _prepare(settings: ModuleType, monkeypatch: pytest.MonkeyPatch, root: Path, variables: dict[str, str]) -> Prepared:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Prepared(settings, root)


@pytest.mark.parametrize(
    ("variables", "executor", "idle_sleep"),
    [
        ({}, "airflow_plugin.AirExecutor", "0"),
        ({"AIRFLOW__CORE__EXECUTOR": ""}, "airflow_plugin.AirExecutor", "0"),
        ({"AIRFLOW__CORE__EXECUTOR": BOTH}, BOTH, "0"),
        (LOCAL, "LocalExecutor", None),
        ({**LOCAL, IDLE_SLEEP: "0.2"}, "LocalExecutor", "0.2"),
        ({IDLE_SLEEP: "1"}, "airflow_plugin.AirExecutor", "1"),
    ],
)
def test_executor_of_choice(
    settings: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    executor: str,
    idle_sleep: str | None,
) -> None:
    prepared = _prepare(settings, monkeypatch, tmp_path, variables)
    assert prepared.option("core", "executor") == executor
    assert prepared.option("scheduler", "scheduler_idle_sleep_time") == idle_sleep
    assert settings.unused(prepared.checkout, variables) == []


def test_relative_directory_of_dags(settings: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    prepared = _prepare(settings, monkeypatch, tmp_path, {"AIRFLOW__CORE__DAGS_FOLDER": "mine"})
    assert prepared.option("core", "dags_folder") == str(tmp_path / "mine")


def test_options_that_are_not_set_here_reach_the_components(
    settings: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prepared = _prepare(settings, monkeypatch, tmp_path, {"AIRFLOW__CORE__PARALLELISM": "7"})
    assert prepared.option("core", "parallelism") == "7"


def test_what_belongs_to_the_checkout_stays_and_is_told(
    settings: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables = {
        "AIRFLOW_HOME": "/elsewhere",
        "AIRFLOW__API__PORT": "1",
        "AIRFLOW__CORE__FERNET_KEY_CMD": "echo key",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////elsewhere.db",
        "AIR_EXECUTOR_HOME": str(tmp_path / ".air-executor"),
    }
    prepared = _prepare(settings, monkeypatch, tmp_path, {**variables, **LOCAL})
    expected = sorted(variables.keys() - {"AIR_EXECUTOR_HOME"})  # that is where it is anyway
    assert settings.unused(prepared.checkout, {**variables, **LOCAL}) == expected
    assert prepared.option("api", "port") == "8080"
    assert prepared.option("database", "sql_alchemy_conn") == f"sqlite:///{prepared.checkout.database}"
    assert prepared.environment["AIRFLOW_HOME"] == str(tmp_path / ".airflow")
    assert "AIRFLOW__CORE__FERNET_KEY_CMD" not in prepared.environment
