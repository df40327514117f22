"""`submit`: what becomes of a command line or a file, without a runner."""

from __future__ import annotations

import json

import pytest

from air_executor import store
from tests.cli.conftest import Cli


def test_a_command_line_becomes_a_job(cli: Cli) -> None:
    done = cli("submit", "--", "echo", "--wait", "a b", "--")
    name = done.stdout.strip()
    job, (task,) = cli.api.get_job(name), cli.api.get_tasks(name)
    assert task.argv == ["echo", "--wait", "a b", "--"] and task.cwd == str(cli.cwd)
    assert (job.trigger, job.queue, job.state) == ("cli", "default", "waiting")


def test_a_job_that_nobody_would_run_is_said(cli: Cli) -> None:
    hint = cli("submit", "--queue", "big", "--", "true").stderr
    start = f"air-executor --home {cli.home.root} runner start --detach"
    said = f"air-executor: no live runner serves the queue big; the job waits. Start one with: {start} --queues big\n"
    assert hint == said
    assert f"start one with: {start}\n" in cli("status", code=2).stdout
    cli("submit", "--queue", "big", "--name", "b", "--", "true")
    cli("submit", "--queue", "big", "--name", "c", "--", "true")
    done = cli("wait", "b", "c", "--timeout", "0", code=124)
    assert done.stderr.count("no live runner") == 1 and done.stderr.startswith(said)


def test_all_options(cli: Cli) -> None:
    words = [
        *("--name", "all", "--queue", "q", "--priority", "-3", "--label", "a=1", "--label", "b=x=y"),
        *("--env", "A=1", "--env", "B=", "--cwd", "sub", "--timeout", "2m", "--memory-mb", "100"),
        *("--nice", "5", "--max-parallel", "2", "--slurm", "partition=gpu", "--slurm", "cpus=4"),
        *("--slurm", "extra=--exclusive", "--slurm", "extra=--nice=1"),
    ]
    assert cli("submit", *words, "--", "true").stdout == "all\n"
    job, (task,) = cli.api.get_job("all"), cli.api.get_tasks("all")
    assert (job.queue, job.priority, job.labels) == ("q", -3, {"a": "1", "b": "x=y"})
    assert (job.timeout, job.memory_mb, job.nice, job.max_parallel) == (120.0, 100, 5, 2)
    assert (task.env, task.cwd) == ({"A": "1", "B": ""}, str(cli.cwd / "sub"))
    assert job.slurm == {"partition": "gpu", "cpus": 4, "extra": ["--exclusive", "--nice=1"]}
    assert cli.json("show", "all")["job"]["slurm"] == job.slurm
    assert "slurm      partition=gpu, cpus=4, extra=--exclusive --nice=1\n" in cli("show", "all").stdout


def test_json(cli: Cli) -> None:
    facts = json.loads(cli("submit", "--json", "--", "true").stdout)
    assert facts.keys() == {"job_name", "id", "queue", "state"}
    assert cli.api.get_job(facts["job_name"]).id == facts["id"]


GRAPH = {
    "job_name": "graph",
    "priority": 1,
    "labels": {"from": "file"},
    "slurm": {"cpus": 2, "memory": "4G", "extra": ["--exclusive"]},
    "tasks": [
        {"id": "one", "command": "true", "cwd": "/", "env": {"A": "file", "B": "file"}},
        {"id": "two", "command": "true", "dependencies": ["one"], "cwd": "below", "timeout": 5},
    ],
}


@pytest.mark.parametrize("where", ["file", "stdin"])
def test_tasks_of_a_file(cli: Cli, where: str) -> None:
    (cli.cwd / "tasks.json").write_text(json.dumps(GRAPH))
    given = ("tasks.json", "") if where == "file" else ("-", json.dumps(GRAPH))
    flags = ("--env", "A=flag", "--label", "by=flag", "--priority", "2", "--slurm", "cpus=8")
    cli("submit", "--file", given[0], *flags, stdin=given[1])
    job, tasks = cli.api.get_job("graph"), cli.api.get_tasks("graph")
    assert (job.priority, job.labels) == (2, {"from": "file", "by": "flag"})
    assert job.slurm == {"cpus": 8, "memory": "4G", "extra": ["--exclusive"]}
    assert [(task.id, task.cwd, task.dependencies) for task in tasks] == [
        ("one", "/", []),
        ("two", str(cli.cwd / "below"), ["one"]),
    ]
    assert [task.env for task in tasks] == [{"A": "flag", "B": "file"}, {"A": "flag"}]


def test_a_name_given_goes_before_that_of_the_file(cli: Cli) -> None:
    assert cli("submit", "--name", "mine", "--file", "-", stdin=json.dumps(GRAPH)).stdout == "mine\n"


def test_bytes_that_are_no_text_reach_the_job(cli: Cli) -> None:
    name = cli("submit", "--", "echo", b"caf\xe9").stdout.strip()  # type: ignore[arg-type]
    assert cli.api.get_tasks(name)[0].args == ["caf\udce9"]
    assert "caf" in cli("show", name).stdout and cli.json("show", name)["tasks"][0]["args"] == ["caf\udce9"]


def test_a_job_is_in_the_home_that_was_named_wherever_it_was_named(cli: Cli) -> None:
    cli("--home", "one", "submit", "--", "true")
    cli("submit", "--home", "two", "--", "true")
    for name in ("one", "two"):
        assert (cli.cwd / name / "jobs").is_dir()
    assert not cli.home.root.exists()


def test_the_name_is_printed_although_it_was_the_longest(cli: Cli) -> None:
    assert cli("submit", "--name", "n" * 200, "--", "true").stdout == "n" * 200 + "\n"
    assert list(store.names(cli.home)) == ["n" * 200]
