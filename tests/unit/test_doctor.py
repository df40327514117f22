"""Each check finds what is wrong, and says how to put it right."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path
from typing import Any

import pytest

from air_executor import _files, components, doctor, runners
from air_executor.doctor import Level
from air_executor.paths import Home
from tests.unit.test_repair import GONE
from tests.unit.test_runners import SELF, ago, info


def levels(findings: Any) -> dict[str, Level]:
    return {finding.check: finding.level for finding in findings}


@pytest.fixture(autouse=True)
def without_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking it takes seconds; the tests that mean it ask for it."""
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)


def test_a_sound_home(home: Home) -> None:
    runners.write(home, info("r"))
    found = list(doctor.examine(home))
    assert {finding.level for finding in found} <= {Level.OK, Level.WARNING}
    assert levels(found).keys() == {
        *("python", "home", "owner", "permissions", "space", "rename", "flock", "watching", "settings", "runner"),
        *("clocks", "airflow"),
    }
    assert sorted(path.name for path in home.root.iterdir() if path.name.startswith(".")) == []


def test_every_bad_finding_says_what_to_do(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home.config.write_text("x = 1")
    for root in (home.root, tmp_path / "gone", tmp_path / "file", tmp_path / "file" / "below", tmp_path):
        bad = [finding for finding in doctor.examine(Home(root)) if finding.level is not Level.OK]
        assert bad and all(finding.fix and finding.text for finding in bad)


@pytest.mark.parametrize(
    ("prepare", "text", "fix"),
    [
        (lambda root: None, "does not exist", "runner start"),
        (lambda root: root.touch(), "is not a directory", "move it away"),
        (lambda root: root.mkdir(), "is not there", "repair"),
    ],
)
def test_a_home_that_is_none(tmp_path: Path, prepare: Any, text: str, fix: str) -> None:
    prepare(tmp_path / "home")
    (finding,) = doctor.check_home(Home(tmp_path / "home"))
    assert finding.level is Level.PROBLEM and text in finding.text and fix in finding.fix


@pytest.mark.parametrize(
    ("mode", "level"), [(0o700, Level.OK), (0o750, Level.PROBLEM), (0o777, Level.PROBLEM), (0o500, Level.PROBLEM)]
)
def test_permissions(home: Home, mode: int, level: Level) -> None:
    finding = doctor.check_mode(home, mode)
    assert finding.level is level and (level is Level.OK or finding.fix == f"chmod 700 {home.root}")


def test_a_closed_directory(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != home.jobs)
    [finding] = [each for each in doctor.check_home(home) if each.level is Level.PROBLEM]
    assert finding.text == f"{home.jobs} cannot be written to" and finding.fix == f"chmod 700 {home.jobs}"


def test_the_owner(home: Home) -> None:
    assert doctor.check_owner(home, 5, 5).level is Level.OK
    assert "belongs to user 5, you are 6" in doctor.check_owner(home, 5, 6).text


def test_space(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 1 << 62)
    assert "prune" in doctor.check_space(home).fix


def test_a_filesystem_without_locks(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: _files.Lock, *, wait: float = 0.0) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_files.Lock, "acquire", refuse)
    assert levels(doctor.check_files(home)) == {"rename": Level.OK, "flock": Level.PROBLEM}
    monkeypatch.setattr(_files.Lock, "acquire", lambda self, *, wait=0.0: True)
    assert levels(doctor.check_files(home))["flock"] is Level.PROBLEM


def test_a_rename_that_moves_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "move", lambda source, target: True)
    assert levels(doctor.check_files(home))["rename"] is Level.PROBLEM


def test_a_home_that_cannot_be_written_to() -> None:
    (finding,) = doctor.check_files(Home(Path("/proc/self")))
    assert (finding.check, finding.level) == ("write", Level.PROBLEM)


def test_watching_that_does_not_work(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from watchdog.observers import Observer

    def refuse(self: object, *_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(Observer, "start", refuse)
    finding = doctor.check_watching(home)
    assert finding.level is Level.WARNING and "max_user_instances" in finding.fix
    monkeypatch.undo()
    monkeypatch.setattr(doctor, "WATCH_TIMEOUT", 0.05)
    monkeypatch.setattr(Path, "touch", lambda self: None)
    assert doctor.check_watching(home).level is Level.WARNING


def test_settings_that_make_no_sense(home: Home) -> None:
    home.config.write_text("[runner]\nslotz = 1")
    finding = doctor.check_settings(home)
    assert finding.level is Level.PROBLEM and "slotz" in finding.text and str(home.config) in finding.fix


def test_runners(home: Home) -> None:
    runners.write(home, info("dead", GONE))
    assert levels(doctor.check_runners(home))["runner"] is Level.PROBLEM
    runners.write(home, info("r", heartbeat_at=ago(-60)))
    found = list(doctor.check_runners(home))
    assert levels(found) == {"runner": Level.OK, "clocks": Level.PROBLEM}
    assert "of r is 60 s in the future" in found[1].text


# --- Airflow ---

UNSET = (
    "2026-11-21T11:20:36.147163Z [warning  ] section/key [air_executor/base_path] not found in config "
    "[airflow._shared.configuration.parser] loc=parser.py:1455\n"
)
"""What `airflow config get-value` prints to standard output, with exit code 0, of an option that is not set."""


def airflow_says(monkeypatch: pytest.MonkeyPatch, **answers: str | Exception) -> None:
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: object())

    def answer(section: str, name: str) -> str:
        said = answers[name]
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(doctor, "airflow_option", answer)


def test_airflow_uses_this_executor_and_this_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    airflow_says(monkeypatch, executor="airflow_plugin.AirExecutor", base_path=str(home.root))
    assert levels(doctor.check_airflow(home)) == {"airflow": Level.OK, "base_path": Level.OK}
    airflow_says(monkeypatch, executor="airflow_plugin.AirExecutor", base_path="/elsewhere")
    assert levels(doctor.check_airflow(home)) == {"airflow": Level.OK, "base_path": Level.WARNING}


def test_airflow_finds_its_home_without_an_option(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error = subprocess.CalledProcessError(1, "airflow")
    airflow_says(monkeypatch, executor="airflow_plugin.AirExecutor", base_path=error)
    monkeypatch.setenv("AIR_EXECUTOR_HOME", str(home.root))
    assert levels(doctor.check_airflow(home))["base_path"] is Level.OK
    monkeypatch.delenv("AIR_EXECUTOR_HOME")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert str(tmp_path / ".air-executor") in list(doctor.check_airflow(home))[1].text


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("/a/home\n", "/a/home"),
        ("a warning\n/a/home\n", "/a/home"),
        (UNSET, ""),
        (f"{UNSET}/a/home\n", "/a/home"),
        (f"/a/home\n{UNSET}", "/a/home"),
        (f"\x1b[2m{UNSET}", ""),
        ("[2026-11-21 11:20:36,147] {parser.py:1} WARNING - section/key not found\n", ""),
        ("\n", ""),
    ],
)
def test_a_line_of_a_log_is_no_value(answer: str, value: str) -> None:
    assert doctor.value_of(answer) == value


def test_a_base_path_is_judged_as_the_executor_reads_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABOVE", str(home.root.parent))
    airflow_says(monkeypatch, executor="airflow_plugin.AirExecutor", base_path=f"$ABOVE/{home.root.name}")
    assert levels(doctor.check_airflow(home))["base_path"] is Level.OK
    airflow_says(monkeypatch, executor="airflow_plugin.AirExecutor", base_path="relative")
    assert "'relative', which is no absolute path" in list(doctor.check_airflow(home))[1].text


def test_beside_start_dev_no_other_airflow_is_judged(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    airflow_says(monkeypatch, executor="LocalExecutor")
    config = home.root.parent / ".airflow" / "airflow.cfg"
    config.parent.mkdir()
    config.touch()
    assert levels(doctor.check_airflow(home))["airflow"] is Level.WARNING, "nothing says that it runs with this home"
    components.register(home, components.Component("scheduler", SELF))
    (finding,) = doctor.check_airflow(home)
    assert finding.level is Level.OK and str(config) in finding.text


def test_the_configuration_that_was_read_is_named(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    airflow_says(monkeypatch, executor="LocalExecutor")
    monkeypatch.delenv("AIRFLOW_CONFIG", raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    (finding,) = doctor.check_airflow(home)
    assert f"there is no {tmp_path / 'airflow.cfg'}" in finding.text
    (tmp_path / "airflow.cfg").touch()
    (finding,) = doctor.check_airflow(home)
    assert finding.text.endswith(f" and {tmp_path / 'airflow.cfg'})")
    monkeypatch.setenv("AIRFLOW_CONFIG", str(tmp_path / "other.cfg"))
    assert "other.cfg" in next(iter(doctor.check_airflow(home))).text


def test_airflow_uses_another_executor_or_does_not_answer(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    airflow_says(monkeypatch, executor="LocalExecutor")
    (finding,) = doctor.check_airflow(home)
    assert finding.fix == "export AIRFLOW__CORE__EXECUTOR=airflow_plugin.AirExecutor"
    airflow_says(monkeypatch, executor=subprocess.TimeoutExpired("airflow", 1))
    (finding,) = doctor.check_airflow(home)
    assert finding.level is Level.WARNING and "cannot be read" in finding.text


def test_airflows_command_is_asked_without_leaving_a_configuration(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a stand-in for Python that answers as Airflow does: warnings first, and a new file in its home."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ntouch "$AIRFLOW_HOME/airflow.cfg"\necho a warning\necho "$6 of $5"\n')
    python.chmod(0o755)
    monkeypatch.setattr(doctor.sys, "executable", str(python))
    (tmp_path / "airflow").mkdir()
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    assert doctor.airflow_option("core", "executor") == "executor of core"
    assert list((tmp_path / "airflow").iterdir()) == []
    (tmp_path / "airflow" / "airflow.cfg").touch()
    assert doctor.airflow_option("core", "executor") == "executor of core"
