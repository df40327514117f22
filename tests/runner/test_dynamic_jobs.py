"""Tasks that are tried again, that stop others, that hand over results, that add tasks to their own job."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from air_executor import AirExecutorClient, JobState, Task, TaskStatus, journal, results
from air_executor.errors import AirExecutorError, InvalidJobError, JobBusyError, NotFoundError
from air_executor.model import ExitKind, Job
from air_executor.paths import Home
from air_executor.testing import wait_for
from tests.runner.conftest import StartRunner
from tests.runner.test_jobs import shell

ADDER = "import json, sys; from air_executor import AirExecutorClient as C; C().add_tasks(json.loads(sys.argv[1]))"
ADD = f'{sys.executable} -c "{ADDER}"'


def run(client: AirExecutorClient, *tasks: dict[str, Any], **options: Any) -> Job:
    client.create_job("a", tasks, **options)
    return client.wait("a", 60)


def by_id(client: AirExecutorClient) -> dict[str, Task]:
    return {task.id: task for task in client.get_tasks("a")}


def statuses(client: AirExecutorClient) -> dict[str, str]:
    return {name: task.status.value for name, task in by_id(client).items()}


# --- Tried again ---


def test_a_task_that_fails_is_tried_again(client: AirExecutorClient, start_runner: StartRunner, home: Home) -> None:
    start_runner()
    script = "echo try >> tries; [ $(wc -l < tries) -ge 3 ]"
    job = run(
        client,
        shell(script, id="t", retries=3, retry_delay=0.01, cwd=str(home.root)),
        shell("echo after", id="u", dependencies=["t"]),
    )
    assert job.state is JobState.COMPLETED
    task = by_id(client)["t"]
    assert (task.tries, task.status, task.error, task.exit_code) == (3, TaskStatus.COMPLETED, None, 0)
    seen = [event for event in journal.read(home.job("a").events) if event.get("task") == "t"]
    assert [event["to"] for event in seen] == ["running", "pending", "running", "pending", "running", "completed"]
    assert seen[1]["error"] == "exit code 1; starts again in 0.01 s (retry 1 of 3)"
    assert "starts again in 0.02 s" in seen[3]["error"]


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        (shell("exit 4"), ExitKind.EXIT_CODE),
        ({"command": "no-such-command"}, ExitKind.START_FAILED),
        (shell("sleep 60", timeout=0.1), ExitKind.TIMEOUT),
        (shell("echo no > $AIR_EXECUTOR_OUTPUT"), ExitKind.RESULT),
    ],
)
def test_a_task_that_has_had_all_its_tries_has_failed(
    client: AirExecutorClient, start_runner: StartRunner, task: dict[str, Any], kind: ExitKind
) -> None:
    start_runner()
    job = run(client, {**task, "id": "t", "retries": 2, "retry_delay": 0})
    assert job.state is JobState.FAILED and job.exit is not None and job.exit.kind is kind
    assert by_id(client)["t"].tries == 3


def test_a_task_that_waits_for_its_next_try_is_cancelled(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    client.create_job("a", [shell("false", id="t", retries=5, retry_delay=3600)])
    wait_for(lambda: "starts again" in (by_id(client)["t"].error or ""))
    client.cancel("a", by="me")
    assert client.wait("a", 30).state is JobState.CANCELLED
    assert by_id(client)["t"].status is TaskStatus.CANCELLED


def test_a_job_whose_task_waits_for_its_next_try_has_started(
    client: AirExecutorClient, start_runner: StartRunner
) -> None:
    """Its ephemeral runner dies: it is not given to another as if nothing had run."""
    start_runner()
    client.create_job("a", [shell("false", id="t", retries=5, retry_delay=3600)])
    wait_for(lambda: "starts again" in (by_id(client)["t"].error or ""))
    runner = client.get_job("a").runner
    assert runner is not None
    os.kill(runner.pid, signal.SIGKILL)
    job = client.wait("a", 30)
    assert job.state is JobState.FAILED and job.crashes == 0


# --- What a failure stops ---


UNTIL_OVER = "until [ -e over ]; do sleep 0.01; done"


def test_a_failure_stops_what_depends_on_it(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    cwd = str(client.home.root)
    job = run(
        client,
        shell(UNTIL_OVER, id="runs", cwd=cwd),
        shell("exit 1", id="fails"),
        shell("true", id="child", dependencies=["fails"]),
        shell("touch over", id="free", cwd=cwd),
        shell("true", id="last", dependencies=["runs"]),
        max_parallel=2,
    )
    assert job.state is JobState.FAILED and job.exit is not None and job.exit.reason == "task fails: exit code 1"
    completed = dict.fromkeys(("runs", "free", "last"), "completed")
    assert statuses(client) == {**completed, "fails": "failed", "child": "skipped"}
    assert by_id(client)["child"].error == "needs fails, which failed"


def test_a_failure_stops_all_if_asked(client: AirExecutorClient, start_runner: StartRunner) -> None:
    """What runs goes on to its end, and what waits for another try does not come to it."""
    start_runner()
    cwd = str(client.home.root)
    job = run(
        client,
        shell(UNTIL_OVER, id="runs", cwd=cwd),
        shell("touch tried; exit 2", id="again", retries=1, retry_delay=3600, cwd=cwd),
        shell("until [ -e tried ]; do sleep 0.01; done; touch over; exit 1", id="fails", cwd=cwd),
        shell("true", id="free", dependencies=["runs"]),
        on_failure="stop",
        max_parallel=3,
    )
    assert job.state is JobState.FAILED and job.exit is not None and job.exit.reason == "task fails: exit code 1"
    expected = {"runs": "completed", "again": "failed", "fails": "failed", "free": "skipped"}
    assert statuses(client) == expected
    why = "not started any more: fails failed, and on_failure is stop"
    assert by_id(client)["free"].error == why and by_id(client)["again"].error == f"exit code 2; {why}"


def test_a_second_failure_after_all_was_stopped(client: AirExecutorClient, start_runner: StartRunner) -> None:
    """What depends on the second is skipped already."""
    start_runner()
    cwd = str(client.home.root)
    job = run(
        client,
        shell(f"{UNTIL_OVER}; exit 3", id="second", cwd=cwd),
        shell("touch over; exit 2", id="first", cwd=cwd),
        shell("true", id="child", dependencies=["second"]),
        shell(f"{UNTIL_OVER}; sleep 0.3", id="good", cwd=cwd),
        on_failure="stop",
        max_parallel=4,
    )
    assert job.exit is not None and job.exit.reason in ("task first: exit code 2", "task second: exit code 3")
    assert statuses(client) == {"second": "failed", "first": "failed", "child": "skipped", "good": "completed"}


# --- Results ---


def test_what_tasks_write_is_the_result_of_their_job(
    client: AirExecutorClient, start_runner: StartRunner, home: Home
) -> None:
    start_runner()
    job = run(
        client,
        shell("echo '{\"rows\": 3}' > $AIR_EXECUTOR_OUTPUT", id="one"),
        shell("echo '[1, \"zwei\"]' > $AIR_EXECUTOR_OUTPUT", id="two"),
        shell("true", id="none"),
    )
    expected = {"one": {"rows": 3}, "two": [1, "zwei"]}
    assert job.state is JobState.COMPLETED and client.get_result("a") == expected
    assert json.loads(home.job("a").result.read_text()) == expected


def test_a_job_without_results_has_no_file_for_them(
    client: AirExecutorClient, start_runner: StartRunner, home: Home
) -> None:
    start_runner()
    run(client, shell("true"))
    assert client.get_result("a") == {} and not home.job("a").result.exists()


def test_the_result_of_a_job_that_runs_is_what_there_is(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    client.create_job("a", [shell("echo 1 > $AIR_EXECUTOR_OUTPUT", id="t"), shell("sleep 300", dependencies=["t"])])
    wait_for(lambda: client.get_result("a") == {"t": 1})
    client.cancel("a")
    client.wait("a", 30)
    assert client.get_result("a") == {"t": 1}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo '{' > $AIR_EXECUTOR_OUTPUT", "wrote a result that is not JSON (Expecting property name"),
        (": > $AIR_EXECUTOR_OUTPUT", "wrote a result that is not JSON (Expecting value at line 1, column 1)"),
        ("echo NaN > $AIR_EXECUTOR_OUTPUT", "wrote a result that cannot be taken: NaN is no number in JSON"),
        ("echo 1e999 > $AIR_EXECUTOR_OUTPUT", "wrote a result that cannot be taken: 1e999 is too large a number"),
        (
            "printf '9%.0s' $(seq 5000) > $AIR_EXECUTOR_OUTPUT",
            "wrote a result that cannot be taken: it has a number of",
        ),
        (
            "printf '[%.0s' $(seq 60) > d; printf ']%.0s' $(seq 60) >> d; mv d $AIR_EXECUTOR_OUTPUT",
            "wrote a result that",
        ),
        ("ln -s $AIR_EXECUTOR_OUTPUT $AIR_EXECUTOR_OUTPUT", "wrote a result that cannot be read"),
        (r"printf '\377' > $AIR_EXECUTOR_OUTPUT", "wrote a result that is not UTF-8; write JSON"),
        ("head -c 100000000 /dev/zero > $AIR_EXECUTOR_OUTPUT", "wrote a result of 100000000 bytes; at most 1048576"),
        (
            "yes [ | tr -d '\\n' | head -c 200000 > $AIR_EXECUTOR_OUTPUT",
            "wrote a result that is nested more than 50 levels",
        ),
        ("mkdir $AIR_EXECUTOR_OUTPUT", "wrote a result that cannot be read"),
        ("mkfifo $AIR_EXECUTOR_OUTPUT", "wrote a result that cannot be read"),
    ],
)
def test_a_result_that_cannot_be_taken_fails_its_task(
    client: AirExecutorClient, start_runner: StartRunner, script: str, reason: str
) -> None:
    start_runner()
    cwd = str(client.home.root)
    job = run(client, shell(script, id="t", cwd=cwd), shell("true", id="u", dependencies=["t"]))
    assert job.state is JobState.FAILED and job.exit is not None and job.exit.kind is ExitKind.RESULT
    assert job.exit.reason.startswith(f"task t: {reason}") and job.exit.code == 0
    assert statuses(client) == {"t": "failed", "u": "skipped"} and client.get_result("a") == {}


def test_all_results_of_a_job_have_a_limit_too(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    text = f"head -c {results.MAX_TASK_BYTES - 2} /dev/zero | tr '\\0' x"
    write = f"{{ printf '\"'; {text}; printf '\"'; }} > $AIR_EXECUTOR_OUTPUT"
    tasks = [shell(write, id=f"t{number}") for number in range(17)]
    job = run(client, *tasks, max_parallel=2)
    assert job.state is JobState.FAILED and Counter(statuses(client).values()) == {"completed": 16, "failed": 1}
    assert job.exit is not None and "more than 16777216 with those of its job" in job.exit.reason


def test_what_a_failed_try_wrote_does_not_count(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    script = "if [ -e again ]; then exit 0; fi; touch again; echo 1 > $AIR_EXECUTOR_OUTPUT; exit 1"
    run(client, shell(script, id="t", retries=1, retry_delay=0, cwd=str(client.home.root)))
    assert client.get_job("a").state is JobState.COMPLETED and client.get_result("a") == {}


# --- A new attempt ---


def test_completed_tasks_are_kept_if_asked(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    cwd = str(client.home.root)
    tasks = [
        shell("echo one >> ran; echo 1 > $AIR_EXECUTOR_OUTPUT", id="one", cwd=cwd),
        shell("echo two >> ran; [ -e good ]", id="two", cwd=cwd),
        shell("echo three >> ran; echo 3 > $AIR_EXECUTOR_OUTPUT", id="three", dependencies=["two"], cwd=cwd),
    ]
    assert run(client, *tasks, max_parallel=1).state is JobState.FAILED
    (client.home.root / "good").touch()
    client.retry("a", keep_completed=True)
    assert client.wait("a", 30).state is JobState.COMPLETED
    ran = (client.home.root / "ran").read_text().split()
    assert ran == ["one", "two", "two", "three"]
    assert client.get_result("a") == {"one": 1, "three": 3}
    client.retry("a")
    client.wait("a", 30)
    assert (client.home.root / "ran").read_text().split() == [*ran, "one", "two", "three"]


def test_nothing_is_left_of_an_earlier_result(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    script = "[ -e again ] || echo 1 > $AIR_EXECUTOR_OUTPUT; touch again"
    run(client, shell(script, id="t", cwd=str(client.home.root)))
    assert client.get_result("a") == {"t": 1}
    client.retry("a")
    client.wait("a", 30)
    assert client.get_result("a") == {} and not client.home.job("a").result.exists()


# --- Tasks that are added ---


def test_a_task_adds_tasks_to_its_own_job(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    more = [
        {"id": "x", "command": "true", "dependencies": ["fan"]},
        {"id": "y", "command": "sh", "args": ["-c", "echo 7 > $AIR_EXECUTOR_OUTPUT"], "dependencies": ["x"]},
        {"command": "true"},
    ]
    job = run(client, {"id": "fan", "command": "sh", "args": ["-c", f"{ADD} '{json.dumps(more)}'"]})
    assert job.state is JobState.COMPLETED, client.logs("a")
    tasks = by_id(client)
    assert len(tasks) == 4 and {task.status for task in tasks.values()} == {TaskStatus.COMPLETED}
    assert {tasks[name].added_by for name in ("x", "y")} == {"fan"} and tasks["fan"].added_by is None
    assert client.get_result("a") == {"y": 7}
    assert list(tasks)[3].startswith("fan.")


def test_tasks_that_were_added_survive_what_tasks_json_does_not_know_yet(
    client: AirExecutorClient, start_runner: StartRunner
) -> None:
    """Its ephemeral runner is killed: what was accepted is in the record."""
    start_runner()
    client.create_job("a", [shell("sleep 300", id="t")])
    wait_for(lambda: statuses(client) == {"t": "running"})
    assert client.add_tasks([shell("sleep 300", id="u", env={"SECRET": "hunter2"})], "a") == ["u"]
    runner = client.get_job("a").runner
    assert runner is not None
    os.kill(runner.pid, signal.SIGKILL)
    assert client.wait("a", 30).state is JobState.FAILED
    assert by_id(client).keys() == {"t", "u"}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"command": ""}, "has an empty command"),
        ({"command": "true", "id": "t"}, "two tasks have the id 't'"),
        ({"command": "true", "id": "u", "dependencies": ["nobody"]}, "depends on 'nobody', which is not a task"),
        ({"command": "true", "id": "u", "dependencies": ["u"]}, "the tasks wait for each other: u -> u"),
        ({"command": "true", "colour": "red"}, "a task has no 'colour'"),
        ({"command": "true", "timeout": -1}, "timeout of task"),
    ],
)
def test_bad_tasks_are_not_added(
    client: AirExecutorClient, start_runner: StartRunner, task: dict[str, Any], message: str
) -> None:
    start_runner()
    client.create_job("a", [shell("sleep 300", id="t")])
    wait_for(lambda: statuses(client) == {"t": "running"})
    with pytest.raises(InvalidJobError, match=message):
        client.add_tasks([{"command": "true", "id": "good"}, task], "a")
    with pytest.raises(InvalidJobError, match="at least one task"):
        client.add_tasks([], "a")
    assert statuses(client) == {"t": "running"}
    assert list(client.home.job("a").added.iterdir()) == []


def test_tasks_are_added_to_jobs_that_run(
    client: AirExecutorClient, start_runner: StartRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_job("a", [shell("true", id="t")])
    with pytest.raises(JobBusyError, match="the job a is waiting"):
        client.add_tasks([shell("true")], "a")
    start_runner()
    client.wait("a", 30)
    with pytest.raises(JobBusyError, match="the job a is completed"):
        client.add_tasks([shell("true")], "a")
    with pytest.raises(NotFoundError):
        client.add_tasks([shell("true")], "nobody")
    monkeypatch.delenv("AIR_EXECUTOR_JOB", raising=False)
    with pytest.raises(InvalidJobError, match="AIR_EXECUTOR_JOB is not set"):
        client.add_tasks([shell("true")])


def test_what_depends_on_a_task_that_failed_is_skipped_also_if_it_comes_later(
    client: AirExecutorClient, start_runner: StartRunner
) -> None:
    start_runner()
    client.create_job("a", [shell("exit 1", id="bad"), shell("sleep 300", id="t")], max_parallel=2)
    wait_for(lambda: statuses(client) == {"bad": "failed", "t": "running"})
    client.add_tasks([shell("true", id="u", dependencies=["bad"]), shell("true", id="v", dependencies=["u"])], "a")
    wait_for(lambda: statuses(client) == {"bad": "failed", "t": "running", "u": "skipped", "v": "skipped"})


def test_a_job_that_starts_nothing_more_takes_no_tasks(client: AirExecutorClient, start_runner: StartRunner) -> None:
    start_runner()
    client.create_job("a", [shell("exit 1", id="bad"), shell("sleep 300", id="t")], max_parallel=2, on_failure="stop")
    wait_for(lambda: statuses(client) == {"bad": "failed", "t": "running"})
    with pytest.raises(InvalidJobError, match="starts no more tasks"):
        client.add_tasks([shell("true")], "a")


def test_nothing_that_was_accepted_is_lost_at_the_end_of_a_job(
    client: AirExecutorClient, start_runner: StartRunner
) -> None:
    """Somebody adds tasks, each when all others may just have ended: each is refused, or in the job."""
    start_runner()
    accepted: list[str] = []

    def add_until_refused() -> None:
        with pytest.raises(AirExecutorError, match=r"is over|is completed"):
            while True:
                accepted.extend(client.add_tasks([{"command": "true"}], "a"))
                wait_for(lambda: client.get_tasks("a")[-1].status is TaskStatus.COMPLETED)

    client.create_job("a", [shell("sleep 0.5")])
    wait_for(lambda: client.get_job("a").state is JobState.WORKING)
    threads = [threading.Thread(target=add_until_refused) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    job = client.wait("a", 60)
    assert job.state is JobState.COMPLETED and accepted
    assert {task.id for task in client.get_tasks("a")} >= set(accepted)
    assert {task.status for task in client.get_tasks("a")} == {TaskStatus.COMPLETED}


def test_tasks_that_a_task_added_are_added_anew_in_the_next_attempt(
    client: AirExecutorClient, start_runner: StartRunner
) -> None:
    start_runner()
    more = json.dumps([{"id": "x", "command": "true"}])
    fan = shell(f"{ADD} '{more}'", id="fan")
    other = shell("[ -e good ]", id="other", cwd=str(client.home.root))
    assert run(client, fan, other).state is JobState.FAILED
    client.retry("a")
    client.wait("a", 30)
    assert statuses(client) == {"fan": "completed", "other": "failed", "x": "completed"}
    (client.home.root / "good").touch()
    client.retry("a", keep_completed=True)
    assert client.wait("a", 30).state is JobState.COMPLETED
    assert {name: task.tries for name, task in by_id(client).items()} == {"fan": 0, "other": 1, "x": 0}


def test_a_thousand_tasks_that_one_task_adds(
    client: AirExecutorClient, start_runner: StartRunner, tmp_path: Path
) -> None:
    start_runner()
    script = tmp_path / "fan.py"
    script.write_text(
        "from air_executor import AirExecutorClient\n"
        "AirExecutorClient().add_tasks([{'command': 'true'} for _ in range(1000)])\n"
    )
    job = run(client, {"command": sys.executable, "args": [str(script)]}, max_parallel=8)
    assert job.state is JobState.COMPLETED
    assert Counter(task.status for task in client.get_tasks("a")) == {TaskStatus.COMPLETED: 1001}
