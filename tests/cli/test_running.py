"""The commands beside a real runner."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from air_executor import journal, processes, runners
from air_executor.testing import wait_for
from tests.cli.conftest import SCRIPT, Cli

TREE = 'setsid sleep 300 & (trap "" TERM; sleep 300; sleep 300) & echo $! > pids; wait'
"""A child in a session of its own, and one that ignores TERM."""


def working(cli: Cli, name: str) -> None:
    wait_for(lambda: any(task.status == "running" for task in cli.api.get_tasks(name)), what=f"{name} running")


def alive(pid: int) -> bool:
    return processes.start_time(pid) is not None


# --- submit, wait, logs ---


def test_waiting_gives_the_exit_code_of_the_job(with_runner: Cli) -> None:
    cli = with_runner
    done = cli("submit", "--name", "good", "--wait", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("good\n", "")
    assert sorted(cli("logs", "good").stdout.split()) == ["err", "out"]
    done = cli("submit", "--name", "bad", "--wait", "--", "sh", "-c", "exit 3", code=1)
    assert done.stderr.startswith("air-executor: bad failed: ") and "3" in done.stderr
    facts = json.loads(cli("submit", "--wait", "--json", "--", "no-such-program", code=1).stdout)
    assert (facts["state"], facts["exit"]["kind"]) == ("failed", "start_failed")
    assert "is still" in cli("submit", "--wait-timeout", "0.2", "--", "sleep", "300", code=124).stderr


def test_following_a_new_job(with_runner: Cli) -> None:
    process = with_runner.start("submit", "--follow", "--", "sh", "-c", "echo first; read x < gate; echo $x; exit 7")
    os.mkfifo(with_runner.cwd / "gate")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("job-") and process.stdout.readline() == "first\n"
    (with_runner.cwd / "gate").write_text("second\n")
    output, errors = process.communicate(timeout=30)
    assert (output, process.returncode) == ("second\n", 1) and "7" in errors


def test_following_as_json_ends_with_the_job(with_runner: Cli) -> None:
    done = with_runner("submit", "--follow", "--json", "--", "echo", "hello")
    *pieces, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert "".join(piece["text"] for piece in pieces) == "hello\n" and last["state"] == "completed"


def test_a_graph_runs_in_order_and_its_logs_tell_the_tasks(with_runner: Cli) -> None:
    tasks = [
        {"id": "b", "command": "echo", "args": ["second"], "dependencies": ["a"]},
        {"id": "a", "command": "sh", "args": ["-c", "echo first"]},
        {"id": "c", "command": "false", "dependencies": ["b"]},
        {"id": "d", "command": "true", "dependencies": ["c"]},
    ]
    content = json.dumps({"job_name": "graph", "tasks": tasks})
    cli = with_runner
    cli("submit", "--file", "-", "--wait", stdin=content, code=1)
    assert cli("logs", "graph").stdout == "b | second\na | first\n"
    statuses = {task["id"]: task["status"] for task in cli.json("show", "graph")["tasks"]}
    assert statuses == {"a": "completed", "b": "completed", "c": "failed", "d": "skipped"}


def test_the_environment_and_the_directory_reach_the_job(with_runner: Cli) -> None:
    (with_runner.cwd / "sub").mkdir()
    done = with_runner("submit", "--follow", "--cwd", "sub", "--env", "A=b c", "--", "sh", "-c", 'echo "$A"; pwd')
    assert done.stdout.splitlines()[1:] == ["b c", str(with_runner.cwd / "sub")]


def test_ctrl_c_ends_the_waiting_and_not_the_job(with_runner: Cli) -> None:
    process = with_runner.start("submit", "--name", "long", "--wait", "--", "sleep", "300")
    assert process.stdout is not None and process.stdout.readline() == "long\n"
    working(with_runner, "long")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "air-executor: the job goes on; stop it with: air-executor cancel long\n"
    assert with_runner.api.get_job("long").state == "working"


def test_a_job_is_shown_with_what_it_used(with_runner: Cli) -> None:
    with_runner("submit", "--name", "a", "--wait", "--", "true")
    job = with_runner.json("show", "a")["job"]
    assert job["exit"]["kind"] == "success" and job["usage"] and job["runner"]["runner"] == "r"
    assert "usage" in with_runner("show", "a").stdout


# --- cancel and retry ---


def test_cancelling_ends_the_whole_tree(with_runner: Cli) -> None:
    cli = with_runner
    cli("submit", "--name", "tree", "--", "sh", "-c", TREE)
    wait_for(lambda: (cli.cwd / "pids").exists() and (cli.cwd / "pids").read_text())
    runner = cli.api.get_job("tree").runner
    assert runner is not None
    wait_for(lambda: len(processes.tree(runner.pid)) >= 5, what="the tree")
    members = [process.pid for process in processes.tree(runner.pid)]
    assert cli("cancel", "tree", "--wait", "--why", "enough").stdout == "tree cancelled\n"
    wait_for(lambda: not any(map(alive, members)), what="the end of the tree")
    facts = cli.json("show", "tree")
    assert (facts["job"]["state"], facts["job"]["exit"]["kind"]) == ("cancelled", "cancelled")
    assert "enough" in facts["job"]["exit"]["reason"]
    cli("wait", "tree", code=9)


def test_retrying(with_runner: Cli) -> None:
    cli = with_runner
    cli("submit", "--name", "a", "--wait", "--", "sh", "-c", "echo try; test -e flag", code=1)
    (cli.cwd / "flag").touch()
    cli("retry", "a")
    assert cli("wait", "a").stdout == "a completed\n"
    assert cli.json("show", "a")["job"]["attempt"] == 2
    wait_for(lambda: list(journal.read(cli.home.job("a").events))[-1]["to"] == "completed")
    assert {event["attempt"] for event in cli.json("show", "a")["events"]} == {1, 2}


# --- runners ---


def test_everything_is_healthy(with_runner: Cli) -> None:
    cli = with_runner
    cli("submit", "--name", "long", "--", "sleep", "300")
    working(cli, "long")
    facts = cli.json("status")
    assert (facts["status"], facts["problems"]) == ("healthy", [])
    assert [(each["id"], each["state"], each["slots"]) for each in facts["runners"]] == [("r", "alive", 4)]
    assert [each["name"] for each in facts["working"]] == ["long"]
    text = cli("status").stdout
    assert "healthy" in text.splitlines()[0] and "long" in text
    assert max(map(len, text.splitlines())) <= max(80, len(text.splitlines()[0]))


def test_doctor_finds_what_is_wrong_with_airflow(with_runner: Cli) -> None:
    """With a real runner and a real Airflow, which has no database yet, and no API server."""
    environment = {
        "PATH": f"{SCRIPT.parent}:{os.environ['PATH']}",
        "AIRFLOW__CORE__EXECUTOR": "airflow_plugin.AirExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://me:hunter2@127.0.0.1:1/execution/",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0",
    }
    facts = with_runner.json("doctor", code=1, env=environment)
    bad = {each["check"]: each for each in facts["findings"] if each["level"] != "ok"}
    assert bad.keys() == {"api_server", "database"} and not facts["ok"] and facts["fixed"] == []
    assert bad["database"]["fix"] == "airflow db migrate" and "Connection refused" in bad["api_server"]["text"]
    assert "hunter2" not in json.dumps(facts)
    assert not list(Path(with_runner.env["HOME"]).rglob("airflow*")), "looking leaves no configuration and no database"


def test_a_queue_that_nobody_serves_degrades(with_runner: Cli) -> None:
    cli = with_runner
    cli("submit", "--queue", "gpu", "--", "true")
    facts = cli.json("status", code=1)
    assert (
        facts["status"] == "degraded" and "1 job waits in the queue gpu and no runner serves it" in facts["problems"][0]
    )
    cli("runner", "start", "--detach", "--name", "gpu", "--queues", "gpu")
    wait_for(lambda: cli("status", code=None).returncode == 0, what="a healthy home")


def test_draining_and_resuming(with_runner: Cli) -> None:
    cli = with_runner
    assert cli("runner", "drain", "r").stdout == "the runner r is asked to drain\n"
    wait_for(lambda: runners.read(cli.home, "r").draining)
    assert cli.json("runner", "list")[0]["state"] == "draining"
    assert (
        f"let it take jobs again with: air-executor --home {cli.home.root} runner resume r"
        in cli("status", code=1).stdout
    )
    said = cli("submit", "--name", "a", "--", "true").stderr
    assert "no live runner serves the queue default: the runner r is drained by user " in said and "resume r" in said
    cli("wait", "a", "--timeout", "0.3", code=124)
    cli("runner", "resume")
    cli("wait", "a")


def test_stopping_waits_for_the_jobs(with_runner: Cli) -> None:
    cli = with_runner
    os.mkfifo(cli.cwd / "gate")
    cli("submit", "--name", "a", "--", "sh", "-c", "read x < gate")
    working(cli, "a")
    stopping = cli.start("runner", "stop")
    wait_for(lambda: runners.read(cli.home, "r").draining, what="draining")
    assert cli("runner", "stop", "--no-wait").stdout == "the runner r is asked to stop\n"
    assert "is not gone yet" in cli.refused("runner", "stop", "r", "--timeout", "0.2", code=124)
    (cli.cwd / "gate").write_text("go\n")
    assert stopping.communicate(timeout=30)[0] == "the runner r has stopped\n"
    assert cli.api.get_job("a").state == "completed"
    assert "no runner is running" in cli.refused("runner", "stop", code=4)
    assert runners.alive_runners(cli.home) == []


def test_stopping_now_stops_the_jobs(with_runner: Cli) -> None:
    cli = with_runner
    cli("submit", "--name", "a", "--", "sleep", "300")
    working(cli, "a")
    cli("runner", "stop", "--now")
    assert cli("wait", "a", "--timeout", "10", code=None).returncode != 124
    assert runners.alive_runners(cli.home) == []


def test_several_runners_are_told_apart(with_runner: Cli) -> None:
    cli = with_runner
    cli("runner", "start", "--detach", "--name", "s1")
    cli("runner", "start", "--detach", "--name", "s2")
    assert "which runner? There are r, s1, s2" in cli.refused("runner", "stop", code=2)
    assert "which runner? There are s1, s2" in cli.refused("runner", "drain", "s", code=2)
    assert "no runner x is running" in cli.refused("runner", "stop", "x", code=4)
    assert "r" in cli.refused("runner", "start", "--detach", "--name", "r", code=8)
    assert len(cli("runner", "stop", "--all").stdout.splitlines()) == 3


def test_a_detached_runner_outlives_its_starter_and_has_no_terminal(cli: Cli) -> None:
    facts = cli.json("runner", "start", "--detach", "--slots", "1", "--queues", "a,b")
    assert (facts["slots"], facts["queues"], facts["state"]) == (1, ["a", "b"], "alive")
    process = psutil.Process(facts["pid"])
    assert os.getsid(facts["pid"]) != os.getsid(0) and process.terminal() is None
    assert cli.home.runner_log.exists()


def test_a_runner_in_the_foreground_drains_at_ctrl_c(cli: Cli) -> None:
    process = cli.start("runner", "start", "--name", "fore", start_new_session=True)
    wait_for(lambda: [each.id for each in runners.alive_runners(cli.home)] == ["fore"], 30, "the runner")
    assert runners.read(cli.home, "fore").process.pid == process.pid, "it became the runner"
    cli("submit", "--wait", "--", "true")
    os.mkfifo(cli.cwd / "gate")
    cli("submit", "--name", "last", "--", "sh", "-c", "read x < gate")
    working(cli, "last")
    process.send_signal(signal.SIGINT)
    wait_for(lambda: runners.read(cli.home, "fore").draining, what="draining")
    (cli.cwd / "gate").write_text("go\n")
    assert process.wait(30) == 0
    assert cli.api.get_job("last").state == "completed"


def test_a_dead_runner_with_jobs_in_its_hands(with_runner: Cli) -> None:
    cli = with_runner
    cli("submit", "--name", "a", "--", "sleep", "300")
    working(cli, "a")
    os.kill(runners.read(cli.home, "r").process.pid, signal.SIGKILL)
    wait_for(lambda: not runners.alive_runners(cli.home))
    facts = cli.json("status", code=2)
    assert [(each["id"], each["state"], each["working"]) for each in facts["runners"]] == [("r", "dead", 1)]
    assert "the runner r is gone and left 1 job" in " ".join(facts["problems"])
    told = cli("repair").stderr
    assert "1 job of runners that died: the next runner on their host brings it to rest: air-executor" in told
    assert "no live runner serves the queue default; the job is stopped when one starts" in cli("cancel", "a").stderr


def test_a_command_is_quick(with_runner: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """Told, not judged: how long it takes from a command line to its answer."""
    before = time.monotonic()
    with_runner("submit", "--wait", "--", "true")
    with capsys.disabled():
        print(f"\nsubmit --wait of an empty job: {(time.monotonic() - before) * 1000:.0f} ms")


def test_a_spool_that_was_deleted_is_repaired_beside_a_runner(with_runner: Cli) -> None:
    cli = with_runner
    cli("runner", "drain", "r")
    wait_for(lambda: runners.read(cli.home, "r").draining)
    cli("submit", "--name", "a", "--", "true")
    for marker in Path(cli.home.queue("default")).iterdir():
        marker.unlink()
    cli("repair")
    cli("runner", "resume", "r")
    cli("wait", "a", "--timeout", "30")
