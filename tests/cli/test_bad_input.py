"""What is wrong is said in one line that names it, with a non-zero exit code, and nothing else is disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from air_executor import store
from tests.cli.conftest import Cli

A_TASK = {"id": "a", "command": "true"}


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["submit", "--name", "../x", "--", "true"], "'../x'"),
        (["submit", "--name", "a\nb", "--", "true"], "'a\\nb'"),
        (["submit", "--name", "n" * 300, "--", "true"], "300 characters"),
        (["submit", "--name", "", "--", "true"], "the job name"),
        (["submit", "--queue", "a/b", "--", "true"], "the queue 'a/b'"),
        (["submit", "--"], "empty command"),
        (["submit", "--", ""], "empty command"),
        (["submit", "true"], "put -- before the command"),
        (["submit"], "give either a command after -- or --file"),
        (["submit", "--file", "x.json", "--", "true"], "give either a command after -- or --file"),
        (["submit", "--file", "missing.json"], "missing.json: cannot be read: No such file or directory"),
        (["submit", "--priority", "high", "--", "true"], "--priority"),
        (["submit", "--timeout", "soon", "--", "true"], "'soon' is not a span of time"),
        (["submit", "--timeout", "0", "--", "true"], "timeout must be a positive number"),
        (["submit", "--nice", "99", "--", "true"], "nice must be from -20 to 19"),
        (["submit", "--memory-mb", "0", "--", "true"], "memory_mb must be a positive whole number"),
        (["submit", "--slurm", "cpus=x", "--", "true"], "--slurm 'cpus' must be a whole number of at least 1, not 'x'"),
        (["submit", "--slurm", "partiton=x", "--", "true"], "--slurm has the unknown option 'partiton'; did you mean"),
        (["submit", "--slurm", "gpu", "--", "true"], "argument --slurm: give it as NAME=VALUE"),
        (["submit", "--label", "x", "--", "true"], "--label"),
        (["submit", "--env", "=x", "--", "true"], "--env"),
        (["submit", "--colour", "--", "true"], "--colour"),
        (["list", "--state", "sleeping"], "sleeping"),
        (["list", "--limit", "0"], "--limit"),
        (["list", "extra"], "extra"),
        (["prune"], "give at least one of --older-than"),
        (["prune", "--older-than", "-1"], "--older-than"),
        (["prune", "--older-than", "30"], "with its unit; give one such as 90s, 12h, 30d"),
        (["prune", "--failed-older-than", "30"], "with its unit"),
        (["prune", "--keep", "0"], "--keep"),
        (["prune", "--max-size", "many"], "'many' is not a size; give one such as 500M or 20G"),
        (["prune", "--max-size", "20"], "'20' is not a size; give one such as 500M or 20G"),
        (["prune", "--max-size", "nan"], "'nan' is not a size"),
        (["dance"], "dance"),
        ([], "COMMAND"),
        (["runner"], "ACTION"),
        (["runner", "start", "--slots", "x", "--detach"], "--slots must be a whole number"),
        (["runner", "start", "--queues", "a b", "--detach"], "--queues: the queue 'a b'"),
        (["runner", "start", "--launcher", "slurp"], "slurp"),
        (["runner", "start", "--name", "../x", "--detach"], "'../x'"),
        (["component", "register", "x", "--pid", "none"], "--pid"),
        (["completion", "fish"], "fish"),
    ],
)
def test_wrong_words_exit_2(cli: Cli, words: list[str], names: str) -> None:
    assert names in cli.refused(*words, code=2)
    assert not cli.home.root.exists() or list(store.names(cli.home)) == []


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("", "standard input: is not JSON"),
        ("[]", 'should hold an object with "tasks"'),
        ('{"tasks": {}}', 'should hold an object with "tasks"'),
        ("[" * 100_000, "standard input: is not JSON"),
        ({"tasks": []}, "at least one task"),
        ({"tasks": [A_TASK], "quue": "x"}, "'quue' is unknown"),
        ({"tasks": [A_TASK], "queue": 7}, "'queue' should be str"),
        ({"tasks": [A_TASK], "labels": [1]}, "'labels' should be an object"),
        ({"tasks": [A_TASK], "job_name": "../x"}, "'../x'"),
        ({"tasks": [A_TASK], "job_name": 7}, "'name' should be str"),
        ({"tasks": ["true"]}, "a task is a dictionary"),
        ({"tasks": [{"id": "a"}]}, "command"),
        ({"tasks": [{**A_TASK, "command": ""}]}, "'a' has an empty command"),
        ({"tasks": [{**A_TASK, "comand": "x"}]}, "a task has no 'comand'"),
        ({"tasks": [{**A_TASK, "env": {"SECRET": 7}}]}, "'env' should hold text only"),
        ({"tasks": [{**A_TASK, "dependencies": ["ghost"]}]}, "depends on 'ghost', which is not a task of this job"),
        ({"tasks": [{**A_TASK, "dependencies": ["b"]}, {"id": "b", "command": "x", "dependencies": ["a"]}]}, "a -> b"),
        ({"tasks": [A_TASK, A_TASK]}, "two tasks have the id 'a'"),
        ({"tasks": [{**A_TASK, "id": "../../x"}]}, "the task id '../../x'"),
    ],
)
def test_wrong_files_exit_2(cli: Cli, content: object, names: str) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    assert names in cli.refused("submit", "--file", "-", code=2, stdin=text)
    assert not cli.home.root.exists() or list(store.names(cli.home)) == []


def test_a_name_that_is_taken(cli: Cli) -> None:
    cli("submit", "--name", "a", "--", "true")
    assert "there is a job named a already" in cli.refused("submit", "--name", "a", "--", "false", code=5)
    assert cli.api.get_tasks("a")[0].command == "true"


# --- The home ---


@pytest.mark.parametrize(
    "words", [["list"], ["show", "a"], ["logs", "a"], ["cancel", "a"], ["wait", "a"], ["repair"], ["runner", "list"]]
)
def test_a_home_that_is_missing(cli: Cli, words: list[str]) -> None:
    assert f"{cli.home.root} does not exist" in cli.refused(*words, code=3)
    assert not cli.home.root.exists()


@pytest.mark.parametrize(
    "words",
    [["submit", "--", "true"], ["list"], ["status"], ["runner", "start", "--detach"], ["repair"], ["wait", "a"]],
)
def test_a_home_that_is_a_file(cli: Cli, words: list[str]) -> None:
    cli.home.root.write_text("mine")
    says = f"{cli.home.root} is not a directory; choose another home or move it away"
    assert says in cli.refused(*words, code=3)
    assert cli.home.root.read_text() == "mine"


@pytest.mark.parametrize("words", [["submit", "--", "true"], ["runner", "start", "--detach"], ["runner", "start"]])
@pytest.mark.parametrize("root", ["/proc/self/home", "/dev/null/home"])
def test_a_home_that_cannot_be_created(cli: Cli, words: list[str], root: str) -> None:
    assert root in cli.refused("--home", root, *words, code=3)


AS_NOBODY = """
import os, sys
from air_executor import cli
cli.main(["--home", "/dev/null/x", "submit", "--", "true"])  # loads what a submission needs before it is out of reach
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_home_that_cannot_be_written_to(cli: Cli) -> None:
    """Permissions do not hold for root, so root works as nobody here; others take the permission from themselves."""
    cli("submit", "--name", "a", "--", "true")
    for path in cli.home.directories:
        path.chmod(0o555)
    for parent in cli.home.root.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o555)
    words = ["--home", str(cli.home.root), "submit", "--name", "b", "--", "true"]
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, *words], capture_output=True, text=True, env=cli.env)
    for path in cli.home.directories:
        path.chmod(0o700)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"air-executor: {cli.home.root} cannot be written to" in done.stderr
    assert list(store.names(cli.home)) == ["a"]


def test_a_home_that_has_no_name(cli: Cli) -> None:
    assert "the home cannot be found" in cli.refused("--home", "~no-such-user/x", "list", code=3)


def test_a_working_directory_that_is_gone(cli: Cli) -> None:
    gone = cli.cwd / "gone"
    program = f"mkdir {gone} && cd {gone} && rmdir {gone} && exec air-executor list"
    env = {**cli.env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    del env["AIR_EXECUTOR_HOME"]
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, env=env)
    assert done.returncode == 3 and done.stderr.startswith("air-executor: the home cannot be found")


# --- Options ---


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[runner]\nslotz = 1", "slotz; did you mean slots?"),
        ("[runner]\nslots = 'many'", "slots must be a whole number"),
        ("[runnner]", "unknown table runnner"),
        ("[runner", "not valid TOML"),
    ],
)
def test_a_malformed_config(cli: Cli, text: str, names: str) -> None:
    cli("submit", "--name", "a", "--", "true")
    cli.home.config.write_text(text)
    for words in (["runner", "start"], ["runner", "start", "--detach"]):
        line = cli.refused(*words, code=2)
        assert names in line and str(cli.home.config) in line
    cli("list")


def test_an_unknown_variable(cli: Cli) -> None:
    assert "AIR_EXECUTOR_RUNNER_SLOTZ" in cli.refused("runner", "start", code=2, env={"AIR_EXECUTOR_RUNNER_SLOTZ": "1"})


# --- Jobs ---


@pytest.mark.parametrize("words", [["show"], ["logs"], ["cancel"], ["retry"], ["wait"]])
def test_a_job_that_is_not_there(cli: Cli, words: list[str]) -> None:
    cli("submit", "--name", "a", "--", "true")
    assert "there is no job named nope" in cli.refused(*words, "nope", code=4)
    assert "'../a'" in cli.refused(*words, "../a", code=2)
    assert "300 characters" in cli.refused(*words, "n" * 300, code=2)


@pytest.mark.parametrize("content", ["", '{"name": "bad", "sta', "[]", '{"name": "bad", "created_at": 7}'])
def test_a_damaged_job_is_shown_as_failed_and_disturbs_no_other(cli: Cli, content: str) -> None:
    cli("submit", "--name", "bad", "--", "true")
    cli("submit", "--name", "good", "--", "true")
    cli.home.job("bad").state.write_text(content)
    states = {job["name"]: job["state"] for job in cli.json("list")}
    assert states == {"bad": "failed", "good": "waiting"}
    assert "state.json" in cli.json("show", "bad")["job"]["exit"]["reason"]
    cli("wait", "bad", code=1)
    cli.refused("retry", "bad", code=7)
    assert "bad: damaged, now failed" in cli("repair").stdout
    assert cli.api.get_job("good").state == "waiting"


def test_damaged_tasks_are_said(cli: Cli) -> None:
    cli("submit", "--name", "a", "--", "true")
    cli.home.job("a").tasks.write_text("{")
    for words in (["show", "a"], ["logs", "a"]):
        assert "tasks.json" in cli(*words).stderr


def test_jobs_that_cannot_be_told_apart(cli: Cli) -> None:
    for number in range(7):
        cli("submit", "--name", f"night-{number}", "--", "true")
    line = cli.refused("show", "night", code=2)
    assert "night may be night-0, night-1, night-2, night-3, night-4 and 2 more" in line


def test_one_that_cannot_be_done_does_not_stop_the_others(cli: Cli) -> None:
    for name in ("a", "b"):
        cli("submit", "--name", name, "--", "true")
    done = cli("cancel", "a", "nope", "b", code=4)
    assert done.stdout == "a cancelled\nb cancelled\n" and "no job named nope" in done.stderr
