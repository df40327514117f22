"""`list`, `show`, `logs`, `status`, `doctor` and the rest, as far as they need no runner."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

import air_executor
from tests.cli.conftest import SCRIPT, Cli
from tests.unit.conftest import finish


@pytest.fixture
def jobs(cli: Cli) -> Cli:
    cli("submit", "--name", "alpha", "--label", "n=1", "--env", "PASSWORD=hunter2", "--", "echo", "a")
    cli("submit", "--name", "beta", "--label", "n=1", "--queue", "big", "--", "echo", "b")
    cli("submit", "--name", "gamma", "--", "echo", "c")
    finish(cli.home, "gamma", air_executor.JobState.FAILED)
    return cli


def names(cli: Cli, *words: str) -> list[str]:
    return [job["name"] for job in cli.json("list", *words)]


def on_terminal(cli: Cli, *words: str, columns: int = 80, **env: str) -> str:
    """What a command writes to a terminal of that width."""
    reader, writer = pty.openpty()
    full = {**cli.env, "TERM": "xterm", "COLUMNS": str(columns), **env}
    if not full["NO_COLOR"]:
        del full["NO_COLOR"]
    with subprocess.Popen([SCRIPT, *words], stdout=writer, stderr=writer, stdin=writer, env=full, cwd=cli.cwd) as child:
        os.close(writer)
        written = b""
        while True:
            try:
                written += (piece := os.read(reader, 65536))
            except OSError:  # Linux says so that the other end is closed
                break
            if not piece:
                break
        child.wait(30)
    os.close(reader)
    return written.decode()


# --- list ---


def test_lists_are_filtered(jobs: Cli) -> None:
    assert names(jobs) == ["gamma", "beta", "alpha"]
    assert names(jobs, "--state", "waiting") == ["beta", "alpha"]
    assert names(jobs, "--state", "waiting", "--state", "failed", "--queue", "default") == ["gamma", "alpha"]
    assert names(jobs, "--label", "n=1", "--queue", "big") == ["beta"]
    assert names(jobs, "--label", "n=2") == names(jobs, "--trigger", "executor") == []
    assert names(jobs, "--since", "1h") == ["gamma", "beta", "alpha"] and names(jobs, "--since", "0") == []


def test_a_limit_is_said(jobs: Cli) -> None:
    done = jobs("list", "--limit", "2")
    assert len(done.stdout.splitlines()) == 3 and "there are more; --all shows them all" in done.stderr
    assert jobs("list", "--limit", "2", "--all").stderr == jobs("list", "--limit", "3").stderr == ""


def test_a_pipe_gets_everything_plain(cli: Cli) -> None:
    long = "airflow-" + "x" * 190
    cli("submit", "--name", long, "--", "true")
    lines = cli("list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "QUEUE", "CREATED", "TOOK", "EXIT"]
    assert lines[1].split()[:3] == [long, "waiting", "default"] and "\x1b" not in lines[1]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_gets_what_fits_in_colours(cli: Cli, columns: int) -> None:
    cli("submit", "--name", "airflow-" + "x" * 188 + "-end", "--", "true")
    text = on_terminal(cli, "list", columns=columns)
    assert "\x1b[" in text and "-end" in text
    plain = on_terminal(cli, "list", columns=columns, NO_COLOR="1")
    assert "\x1b[" not in plain
    assert max(map(len, plain.splitlines())) == columns


def test_a_label_cannot_take_over_the_terminal(cli: Cli) -> None:
    cli("submit", "--name", "a", "--label", "x=\x1b[2J\nstate  completed", "--", "true")
    assert "\\x1b[2J\\x0astate  completed" in cli("show", "a").stdout


# --- show ---


def test_a_job_is_shown_without_its_environment(jobs: Cli) -> None:
    text = jobs("show", "alpha").stdout
    for word in ("alpha", "waiting", "n=1", "echo a", "submitted", str(jobs.home.job("alpha").root)):
        assert word in text
    facts = jobs.json("show", "alpha")
    assert "no runner serves the queue" in facts["waits"] and "waits " in text
    assert facts.keys() == {"job", "tasks", "events", "result", "slurm", "paused", "waits"}
    assert "env" not in facts["tasks"][0]
    assert "hunter2" not in text + json.dumps(facts)


def test_why_a_job_failed_is_shown(jobs: Cli) -> None:
    text = jobs("show", "gamma").stdout
    assert "exit_code" in text and "failed in a test" in text and "(by runner test)" in text


def test_a_job_is_found_by_the_start_of_its_name_and_by_its_id(jobs: Cli) -> None:
    job_id = jobs.api.get_job("beta").id
    for text in ("b", "be", "beta", job_id):
        assert jobs.json("show", text)["job"]["name"] == "beta"


def test_a_job_of_very_many_tasks_is_cut(cli: Cli) -> None:
    content = {"job_name": "a", "tasks": [{"command": "true"} for _ in range(10_000)]}
    cli("submit", "--file", "-", stdin=json.dumps(content))
    done = cli("show", "a")
    assert len(done.stdout.splitlines()) < 150 and "it has 10000 tasks" in done.stderr
    assert "task-10000" in cli("show", "a", "--all").stdout
    assert len(cli.json("show", "a")["tasks"]) == 10_000


@pytest.fixture
def limited(cli: Cli) -> Cli:
    """A job of two tasks with limits that failed, and said more about it than one wants to read in a list."""
    tasks = [
        {"id": "fetch", "command": "true", "timeout": 60, "memory_mb": 100, "retries": 2},
        {"id": "count-the-orders", "command": "echo", "args": ["x" * 200], "dependencies": ["fetch"]},
    ]
    content = {"job_name": "airflow-" + "x" * 60, "timeout": 600, "output_mb": 5, "tasks": tasks}
    cli("submit", "--file", "-", stdin=json.dumps(content))
    finish(cli.home, content["job_name"], air_executor.JobState.FAILED, "no such order: " + "word " * 100 + "\nmore")
    return cli


def test_limits_and_waits_are_shown(limited: Cli) -> None:
    text = limited("show", "airflow").stdout
    for words in ("timeout 10m00s, output 5 MiB", "limits: timeout 1m00s, memory 100 MiB, retries 2", "waited  "):
        assert words in text


@pytest.mark.parametrize("columns", [60, 80])
def test_a_narrow_terminal_gets_lines_that_fit(limited: Cli, columns: int) -> None:
    """All but those with what one copies: a name, a path."""
    text = on_terminal(limited, "show", "airflow", columns=columns, NO_COLOR="1")
    long = [line for line in text.splitlines() if len(line) > columns]
    assert all(line.startswith(("name ", "id ", "directory ")) for line in long), long
    assert "fetch" in text and "count-the-orders" in text and text.split().count("word") % 100 == 0, "nothing is cut"
    listed = on_terminal(limited, "list", columns=columns, NO_COLOR="1").splitlines()
    assert max(map(len, listed)) <= columns and listed[1].split()[1] == "failed"
    assert len(listed[1].split()[0]) >= 24, "a name says which job it is also where there is little room"


def test_a_failure_is_told_once_and_in_short_where_others_are(limited: Cli) -> None:
    text = limited("status", code=2).stdout
    assert text.count("no such order") == 1 and "more" not in text
    assert max(map(len, text.splitlines())) < 300
    component = limited.home.component("odd")
    component.parent.mkdir(exist_ok=True)
    component.write_text("{")
    assert limited("status", code=None).stdout.count(str(component)) == 1


def test_a_dumb_terminal_gets_nothing_to_obey(limited: Cli) -> None:
    for words in (["list"], ["show", "airflow"], ["status"]):
        assert "\x1b" not in on_terminal(limited, *words, TERM="dumb")


# --- logs ---


def write_log(cli: Cli, job: str, task: str, content: bytes) -> None:
    with cli.home.job(job).log(task).open("ab") as file:
        file.write(content)


@pytest.fixture
def two_tasks(cli: Cli) -> Cli:
    tasks = [{"id": "one", "command": "true"}, {"id": "two", "command": "true"}]
    cli("submit", "--file", "-", stdin=json.dumps({"job_name": "a", "tasks": tasks}))
    return cli


def test_logs_of_several_tasks_say_whose_they_are(two_tasks: Cli) -> None:
    assert "the job a is waiting and has written nothing yet" in two_tasks("logs", "a").stderr
    write_log(two_tasks, "a", "one", b"1\n2\nno end")
    write_log(two_tasks, "a", "two", b"x\n")
    assert two_tasks("logs", "a").stdout == "one | 1\none | 2\none | no end\ntwo | x\n"
    assert two_tasks("logs", "a", "one").stdout == "1\n2\nno end"
    assert two_tasks("logs", "a", "-n", "1").stdout == "one | no end\ntwo | x\n"
    assert "has no task three; it has one, two" in two_tasks.refused("logs", "a", "three", code=4)


@pytest.mark.parametrize("lines", [1, 2, 3, 1000, 5000, 9000])
def test_the_last_lines_of_a_long_log(cli: Cli, lines: int) -> None:
    """Lines of such a length that they do not end where a piece does."""
    cli("submit", "--name", "a", "--", "true")
    whole = "".join(f"{number:050d}\n" for number in range(5000))
    write_log(cli, "a", "task-1", whole.encode())
    assert cli("logs", "a", "-n", str(lines)).stdout == "".join(whole.splitlines(keepends=True)[-lines:])


def test_logs_as_json(two_tasks: Cli) -> None:
    write_log(two_tasks, "a", "one", b"caf\xc3\xa9 \xff\n")
    done = two_tasks("logs", "a", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"task": "one", "text": "café �\n"}]


def test_following_ends_with_the_job(two_tasks: Cli) -> None:
    follower = two_tasks.start("logs", "a", "--follow")
    assert follower.stdout is not None
    write_log(two_tasks, "a", "one", b"first\nsec")
    assert follower.stdout.readline() == "one | first\n"
    write_log(two_tasks, "a", "two", b"between\n")
    assert follower.stdout.readline() == "two | between\n"
    write_log(two_tasks, "a", "one", b"ond\nlast")
    finish(two_tasks.home, "a")
    assert follower.communicate(timeout=30)[0] == "one | second\none | last\n" and follower.returncode == 0


def test_following_a_log_that_begins_anew(cli: Cli) -> None:
    cli("submit", "--name", "a", "--", "true")
    log = cli.home.job("a").log("task-1")
    log.write_text("a long first attempt\n")
    follower = cli.start("logs", "a", "-f")
    assert follower.stdout is not None and follower.stdout.readline() == "a long first attempt\n"
    log.write_text("second\n")
    assert follower.stdout.readline() == "second\n"
    finish(cli.home, "a")
    assert follower.wait(30) == 0


# --- Readers that go away, and Ctrl-C ---


@pytest.mark.parametrize("words", [["wait", "over", "waits"], ["logs", "waits", "-f"], ["status", "--watch", "9"]])
def test_ctrl_c_ends_without_a_word(cli: Cli, words: list[str]) -> None:
    for name in ("over", "waits"):
        cli("submit", "--name", name, "--", "true")
    finish(cli.home, "over")
    write_log(cli, "waits", "task-1", b"a line\n")
    process = cli.start(*words)
    assert process.stdout is not None
    assert process.stdout.readline(), "it has begun: what Python does before is not ours"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    told = [line for line in errors.splitlines() if "no live runner serves" not in line]  # that came before
    assert (process.returncode, told) == (130, [])


def test_a_reader_that_goes_away(jobs: Cli) -> None:
    for words in (["list"], ["show", "alpha"], ["list", "--json"]):
        with subprocess.Popen(
            [SCRIPT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=jobs.env, cwd=jobs.cwd
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.wait(30) == 141 and process.stderr.read() == b""


def test_a_full_disk_under_the_output(jobs: Cli) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([SCRIPT, "list"], stdout=full, stderr=subprocess.PIPE, env=jobs.env, text=True)
    assert (done.returncode, done.stderr) == (1, "air-executor: No space left on device\n")


def test_a_closed_output(jobs: Cli) -> None:
    done = subprocess.run(["sh", "-c", f"{SCRIPT} list >&-"], capture_output=True, env=jobs.env, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# --- status, doctor, and others ---


def test_nothing_is_running(cli: Cli) -> None:
    done = cli("status", code=2)
    assert "not running" in done.stdout and f"{cli.home.root} is not there" in done.stdout
    facts = cli.json("status", code=2)
    assert (facts["status"], facts["exists"]) == ("not running", False)
    cli("submit", "--", "true")
    facts = cli.json("status", code=2)
    assert [(queue["name"], queue["waiting"], queue["served_by"]) for queue in facts["queues"]] == [("default", 1, 0)]
    assert "no runner serves it" in cli("status", code=2).stdout


def test_components_are_shown_up_or_down(cli: Cli) -> None:
    me = str(os.getpid())
    cli("component", "register", "scheduler", "--pid", me, "--log", "scheduler.log")
    cli("component", "register", "api-server", "--pid", me, "--url", "http://127.0.0.1:9")
    assert "there is no process 4194305" in cli.refused("component", "register", "x", "--pid", "4194305", code=4)
    facts = cli.json("status", code=1)
    assert {each["name"]: each["state"] for each in facts["components"]} == {
        "api-server": "unhealthy",
        "scheduler": "up",
    }
    content = json.loads(cli.home.component("scheduler").read_text())
    assert content.keys() >= {"name", "pid", "start_time", "host", "log"}
    cli("component", "unregister", "api-server")
    assert "there is no component api-server" in cli.refused("component", "unregister", "api-server", code=4)
    assert "component" not in cli("--help").stdout


def test_status_is_shown_again_and_again(cli: Cli) -> None:
    process = cli.start("status", "--watch", "0.1")
    assert process.stdout is not None
    for _ in range(3):
        while "not running" not in process.stdout.readline():
            assert process.poll() is None


def test_doctor(cli: Cli) -> None:
    done = cli("doctor", "--fix", code=1)
    assert f"{cli.home.root} is not there" in done.stdout and "fix: air-executor --home" in done.stdout
    assert "there is nothing that --fix could do" in done.stdout and not cli.home.root.exists()
    assert "give both" in cli.refused("doctor", "--dry-run", code=2)


def test_repair_and_prune(jobs: Cli) -> None:
    assert jobs("repair").stdout == "nothing to repair\n"
    for marker in jobs.home.queue("big").iterdir():
        marker.unlink()
    assert jobs("repair").stdout == "beta: was waiting without a place in its queue\n"
    assert jobs.json("repair") == []
    assert jobs.json("prune", "--older-than", "0s", "--dry-run") == {"removed": ["gamma"], "dry_run": True}
    assert jobs.json("prune", "--older-than", "0s", "--failed-older-than", "1d")["removed"] == []
    done = jobs("prune", "--older-than", "0s")
    assert (done.stdout, done.stderr) == ("gamma\n", "air-executor: 1 job removed\n")
    assert names(jobs) == ["beta", "alpha"]


def test_cancel_retry_and_wait_without_a_runner(jobs: Cli) -> None:
    assert jobs("cancel", "alpha", "--why", "wrong one").stdout == "alpha cancelled\n"
    assert "wrong one" in jobs("show", "alpha").stdout
    assert jobs("cancel", "alpha").stdout == "alpha cancelled\n", "twice does no harm"
    assert "is over already: failed" in jobs.refused("cancel", "gamma", code=6)
    assert "only one that is over" in jobs.refused("retry", "beta", code=6)
    assert jobs("wait", "alpha", code=9).stdout.startswith("alpha cancelled: cancelled by user")
    assert jobs("wait", "gamma", code=1).stdout == "gamma failed: failed in a test\n"
    assert jobs.json("wait", "alpha", "gamma", code=1)[1]["exit"]["reason"] == "failed in a test"
    assert jobs("retry", "alpha").stdout == "alpha waiting, attempt 2\n"
    assert "alpha is still waiting after 0." in jobs("wait", "alpha", "--timeout", "0.1", code=124).stderr


def test_version_and_the_module(cli: Cli) -> None:
    assert cli("--version").stdout == f"air-executor {air_executor.__version__}\n"
    import sys

    done = subprocess.run([sys.executable, "-m", "air_executor", "--version"], capture_output=True, text=True)
    assert done.stdout == cli("--version").stdout


COMMANDS = (
    "submit",
    "list",
    "show",
    "logs",
    "cancel",
    "retry",
    "wait",
    "pipeline",
    "runner",
    "status",
    "metrics",
    "doctor",
    "repair",
    "prune",
)


@pytest.mark.parametrize(
    "words",
    [
        *([command] for command in COMMANDS if command not in ("pipeline", "runner")),
        *(["pipeline", action] for action in ("list", "show", "run", "validate")),
        *(["runner", action] for action in ("start", "stop", "drain", "resume", "list")),
        ["completion"],
    ],
)
def test_every_command_has_help_examples_and_json(cli: Cli, words: list[str]) -> None:
    text = cli(*words, "--help").stdout
    assert "examples:" in text and "--json" in text and "air-executor " + " ".join(words) in text
    assert max(map(len, text.splitlines())) <= 80
    assert words[0] in cli("--help").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(cli: Cli, shell: str) -> None:
    script = cli("completion", shell).stdout
    assert all(command in script for command in COMMANDS)
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_completion_without_shtab_says_how_to_get_it(cli: Cli) -> None:
    (cli.cwd / "shtab.py").write_text("raise ImportError")
    line = cli.refused("completion", "bash", code=1, env={"PYTHONPATH": str(cli.cwd)})
    assert "install shtab, or this project's extra `completion`" in line
