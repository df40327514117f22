"""The sensor and the decorator against a real home."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from airflow.sdk import task
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.bases.sensor import PokeReturnValue
from airflow.sdk.exceptions import AirflowException, AirflowSensorTimeout, AirflowSkipException, TaskDeferred

from air_executor import model, testing
from air_executor.client import AirExecutorClient
from air_executor.errors import InvalidInputError, InvalidJobError, NotFoundError
from air_executor.paths import Home
from air_executor.remote import patience
from airflow_plugin.decorators import read_returned
from airflow_plugin.sensors import AirJobSensor
from tests.plugin import tasks
from tests.plugin.conftest import only_files

pytestmark = pytest.mark.usefixtures("way")
TRUE = [{"id": "only", "command": "true"}]


@pytest.fixture(autouse=True)
def safeguard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow lets only its worker execute operators."""
    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)


def poke(**given: Any) -> bool | PokeReturnValue:
    sensor = AirJobSensor(task_id="sensor", **given)
    return sensor.poke(tasks.context(sensor))


def test_it_waits_for_a_job_that_is_not_there_or_not_over(home: Home, api: AirExecutorClient) -> None:
    assert poke(job="one") is False
    api.create_job("one", TRUE)
    assert poke(job="one") is False


def test_a_job_that_must_be_there_and_is_not_is_an_error(home: Home) -> None:
    with pytest.raises(NotFoundError, match="one"):
        poke(job="one", must_exist=True)


@only_files
def test_a_server_that_is_away_is_waited_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PERSISTENT", patience.ONCE)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        connection = {"conn_type": "air_executor", "host": address, "password": "ax_0_0"}
        monkeypatch.setenv("AIRFLOW_CONN_AIR_EXECUTOR_DEFAULT", json.dumps(connection))
        assert poke(job="one", must_exist=True) is False


def test_it_returns_the_outcome(home: Home, api: AirExecutorClient) -> None:
    with testing.running_runner(home):
        identifier = api.create_job("one", TRUE)
        api.wait("one", 20)
    for name in ("one", identifier):
        found = poke(job=name)
        assert isinstance(found, PokeReturnValue) and found.is_done
        assert (found.xcom_value["state"], found.xcom_value["tasks"]) == ("completed", {"only": "completed"})


def test_a_job_that_failed_fails_it(home: Home, api: AirExecutorClient) -> None:
    api.create_job("one", TRUE)
    api.cancel("one", by="user somebody")
    with pytest.raises(AirflowException, match="cancelled by user somebody"):
        poke(job="one")
    with pytest.raises(AirflowSkipException, match="cancelled by user somebody"):
        poke(job="one", soft_fail=True)
    found = poke(job="one", failed_states=["failed"])
    assert isinstance(found, PokeReturnValue) and found.xcom_value["state"] == "cancelled"


def test_a_state_that_does_not_exist_is_refused(home: Home) -> None:
    with pytest.raises(InvalidInputError, match="'working'; a job ends as one of cancelled, completed, failed"):
        tasks.run(AirJobSensor(task_id="sensor", job="one", failed_states=["working"]))


def test_deferred(home: Home, api: AirExecutorClient) -> None:
    sensor = AirJobSensor(task_id="sensor", job="{{ run_id }}", deferrable=True, timeout=60)
    with pytest.raises(TaskDeferred) as caught:
        tasks.run(sensor)
    trigger = caught.value.trigger
    assert (trigger.job_name, trigger.attempt, trigger.stopper) == ("manual__1", None, None)
    event = {"job": "manual__1", "state": "cancelled", "attempt": 1, "timed_out": False, "deadline": trigger.deadline}
    api.create_job("manual__1", TRUE)
    with pytest.raises(TaskDeferred) as again:  # another attempt has begun meanwhile
        sensor.resume(tasks.context(sensor), event)
    assert again.value.trigger.deadline == trigger.deadline
    api.cancel("manual__1")
    with pytest.raises(AirflowException, match="cancelled"):
        sensor.resume(tasks.context(sensor), event)
    with pytest.raises(AirflowSensorTimeout, match="not over after 60 s"):
        sensor.resume(tasks.context(sensor), {**event, "timed_out": True})


# --- @task.air_job ---


def test_the_function_says_which_tasks(home: Home, api: AirExecutorClient) -> None:
    @task.air_job(max_parallel=2, wait_for_completion=False)
    def work(words: list[str], ds: Any = None) -> list[dict[str, Any]]:
        return [{"id": word, "command": "echo", "args": [ds, "{{ run_id }}"]} for word in words]

    with tasks.dag():
        operator = work(["a", "b"]).operator  # type: ignore[attr-defined]
    job = api.get_job(tasks.run(operator)["job"])
    assert job.max_parallel == 2
    assert [(each.id, each.args) for each in api.get_tasks(job.name)] == [
        ("a", ["2026-01-31", "manual__1"]),
        ("b", ["2026-01-31", "manual__1"]),
    ]


@only_files
def test_what_a_function_may_return() -> None:
    assert read_returned([model.Task("true", id="a")]) == {"tasks": [{"command": "true", "id": "a"}]}
    assert read_returned({"tasks": TRUE, "labels": {"a": "b"}}) == {"tasks": TRUE, "labels": {"a": "b"}}
    assert read_returned({"pipeline": "nightly"}) == {"pipeline": "nightly", "tasks": None}
    for returned in (None, "true", 3):
        with pytest.raises(InvalidJobError, match="must be a list of tasks"):
            read_returned(returned)
    with pytest.raises(InvalidJobError, match="the option 'task_id'"):
        read_returned({"tasks": TRUE, "task_id": "x"})
