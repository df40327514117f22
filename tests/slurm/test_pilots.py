"""Pilots on a real Slurm: they come on demand, run many jobs in one allocation, and go; and some die."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor import AirExecutorClient, model, processes, runners, spool, store, testing
from air_executor.paths import Home
from air_executor.slurm import condition, pilots, record
from air_executor.testing import wait_for
from tests.slurm.cluster import Cluster

CONFIG = """
[queues.small]
launcher = "slurm"
pilots = 1
pilot_idle = 1.5
pilot_slots = 4
time = 5

[queues.broken]
launcher = "slurm"
pilots = 2
python = "/no/such/python"
time = 5

[slurm]
poll = 1
patience = 1
"""


@pytest.fixture(scope="module")
def home(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One with a runner that serves both queues."""
    home = Home(tmp_path_factory.mktemp("pilots") / "home")
    store.ensure_home(home)
    home.config.write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        with testing.running_runner(home, "--name", "head", "--grace", "1"):
            yield home
    ours = [row.id for row in cluster.squeue() if record.home_id(home) in row.name]
    cluster.run("scancel", *ours)
    wait_for(lambda: not allocations(cluster, home), what="the end of all pilots")


def allocations(cluster: Cluster, home: Home) -> list[str]:
    """The pilots that Slurm has not ended, by number."""
    over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}
    own = record.home_id(home)
    return [row.id for row in cluster.squeue() if pilots.parse_submission(row.name, own) and row.state not in over]


def told(home: Home) -> condition.Condition:
    return condition.read(home, "head") or condition.Condition("head", "")


def test_many_jobs_in_one_allocation_which_ends_when_idle(cluster: Cluster, home: Home) -> None:
    client = AirExecutorClient(home.root)
    names = [f"job{number}" for number in range(20)]
    say = 'printf "%s" "$SLURM_JOB_ID" > "$AIR_EXECUTOR_OUTPUT"'
    for name in names:
        client.create_job(name, [{"id": "say", "command": "sh", "args": ["-c", say]}], queue="small")
    found = wait_for(lambda: told(home).pilots, what="a pilot that is told of")
    assert found[0].queue == "small"
    assert {client.wait(name, timeout=30).state.value for name in names} == {"completed"}
    assert {client.get_result(name)["say"] for name in names} == {int(found[0].id or 0)}
    wait_for(lambda: not allocations(cluster, home), what="the end of an idle pilot")
    wait_for(lambda: not told(home).pilots, what="a runner that knows it")
    known = [each for each in pilots.read_all(home) if each.queue == "small"]
    assert [(each.state, each.came_up, each.why) for each in known] == [("COMPLETED", True, "it ended by itself")]
    assert [info.id for info in runners.all_runners(home)] == ["head"]
    assert set(spool.holders(home)) <= {"head"}


def test_jobs_of_a_killed_pilot_say_why_and_the_next_pilot_runs_what_waited(cluster: Cluster, home: Home) -> None:
    client = AirExecutorClient(home.root)
    client.create_job("lost", [{"command": "sleep", "args": ["600"]}], queue="small")
    # What has not started its task is given to the next pilot.
    wait_for(lambda: any(task.has_started for task in store.read_tasks(home, "lost")), what="a task on a pilot")
    [pilot] = [info for info in runners.all_runners(home) if info.id != "head"]
    processes.kill_tree(pilot.process.pid)
    client.create_job("next", [{"command": "true"}], queue="small")
    ended = client.wait("lost", timeout=90)
    assert ended.exit is not None
    assert ended.exit.kind is model.ExitKind.RUNNER_LOST
    number = next(each.id for each in pilots.read_all(home) if each.name == pilot.id)
    assert ended.exit.reason.startswith(f"its pilot {pilot.id} (the Slurm job {number} on ")
    assert "Slurm says that it failed" in ended.exit.reason
    assert client.wait("next", timeout=90).state is model.JobState.COMPLETED
    assert not allocations(cluster, home) or allocations(cluster, home) != [number]


def test_pilots_that_cannot_start_are_tried_less_and_less_and_said_why(cluster: Cluster, home: Home) -> None:
    client = AirExecutorClient(home.root)
    for number in range(4):
        client.create_job(f"never{number}", [{"command": "true"}], queue="broken")
    why = wait_for(lambda: [each.why for each in told(home).refusals if each.queue == "broken"], what="a refusal")
    assert "/no/such/python" in why[0]
    assert why[0].endswith("the next one in 2 s at the earliest")
    assert not Path("/no/such/python").exists()
    for number in range(4):
        client.cancel(f"never{number}")
        assert client.wait(f"never{number}", timeout=60).state is model.JobState.CANCELLED
