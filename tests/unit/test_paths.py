"""Which home is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor import paths


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a user's home with nothing in them."""
    for name in ("work", "user", "airflow"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return tmp_path


def test_the_order_of_homes(elsewhere: Path) -> None:
    variables = {"AIRFLOW_HOME": str(elsewhere / "airflow")}
    assert paths.find_home(None, variables) == elsewhere / "user" / ".air-executor"
    (elsewhere / "airflow" / ".air-executor").mkdir()
    assert paths.find_home(None, variables) == elsewhere / "airflow" / ".air-executor"
    (elsewhere / "work" / ".air-executor").mkdir()
    assert paths.find_home(None, variables) == elsewhere / "work" / ".air-executor"
    variables["AIR_EXECUTOR_HOME"] = str(elsewhere / "named")
    assert paths.find_home(None, variables) == elsewhere / "named"
    assert paths.find_home("given", variables) == elsewhere / "work" / "given"
    assert paths.find_home("~/mine", variables) == elsewhere / "user" / "mine"


def test_airflow_has_its_home_in_the_users(elsewhere: Path) -> None:
    assert paths.airflow_home({}) == elsewhere / "user" / "airflow"


def test_a_file_is_no_home_that_is_found(elsewhere: Path) -> None:
    (elsewhere / "work" / ".air-executor").touch()
    assert paths.find_home(None, {}) == elsewhere / "user" / ".air-executor"


def test_every_directory_is_inside_the_home() -> None:
    home = paths.Home(Path("/h"))
    assert all(directory == home.root or home.root in directory.parents for directory in home.directories)
    assert home.job("a").log("t") == Path("/h/jobs/a/logs/t.log")
    assert home.component("scheduler") == Path("/h/components/scheduler.json")
