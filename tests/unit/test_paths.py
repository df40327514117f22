"""Which home is meant."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor import paths, processes
from air_executor.paths import Home


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


def kept(use: Callable[[int], object]) -> int:
    """Bytes that are kept of each of many uses."""
    count = 500
    use(0)
    tracemalloc.start()
    for number in range(1, count + 1):
        use(number)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used // count


def test_the_names_of_jobs_are_not_kept(tmp_path: Path) -> None:
    home = Home(tmp_path)

    def use(number: int) -> object:
        job = home.job(f"a-job-with-number-{number}")
        marker = home.queue("default") / f"marker-{number}"
        return str(job.state.with_name(f"temporary-{number}")), marker.exists(), marker.relative_to(home.spool).parts

    assert kept(use) < 20


def test_the_numbers_of_processes_are_not_kept() -> None:
    assert kept(lambda number: processes.start_time(2**22 + number)) < 20
    assert kept(lambda number: processes.carries(2**22 + number, "A=1")) < 20


def test_the_paths_of_a_home_are_paths(tmp_path: Path) -> None:
    path = Home(tmp_path / "a" / "." / "b").job("x").state
    assert path == tmp_path / "a" / "b" / "jobs" / "x" / "state.json" and hash(path) == hash(Path(str(path)))
    assert path.relative_to(tmp_path).parts == ("a", "b", "jobs", "x", "state.json")
    assert path.parent.parent.name == "jobs" and isinstance(path, Path)
