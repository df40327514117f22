"""kill -9 while tasks flow: every body runs exactly once, death is noticed in seconds, and nothing is left over.

The long version, with a hundred kills, is `benchmarks/kills.py`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

import psutil
import pytest

from tests.airflow import databases, flow, kills, rest, stack, waiting

pytestmark = databases.ON_POSTGRES

SEED = 20
RETRY_DELAY = 2
NOTICED = 15
"""Seconds until a killed try has failed and the next one has started, beside its retry delay."""


def test_the_runner_and_all_its_processes_killed(airflow: stack.Stack) -> None:
    run = airflow.rest.trigger("lost")
    names = [f"{run.run_id}-{task_id}" for task_id in ("again", "never")]
    waiting.until(lambda: all(airflow.marks(name) for name in names), "both bodies to start", 60)
    killed = time.monotonic()
    kill_trees(int(info["process"]["pid"]) for info in airflow.home.runners())
    waiting.until(lambda: "start again" in airflow.marks(names[0]), "the next try to start", 60)
    seconds = time.monotonic() - killed
    print(f"the next try started {seconds:.1f} s after the kill")
    assert seconds < NOTICED + RETRY_DELAY
    assert airflow.rest.finished(run) == "failed"
    assert airflow.rest.states(run) == {"again": "success", "never": "failed"}
    says_why(airflow, run, "never")


@pytest.mark.own_scheduler
def test_scheduler_and_runner_killed_while_tasks_flow(shared_airflow: stack.Stack) -> None:
    shared_airflow.use_scheduler(**kills.SOON)
    tasks = flow.Flow(shared_airflow, "brook", answers=False)
    killer = kills.Killer(shared_airflow, tasks, random.Random(SEED), reserve=10, pause=2, settings=kills.SOON)
    for what in ("scheduler", "runner", "both", "runner", "scheduler", "runner", "both", "scheduler"):
        print(killer.kill(what))
    tasks.finish(90)
    assert flow.problems(tasks) == []
    assert sum(kill.bodies > 0 for kill in killer.kills) >= 4


@pytest.mark.own_scheduler
def test_one_of_two_schedulers_killed_while_tasks_flow(shared_airflow: stack.Stack) -> None:
    shared_airflow.use_scheduler(**kills.SOON)
    tasks = flow.Flow(shared_airflow, "brook", answers=False)
    with kills.second_scheduler(shared_airflow, kills.SOON):
        for _ in range(2):
            tasks.trigger()
        print(kills.kill_one_of_two(tasks, random.Random(SEED)), "was killed")
        tasks.finish(90)
        assert flow.problems(tasks) == []
    print("task instances of each scheduler:", kills.queued_by(tasks))


def says_why(airflow: stack.Stack, run: rest.Run, task_id: str) -> None:
    """In the task's event log, and in what `show` says of its job."""
    reason = "is gone; its runner"
    [event] = [event for event in airflow.rest.events(run, task_id) if event["event"] == "job failed"]
    assert reason in event["extra"]
    assert reason in airflow.air_executor("show", airflow.home.job_of(run, task_id).name).stdout


def kill_trees(roots: Iterable[int]) -> None:
    """The roots first, so that none of them can tell what became of the others."""
    trees = [[process, *process.children(recursive=True)] for process in map(psutil.Process, roots)]
    kills.kill_all([process.pid for tree in trees for process in tree])
