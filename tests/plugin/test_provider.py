"""How the package sits in Airflow: entry points, options, the executor under any of its names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from airflow.executors.executor_loader import ExecutorLoader
from airflow.plugins_manager import AirflowPlugin
from airflow.providers_manager import ProvidersManager

import airflow_plugin
from airflow_plugin import config, provider
from airflow_plugin.executor import AirExecutor
from airflow_plugin.plugin import AirExecutorPlugin


def test_airflow_accepts_the_provider() -> None:
    info = ProvidersManager().providers["air-executor"]
    assert info.data["name"] == "Air-Executor"
    assert "airflow_plugin.AirExecutor" in {name for name, _ in ProvidersManager().executor_without_check}
    assert "air-executor" in ProvidersManager().cli_command_providers


def test_every_option_is_described_and_no_other() -> None:
    section = provider.get_provider_info()["config"]["air_executor"]
    assert set(section["options"]) == set(config.KNOWN)
    for name, option in section["options"].items():
        assert option["description"] and option["version_added"] and option["example"], name


def test_the_defaults_that_airflow_shows_are_those_that_count() -> None:
    from airflow.configuration import conf

    assert conf.getboolean("air_executor", "start_runner") is True
    assert conf.get("air_executor", "base_path", fallback=None) is None


def test_the_package_exports_the_executor() -> None:
    assert airflow_plugin.AirExecutor is AirExecutor
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        airflow_plugin.Nothing  # noqa: B018


def test_reading_the_options_imports_no_airflow() -> None:
    program = "import sys, airflow_plugin.provider as p; p.get_provider_info(); sys.exit('airflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_the_plugin_is_one() -> None:
    AirExecutorPlugin.validate()
    assert issubclass(AirExecutorPlugin, AirflowPlugin) and AirExecutorPlugin.name == "air_executor"


@pytest.mark.parametrize(
    ("configured", "asked"),
    [
        ("airflow_plugin.AirExecutor", "airflow_plugin.AirExecutor"),
        ("LocalExecutor,airflow_plugin.AirExecutor", "AirExecutor"),
        ("LocalExecutor,air:airflow_plugin.AirExecutor", "air"),
        ("airflow_plugin.executor.AirExecutor", "AirExecutor"),
    ],
)
def test_airflow_finds_the_executor(
    loader: type[ExecutorLoader], monkeypatch: pytest.MonkeyPatch, configured: str, asked: str
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", configured)
    executor = loader.load_executor(asked)
    assert isinstance(executor, AirExecutor)
    assert executor.name is not None and asked in (executor.name.alias, executor.name.module_path, "AirExecutor")


def test_what_the_executor_promises() -> None:
    assert AirExecutor.is_local and AirExecutor.is_production and not AirExecutor.serve_logs
    assert AirExecutor.supports_callbacks and AirExecutor.supports_connection_test
    assert AirExecutor.supports_multi_team and AirExecutor.pre_assigns_external_executor_id
    assert AirExecutor.sentry_integration == ""


def test_building_an_executor_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__BASE_PATH", str(tmp_path / "home"))
    executor = AirExecutor()
    assert executor.get_task_log(None, 1) == ([], [])  # type: ignore[arg-type]
    assert not (tmp_path / "home").exists()


def test_a_team_has_a_home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for team in ("RED", "BLUE"):
        monkeypatch.setenv(f"AIRFLOW__{team}___AIR_EXECUTOR__BASE_PATH", str(tmp_path / team))
        monkeypatch.setenv(f"AIRFLOW__{team}___AIR_EXECUTOR__START_RUNNER", "False")
        AirExecutor(team_name=team.lower()).start()
        assert (tmp_path / team / "jobs").is_dir()
