"""`task add`, `retry --keep-completed`, and results, as somebody types and sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from air_executor.testing import wait_for
from tests.cli.conftest import Cli

pytestmark = pytest.mark.usefixtures("with_runner")


def test_a_task_adds_to_its_own_job(cli: Cli) -> None:
    script = "air-executor task add --id second --after first -- sh -c 'echo 7 > $AIR_EXECUTOR_OUTPUT'"
    task = {"id": "first", "command": "sh", "args": ["-c", script]}
    cli("submit", "--name", "a", "--file", "-", "--wait", stdin=json.dumps({"tasks": [task]}))
    shown = cli.json("show", "a")
    assert [(task["id"], task["status"], task["added_by"]) for task in shown["tasks"]] == [
        ("first", "completed", None),
        ("second", "completed", "first"),
    ]
    assert shown["result"] == {"second": 7} and "second" in cli("logs", "a").stdout
    text = cli("show", "a").stdout
    assert "result.json" in text and "added" in text


def test_tasks_of_a_file_are_added_to_a_job_from_outside(cli: Cli, tmp_path: Path) -> None:
    cli("submit", "--name", "a", "--", "sh", "-c", "until [ -e over ]; do sleep 0.01; done", cwd=tmp_path)
    wait_for(lambda: cli.api.get_job("a").state == "working")
    more = {"tasks": [{"command": "true", "env": {"PASSWORD": "hunter2"}}, {"command": "true", "id": "x"}]}
    added = cli.json("task", "add", "--job", "a", "--file", "-", stdin=json.dumps(more))
    assert added["job_name"] == "a" and len(added["ids"]) == 2 and added["ids"][1] == "x"
    (tmp_path / "over").touch()
    cli("wait", "a")
    assert "hunter2" not in cli("show", "a", "--json").stdout + cli("show", "a").stdout


@pytest.mark.parametrize(
    ("words", "stdin", "message"),
    [
        (["--", "true"], "", "give --job"),
        (["--job", "a", "true"], "", "put -- before the command"),
        (["--job", "a"], "", "give either a command after -- or --file"),
        (["--job", "a", "--file", "-"], '{"tasks": [], "queue": "x"}', "'queue' is for jobs that are submitted"),
        (["--job", "a", "--id", "x", "--file", "-"], '{"tasks": []}', "--id is for one task; - has 0 tasks"),
        (["--job", "a", "--id", "task-1", "--", "true"], "", "two tasks have the id 'task-1'"),
        (["--job", "a", "--after", "nobody", "--", "true"], "", "which is not a task of this job"),
        (["--job", "nobody", "--", "true"], "", "there is no job named nobody"),
    ],
)
def test_bad_input(cli: Cli, words: list[str], stdin: str, message: str) -> None:
    cli("submit", "--name", "a", "--", "sleep", "300")
    wait_for(lambda: cli.api.get_job("a").state == "working")
    done = cli("task", "add", *words, stdin=stdin, code=None)
    assert done.returncode not in (0, 1) and message in done.stderr and "Traceback" not in done.stderr
    cli("cancel", "a", "--wait")


def test_completed_tasks_are_kept(cli: Cli, tmp_path: Path) -> None:
    tasks = [
        {"id": "one", "command": "sh", "args": ["-c", "echo ran >> ran"]},
        {"id": "two", "command": "ls", "args": ["good"]},
    ]
    cli("submit", "--name", "a", "--file", "-", "--wait", stdin=json.dumps({"tasks": tasks}), cwd=tmp_path, code=1)
    (tmp_path / "good").touch()
    cli("retry", "a", "--keep-completed")
    cli("wait", "a")
    assert (tmp_path / "ran").read_text() == "ran\n"
