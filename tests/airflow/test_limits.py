"""How many tasks run, which one is next, and where: parallelism, priority, queues, executors."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from tests.airflow import databases, home, stack, waiting

PARALLELISM = 4


@pytest.mark.own_scheduler
@databases.ON_POSTGRES
def test_no_more_tasks_work_than_parallelism_allows_and_the_weightiest_come_first(
    shared_airflow: stack.Stack,
) -> None:
    shared_airflow.use_scheduler(CORE__PARALLELISM=str(PARALLELISM))
    run = shared_airflow.rest.trigger("crowd")
    assert shared_airflow.rest.finished(run, 90) == "success"
    shared_airflow.home.wait_finished(run)
    jobs = sorted(shared_airflow.home.jobs_of(run), key=lambda job: str(job.state["created_at"]))
    assert len(jobs) == 50
    assert most_at_once(jobs) == PARALLELISM
    weights = [int(job.labels["task_id"].removeprefix("weight_")) for job in jobs]
    # Slots that become free together are refilled together, and within such a batch the time of making has no order.
    assert all(abs(weight - expected) < PARALLELISM for weight, expected in zip(weights, range(50, 0, -1), strict=True))


@databases.ON_POSTGRES
def test_a_runner_starts_the_job_of_the_highest_priority_next(airflow: stack.Stack) -> None:
    run = airflow.rest.trigger("narrow")
    waiting.until(lambda: len(airflow.home.jobs_of(run)) == 5, "five jobs to wait", 40)
    with airflow.runner("narrow", "--slots", "1"):
        assert airflow.rest.finished(run) == "success"
    assert airflow.marks(f"narrow-{run.run_id}") == ["5", "4", "3", "2", "1"]


def test_a_task_for_a_queue_runs_on_a_runner_that_serves_it(airflow: stack.Stack) -> None:
    run = airflow.rest.trigger("heavy")
    job = waiting.until(lambda: airflow.home.jobs_of(run), "the job to be made", 40)[0]
    workload = job.path / "workload.json"
    assert workload.stat().st_mode & 0o777 == 0o600
    token = airflow.home.token_of(job)
    assert airflow.home.containing(token) == [workload]
    assert job.state["state"] == "waiting"
    with airflow.runner("heavy") as runner:
        assert airflow.rest.finished(run) == "success"
        airflow.home.wait_finished(run)
    state = airflow.home.job_of(run, "lift").state
    assert (state["queue"], state["runner"]["runner"]) == ("heavy", runner)
    assert airflow.home.containing(token) == []


@pytest.mark.own_scheduler
@databases.ON_POSTGRES
def test_tasks_choose_between_two_executors(shared_airflow: stack.Stack) -> None:
    shared_airflow.use_scheduler(CORE__EXECUTOR="LocalExecutor,airflow_plugin.AirExecutor", CORE__PARALLELISM="2")
    run = shared_airflow.rest.trigger("two_executors")
    assert shared_airflow.rest.finished(run) == "success"
    shared_airflow.home.wait_finished(run)
    assert [job.labels["task_id"] for job in shared_airflow.home.jobs_of(run)] == ["air"]
    assert Counter(shared_airflow.rest.states(run).values()) == {"success": 3}
    shared_airflow.assert_no_exception("scheduler")


def most_at_once(jobs: list[home.Job]) -> int:
    """How many of the jobs worked at the same time, by what they say of themselves."""
    changes = [(str(job.state["started_at"]), 1) for job in jobs] + [
        (str(job.state["finished_at"]), -1) for job in jobs
    ]
    working = list(itertools.accumulate(change for _, change in sorted(changes)))
    return max(working)
