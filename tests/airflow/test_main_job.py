"""The executor's main job: Airflow's tasks run as jobs, end in the right state, and leave what a person needs to
understand them.

All DAGs of this file run together, once for each database; the tests then look at what is left from different sides.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.airflow import home, rest, stack

STATES = {
    "push": "success",
    "double[0]": "success",
    "double[1]": "success",
    "double[2]": "success",
    "total": "success",
    "skips": "skipped",
    "pokes": "success",
    "deferred": "success",
    "shell": "success",
    "nothing": "success",
}
FAILURES = {"raises": "failed", "killed": "failed", "exits": "failed"}
# The scheduler itself marks an EmptyOperator done.
WITHOUT_JOB = {"nothing"}


@dataclass
class Ran:
    """A stack on which the DAGs of this file have run."""

    airflow: stack.Stack
    states: rest.Run
    failures: rest.Run

    @property
    def jobs(self) -> Iterator[home.Job]:
        for run in (self.states, self.failures):
            yield from self.airflow.home.jobs_of(run)

    def show(self, job: home.Job) -> dict[str, Any]:
        shown = json.loads(self.airflow.air_executor("show", "--json", job.name).stdout)
        return dict(shown["job"])


@pytest.fixture(scope="module")
def ran(shared_airflow: stack.Stack) -> Ran:
    shared_airflow.use_scheduler()
    done = Ran(shared_airflow, *(shared_airflow.rest.trigger(dag_id) for dag_id in ("states", "failures")))
    for run in (done.states, done.failures):
        shared_airflow.rest.finished(run, 90)
    # Airflow knows the end of a task before the job that ran it is over.
    shared_airflow.home.wait_finished(done.states, done.failures)
    return done


def test_tasks_end_in_the_state_that_airflow_documents(ran: Ran) -> None:
    assert ran.airflow.rest.states(ran.states) == STATES
    assert ran.airflow.rest.states(ran.failures) == FAILURES
    assert ran.airflow.rest.run_state(ran.states) == "success"
    assert ran.airflow.rest.run_state(ran.failures) == "failed"


def test_every_try_has_exactly_one_job(ran: Ran) -> None:
    tasks = [task for run in (ran.states, ran.failures) for task in ran.airflow.rest.tasks(run)]
    tries = Counter((t.label, number) for t in tasks for number in range(1, t.try_number + 1))
    jobs = Counter((home.label(job), int(job.labels["try_number"])) for job in ran.jobs)
    assert jobs == Counter({key: count for key, count in tries.items() if key[0] not in WITHOUT_JOB})
    assert jobs["raises", 1] == jobs["raises", 2] == 1


def test_jobs_of_tasks_that_did_not_fail_are_completed(ran: Ran) -> None:
    for job in ran.airflow.home.jobs_of(ran.states):
        assert job.state["state"] == "completed", job.state
        assert job.state["trigger"] == "executor"
        assert [task["status"] for task in job.tasks["tasks"]] == ["completed"]


def test_a_job_directory_is_private_complete_and_without_the_workload(ran: Ran) -> None:
    for job in ran.jobs:
        names = {path.name for path in job.path.iterdir()}
        assert {"state.json", "tasks.json", "events.jsonl", "logs"} <= names
        assert "workload.json" not in names
        assert job.mode == 0o700
    assert home.mode(ran.airflow.home.path) == 0o700


def test_no_token_is_left_below_the_home(ran: Ran) -> None:
    # Every JSON web token begins like this: it is `{"` in base 64.
    assert ran.airflow.home.containing("eyJ") == []


def test_the_event_file_tells_the_life_of_a_job(ran: Ran) -> None:
    events = ran.airflow.home.job_of(ran.states, "push").events
    assert [(event["from"], event["to"]) for event in events if event["event"] == "job"] == [
        (None, "waiting"),
        ("waiting", "working"),
        ("working", "completed"),
    ]
    assert all(event["by"] and event["why"] for event in events if event["event"] == "job")


@pytest.mark.parametrize("task_id", ["deferred", "pokes"])
def test_a_task_that_gave_its_slot_up_comes_back_in_the_same_directory(ran: Ran, task_id: str) -> None:
    job = ran.airflow.home.job_of(ran.states, task_id)
    assert job.state["attempt"] == 2
    assert job.labels["try_number"] == "1"


def test_a_task_that_ran_through_has_one_attempt(ran: Ran) -> None:
    assert {job.state["attempt"] for job in ran.airflow.home.jobs_of(ran.states, "double")} == {1}


def test_the_ui_reads_the_log_of_each_try(ran: Ran) -> None:
    assert "text that the log must hold" in ran.airflow.rest.log(ran.states, "push")
    assert "to stderr" in ran.airflow.rest.log(ran.states, "shell")
    for number in (1, 2):
        log = ran.airflow.rest.log(ran.failures, "raises", number)
        assert "about to raise" in log
        assert "the reason the body gave" in log
    assert "about to be killed" in ran.airflow.rest.log(ran.failures, "killed")


def test_show_says_why_a_try_failed(ran: Ran) -> None:
    for job in ran.airflow.home.jobs_of(ran.failures, "raises"):
        shown = ran.show(job)
        assert shown["state"] == "failed"
        assert shown["exit"]["code"] > 0
        assert "ValueError: the reason the body gave" in shown["exit"]["reason"]


def test_show_says_how_a_killed_task_ended(ran: Ran) -> None:
    shown = ran.show(ran.airflow.home.job_of(ran.failures, "killed"))
    assert shown["state"] == "failed"
    assert "SIGKILL" in shown["exit"]["reason"]


def test_the_event_log_of_airflow_says_why_a_job_failed(ran: Ran) -> None:
    for job in ran.airflow.home.jobs_of(ran.failures):
        told = [event["extra"] or "" for event in ran.airflow.rest.events(ran.failures, job.labels["task_id"])]
        assert any(job.state["exit"]["reason"] in extra for extra in told), (job.name, told)


def test_no_component_logged_an_exception(ran: Ran) -> None:
    ran.airflow.assert_no_exception()
