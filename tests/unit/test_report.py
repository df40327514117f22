"""What became of a job, said in a few words or lines, also of one of which little is left."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from air_executor import _files, held, model, processes, report, store
from air_executor.client import AirExecutorClient
from air_executor.errors import CorruptFileError, NotFoundError
from air_executor.model import Exit, ExitKind, JobState, Task, TaskStatus
from air_executor.paths import Home
from tests.unit.conftest import Submit, finish

End = Callable[..., None]


@pytest.fixture
def end(home: Home, submit: Submit) -> End:
    """A job `a` with the tasks given by status, which ended in the order in which they are given."""

    def end(state: JobState = JobState.FAILED, reason: str = "task two: exit code 3", **tasks: dict[str, Any]) -> None:
        submit("a", [Task("true", id=task) for task in tasks])
        with held.HeldJob.acquire(home, "a") as job:
            job.start(processes.identify(1, "test"), by="runner test")
            by_id = {task.id: task for task in job.tasks}
            for task_id, changes in tasks.items():
                _end_task(job, by_id[task_id], **changes)
            kind = ExitKind.CANCELLED if state is JobState.CANCELLED else ExitKind.EXIT_CODE
            job.finish(state, Exit(kind, reason), by="runner test", used={"wall_s": 1.5})

    return end


def _end_task(job: held.HeldJob, task: Task, status: str, log: bytes | None = None, **changes: Any) -> None:
    if status not in ("skipped", "pending"):
        job.set_task(task, TaskStatus.RUNNING)
    if log is not None:
        job.paths.log(task.id).write_bytes(log)
    if status not in ("running", "pending"):
        job.set_task(task, TaskStatus(status), **changes)


def test_an_outcome_is_plain_json(home: Home, api: AirExecutorClient, submit: Submit) -> None:
    job = submit("a", [Task("true", id="one"), Task("true", id="two")])
    finish(home, "a")
    home.job("a").result.write_text('{"one": {"rows": 3}}')
    outcome = api.outcome("a")
    assert json.loads(json.dumps(outcome)) == outcome == api.outcome(job.id)
    assert set(outcome) == {"state", "job", "tasks", "result", "usage"}
    assert (outcome["state"], outcome["job"], outcome["result"]) == ("completed", "a", {"one": {"rows": 3}})
    assert outcome["tasks"] == {"one": "skipped", "two": "skipped"}


def test_an_outcome_of_every_kind_of_task(api: AirExecutorClient, end: End) -> None:
    end(
        one={"status": "completed"},
        two={"status": "failed", "exit_code": 3},
        three={"status": "skipped"},
        four={"status": "cancelled"},
        five={"status": "running"},
    )
    outcome = api.outcome("a")
    assert outcome["tasks"] == {
        "one": "completed",
        "two": "failed",
        "three": "skipped",
        "four": "cancelled",
        "five": "failed",
    }
    assert outcome["usage"]["wall_s"] == 1.5 and outcome["result"] == {}


def test_an_outcome_of_a_job_that_is_not_over(home: Home, api: AirExecutorClient, submit: Submit) -> None:
    submit("a", [Task("true", id="one"), Task("true", id="two")])
    with held.HeldJob.acquire(home, "a") as job:
        job.set_task(job.tasks[0], TaskStatus.RUNNING)
        assert api.outcome("a") == {
            "state": "waiting",
            "job": "a",
            "tasks": {"one": "running", "two": "pending"},
            "result": {},
            "usage": {},
        }
    assert api.failure("a") == "the job a is waiting\nof 2 tasks: 1 pending, 1 running"


def test_no_job(api: AirExecutorClient) -> None:
    for call in (api.outcome, api.failure):
        with pytest.raises(NotFoundError, match="no job named nobody"):
            call("nobody")


def test_a_damaged_result_is_said(home: Home, api: AirExecutorClient, end: End) -> None:
    end(two={"status": "failed"})
    (home.job("a").root / "result.json").write_text("[")
    with pytest.raises(CorruptFileError, match=r"result\.json"):
        api.outcome("a")
    assert api.failure("a").startswith("the job a failed")


def test_a_failure_names_the_task_its_code_and_the_end_of_its_log(home: Home, api: AirExecutorClient, end: End) -> None:
    lines = [f"line {number}" for number in range(1, 31)]
    end(
        one={"status": "completed"},
        two={"status": "failed", "exit_code": 3, "error": "out of cheese", "log": "\n".join([*lines, ""]).encode()},
        three={"status": "skipped"},
    )
    assert api.failure("a").splitlines() == [
        "the job a failed: task two: exit code 3",
        "task two: out of cheese (exit code 3)",
        "of 3 tasks: 1 completed, 1 failed, 1 skipped",
        f"the end of {home.job('a').log('two')}:",
        *(f"    {line}" for line in lines[10:]),
    ]
    assert api.failure("a", lines=2).splitlines()[4:] == ["    line 29", "    line 30"]
    assert len(api.failure("a", lines=0).splitlines()) == 3


@pytest.mark.parametrize(
    ("tasks", "culprit"),
    [
        ({"b": ("failed", "2026-01-01T00:00:02Z"), "a": ("failed", "2026-01-01T00:00:01Z")}, "a"),
        ({"a": ("cancelled", "2026-01-01T00:00:01Z"), "b": ("failed", "2026-01-01T00:00:02Z")}, "b"),
        ({"a": ("completed", "2026-01-01T00:00:01Z"), "b": ("cancelled", "2026-01-01T00:00:02Z")}, "b"),
        ({"a": ("failed", None), "b": ("failed", "2026-01-01T00:00:02Z")}, "b"),
        ({"a": ("skipped", "2026-01-01T00:00:02Z")}, None),
        ({}, None),
    ],
)
def test_which_task_it_was(tasks: dict[str, tuple[str, str | None]], culprit: str | None) -> None:
    facts = {
        task: {"status": status, "completed_at": ended, "started_at": ended} for task, (status, ended) in tasks.items()
    }
    assert report.find_culprit(facts) == culprit


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"exit_code": 3, "error": "exit code 3"}, "exit code 3"),
        ({"exit_code": 3, "error": "no disk"}, "no disk (exit code 3)"),
        ({"signal": 9}, "killed by SIGKILL (9)"),
        ({"signal": 9, "error": "killed by SIGKILL (9)"}, "killed by SIGKILL (9)"),
        ({"error": "the command is not there"}, "the command is not there"),
        ({}, "failed"),
        ({"exit_code": "3", "signal": [], "error": {}}, "failed"),
    ],
)
def test_why_a_task_failed(facts: dict[str, Any], said: str) -> None:
    assert report._why({"status": "failed", **facts}) == said


def test_a_cancelled_job_shows_what_was_stopped(api: AirExecutorClient, end: End) -> None:
    end(
        JobState.CANCELLED,
        "cancelled by me",
        one={"status": "cancelled", "error": "cancelled by me", "log": b"working\n"},
        two={"status": "pending"},
    )
    assert api.failure("a").splitlines()[:3] == [
        "the job a was cancelled: cancelled by me",
        "task one: cancelled by me",
        "of 2 tasks: 2 cancelled",
    ]
    assert api.failure("a").endswith("\n    working")


def test_what_the_job_says_of_its_task_is_said_once(api: AirExecutorClient, end: End) -> None:
    end(two={"status": "failed", "exit_code": 3}, one={"status": "completed"}, reason="task two: exit code 3")
    assert api.failure("a", lines=0).splitlines() == [
        "the job a failed: task two: exit code 3",
        "of 2 tasks: 1 completed, 1 failed",
    ]


def test_a_job_of_which_nothing_started(home: Home, api: AirExecutorClient, submit: Submit) -> None:
    submit("a")
    finish(home, "a", JobState.FAILED)
    assert api.failure("a") == "the job a failed: failed in a test"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"tasks": 3}', '{"job_name": "b", "tasks": []}', None])
def test_tasks_are_known_from_the_events_where_their_file_is_damaged(
    home: Home, api: AirExecutorClient, end: End, damage: str | None
) -> None:
    end(one={"status": "completed"}, two={"status": "failed", "exit_code": 3, "log": b"the end\n"})
    home.job("a").tasks.unlink()
    if damage is not None:
        home.job("a").tasks.write_text(damage)
    assert api.outcome("a")["tasks"] == {"one": "completed", "two": "failed"}
    assert "task two: exit code 3" in api.failure("a") and "    the end" in api.failure("a")


def test_entries_that_make_no_sense_are_passed_over(home: Home, api: AirExecutorClient, end: End) -> None:
    end(two={"status": "failed"})
    odd = [1, {"id": 3, "status": "failed"}, {"id": "x", "status": []}, {"id": "../x", "status": "failed"}]
    entries = [*odd, {"id": "two", "status": "failed"}]
    home.job("a").tasks.write_text(json.dumps({"tasks": entries}))
    assert api.outcome("a")["tasks"] == {"two": "failed"}


def test_nothing_is_left_but_a_state(home: Home, api: AirExecutorClient, end: End) -> None:
    end(two={"status": "failed"})
    home.job("a").tasks.unlink()
    home.job("a").events.unlink()
    home.job("a").events.mkdir()
    assert api.outcome("a")["tasks"] == {}
    assert api.failure("a") == "the job a failed: task two: exit code 3"


def test_a_damaged_state(home: Home, api: AirExecutorClient, end: End) -> None:
    end(two={"status": "failed"})
    home.job("a").state.write_text("")
    assert api.outcome("a")["state"] == "failed"
    assert "damaged: " in api.failure("a")


# --- Logs ---


def tail(path: Path, data: bytes, lines: int = 20) -> list[str]:
    path.write_bytes(data)
    return report.read_tail(path, lines)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"one", ["one"]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\n\n", ["one", ""]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b" 10%\r 50%\r100%\n", ["100%"]),
        (b"\x1b[31mred\x1b[0m\n", ["red"]),
        (b"a\tb\n", ["a\tb"]),
        (b"\xff\xfe\x00\x07\n", ["\ufffd" * 4]),
        ("grün\n".encode(), ["grün"]),
        ("a\u2028b\u202ec\n".encode(), ["a\ufffdb\ufffdc"]),
    ],
)
def test_lines_are_shown_as_text(tmp_path: Path, data: bytes, lines: list[str]) -> None:
    assert tail(tmp_path / "log", data) == lines


def test_long_lines_are_cut(tmp_path: Path) -> None:
    (line,) = tail(tmp_path / "log", b"x" * 5000)
    assert line == "x" * report.LINE_LENGTH + "... (5000 characters)"


def test_all_that_is_shown_is_bounded(tmp_path: Path) -> None:
    shown = tail(tmp_path / "log", b"\n".join(b"%02d" % number + b"x" * 1500 for number in range(40)))
    assert shown[0] == "..." and shown[-1].startswith("39") and len("\n".join(shown)) <= report.TAIL_LENGTH + 10
    assert [line[:2] for line in shown[1:]] == [str(number) for number in range(40 - len(shown) + 1, 40)]


def test_only_the_end_of_a_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: (read.append(size), pread(fd, size, at))[1])
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(2**33)
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast but one\nlast\n")
    assert report.read_tail(path, 2) == ["last but one", "last"]
    assert read == [report.READ_LENGTH]


def test_a_part_of_a_line_is_left_out(tmp_path: Path) -> None:
    data = b"\n".join(b"%06d" % number for number in range(report.READ_LENGTH // 3))
    shown = tail(tmp_path / "log", data, lines=10**9)
    assert all(len(line) == 6 for line in shown[1:])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "it has no log"),
        (lambda path: path.touch(), "it wrote nothing"),
        (lambda path: path.mkdir(), "cannot be read: it is not a file"),
        (os.mkfifo, "cannot be read: it is not a file"),
    ],
)
def test_logs_that_are_none(
    home: Home, api: AirExecutorClient, end: End, make: Callable[[Path], None], said: str
) -> None:
    end(two={"status": "failed"})
    make(home.job("a").log("two"))
    assert api.failure("a").endswith(said)


def test_logs_that_were_removed(home: Home, api: AirExecutorClient, end: End) -> None:
    end(two={"status": "failed"})
    home.job("a").logs.rmdir()
    assert api.failure("a").endswith("it has no log")


def test_many_tasks_are_not_made_into_objects(
    home: Home, api: AirExecutorClient, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [{"id": f"t{number}", "command": "true", "status": "completed"} for number in range(10_000)]
    submit("a")
    finish(home, "a", JobState.FAILED)
    tasks[7000] |= {"status": "failed", "completed_at": "2026-01-01T00:00:00.000000Z"}
    _files.replace_object(home.job("a").tasks, {"schema": 1, "job_name": "a", "tasks": tasks})
    made: list[object] = []
    from_dict = model.from_dict
    monkeypatch.setattr(model, "from_dict", lambda kind, data: (made.append(kind), from_dict(kind, data))[1])
    assert len(api.outcome("a")["tasks"]) == 10_000
    assert "task t7000" in api.failure("a") and "of 10000 tasks: 9999 completed, 1 failed" in api.failure("a")
    assert Task not in made


def test_nothing_secret_is_said(home: Home, api: AirExecutorClient) -> None:
    secret = "hunter2"
    task = Task("sh", ["-c", secret], id="one", env={"TOKEN": secret})
    store.submit(home, store.Submission(model.Job("a"), [task], b'{"token": "hunter2"}'))
    with held.HeldJob.acquire(home, "a") as job:
        job.start(processes.identify(1, "test"), by="runner test")
        _end_task(job, job.tasks[0], "failed", exit_code=1)
        job.finish(JobState.FAILED, Exit(ExitKind.EXIT_CODE, "exit code 1"), by="runner test")
    assert secret not in json.dumps(api.outcome("a")) + api.failure("a")
