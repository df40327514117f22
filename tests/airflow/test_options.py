"""What a task may say in its executor_config, and what happens when it says it wrong."""

from __future__ import annotations

import pytest

from tests.airflow import databases, rest, stack

pytestmark = databases.ON_POSTGRES

STATES = {
    "env": "success",
    "nice": "success",
    "queue": "success",
    "plain": "success",
    "timeout": "failed",
    "memory": "failed",
    "unknown": "failed",
    "wrong": "failed",
}


@pytest.fixture(scope="module")
def run(shared_airflow: stack.Stack) -> rest.Run:
    shared_airflow.use_scheduler()
    run = shared_airflow.rest.trigger("options")
    shared_airflow.rest.finished(run, 90)
    shared_airflow.home.wait_finished(run)
    return run


def test_a_mistake_fails_its_own_task_only(airflow: stack.Stack, run: rest.Run) -> None:
    assert airflow.rest.states(run) == STATES


@pytest.mark.parametrize(
    ("task_id", "output"),
    [
        ("env", "colour is green"),
        ("nice", "niceness is 7"),
        ("queue", "ran after all"),
        ("plain", "undisturbed"),
    ],
)
def test_an_option_takes_effect(airflow: stack.Stack, run: rest.Run, task_id: str, output: str) -> None:
    assert output in airflow.rest.log(run, task_id)


@pytest.mark.parametrize(("task_id", "kind"), [("timeout", "timeout"), ("memory", "memory")])
def test_a_limit_ends_the_job_and_is_named_as_the_reason(
    airflow: stack.Stack, run: rest.Run, task_id: str, kind: str
) -> None:
    job = airflow.home.job_of(run, task_id)
    assert (job.state["state"], job.state["exit"]["kind"]) == ("failed", kind)
    told = [event["extra"] or "" for event in airflow.rest.events(run, task_id)]
    assert any(job.state["exit"]["reason"] in extra for extra in told), told


@pytest.mark.parametrize(("task_id", "option"), [("unknown", "tiemout"), ("wrong", "memory_mb")])
def test_a_mistake_is_named_in_the_event_log(airflow: stack.Stack, run: rest.Run, task_id: str, option: str) -> None:
    told = [event["extra"] or "" for event in airflow.rest.events(run, task_id)]
    assert any(option in extra for extra in told), told
    assert airflow.home.jobs_of(run, task_id) == []


def test_the_scheduler_logged_no_exception(airflow: stack.Stack, run: rest.Run) -> None:
    airflow.assert_no_exception("scheduler")
