"""The log of a job for people, and the log of a running task for Airflow's UI."""

from __future__ import annotations

import io
import json
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from air_executor import processes
from air_executor.paths import Home
from airflow_plugin import joblog, tasklog
from airflow_plugin.executor import AirExecutor
from tests.plugin import fleet

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("level", "event", "lines"),
    [
        (
            "info",
            {"event": "hello", "logger": "task", "timestamp": WHEN},
            ["2026-01-02 03:04:05 INFO    task: hello"],
        ),
        ("warning", {"event": "careful", "logger": "x"}, ["WARNING x: careful"]),
        ("info", {"event": "a line", "logger": "task.stdout", "timestamp": WHEN}, ["a line"]),
        ("error", {"event": "oops", "logger": "task.stderr"}, ["oops"]),
        ("info", {"event": "::group::Pre Execute", "logger": "task"}, []),
        ("info", {"event": "n", "rows": 3, "dag_id": "d", "_x": 1, "loc": "a.py:1"}, ["INFO    task: n, rows=3"]),
        ("info", {"event": "n", "error_detail": "odd"}, ["INFO    task: n"]),
    ],
)
def test_a_record_as_lines(level: str, event: dict[str, Any], lines: list[str]) -> None:
    assert list(joblog.lines(level, event)) == lines


def test_a_traceback_ends_with_what_was_raised() -> None:
    frame = {"filename": "dag.py", "lineno": 7, "name": "body"}
    detail = [
        {"exc_type": "ValueError", "exc_value": "bad", "frames": [frame]},
        {"exc_type": "KeyError", "exc_value": "'a'", "frames": []},
    ]
    assert list(joblog.lines("error", {"event": "failed", "error_detail": detail})) == [
        "ERROR   task: failed",
        "KeyError: 'a'",
        "  which led to:",
        '  File "dag.py", line 7, in body',
        "ValueError: bad",
    ]


def test_lines_are_written_at_once() -> None:
    stream = io.StringIO()
    joblog.Echo(stream).write("info", {"event": "hello"})
    assert stream.getvalue() == "INFO    task: hello\n"


def test_what_cannot_be_written_ends_no_task() -> None:
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: PTH123, SIM115
    joblog.Echo(full).write("info", {"event": "hello"})
    with pytest.raises(OSError, match="No space"):
        full.close()
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    joblog.Echo(latin).write("info", {"event": "\u2192 \udcff"})
    assert latin.buffer.getvalue() == b"INFO    task: \\u2192 \\udcff\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("level", "expected"), [("error", True), ("critical", True), ("exception", True), ("info", False), ("odd", False)]
)
def test_what_is_an_error(level: str, expected: bool) -> None:
    assert joblog.is_error(level) is expected


# --- For the UI ---


@pytest.fixture
def log_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Airflow's, in which no other test has left the log of an equally named task."""
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path / "logs"))
    return tmp_path / "logs"


@pytest.fixture
def task(log_folder: Path) -> Any:
    return fleet.make_task()


def on_host(home: Home, name: str, host: str) -> None:
    """Let a job be of a runner on that host."""
    state = home.job(name).state
    content = json.loads(state.read_text())
    content["runner"]["host"] = host
    state.write_text(json.dumps(content))


def test_a_log_that_airflow_finds_itself_is_left_to_it(executor: AirExecutor, home: Home, task: Any) -> None:
    [name] = fleet.hand_over(executor, task)
    assert executor.get_task_log(task.ti, 1) == ([], [])
    with fleet.begin(home, name):
        home.job(name).log("workload").write_text("hello\n")
        assert executor.get_task_log(task.ti, 1) == ([], [])


def test_the_log_of_a_task_on_another_host(executor: AirExecutor, home: Home, task: Any) -> None:
    [name] = fleet.hand_over(executor, task)
    with fleet.begin(home, name):
        on_host(home, name, "far-away")
        home.job(name).log("workload").write_text("one\ntwo\n")
        assert executor.get_task_log(task.ti, 1) == ([f"The job {name} on far-away"], ["one\n", "two\n"])
        assert executor.get_task_log(task.ti, 2) == ([], [])


def test_a_log_in_a_shared_folder_is_not_shown_twice(
    executor: AirExecutor, home: Home, task: Any, log_folder: Path
) -> None:
    [name] = fleet.hand_over(executor, task)
    with fleet.begin(home, name):
        on_host(home, name, "far-away")
        home.job(name).log("workload").write_text("one\n")
        path = log_folder / task.log_path
        path.parent.mkdir(parents=True)
        path.touch()
        assert executor.get_task_log(task.ti, 1) == ([], [])


def test_without_a_job_there_is_no_log(executor: AirExecutor, task: Any) -> None:
    assert executor.get_task_log(task.ti, 1) == ([], [])
    assert executor.get_task_log(SimpleNamespace(), 1) == ([], [])  # type: ignore[arg-type]


def test_of_a_long_log_the_end_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(100)))
    assert tasklog.tail(path, 20) == "line 98\nline 99\n"
    assert tasklog.tail(path).startswith("line 0\n")


def test_this_host_is_known() -> None:
    assert processes.host()
