"""What the API server says of a job: to nobody who is not logged in, and nothing secret."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Airflow's API server warns of while it is imported is not about us
    from airflow.api_fastapi.app import init_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user

from air_executor import model, store
from air_executor.client import AirExecutorClient
from air_executor.paths import Home
from airflow_plugin import links, pages
from airflow_plugin.plugin import AirExecutorPlugin


@pytest.fixture
def job(api: AirExecutorClient) -> model.Job:
    task = model.Task("hunter2", id="only", env={"PASSWORD": "hunter2"}, args=["--token", "hunter2"], cwd="/hunter2")
    return api.submit(store.Submission(model.Job(name="one", labels={"team": "a"}), [task], b'{"token": "hunter2"}'))


@pytest.fixture
def somebody() -> Iterator[SimpleAuthManagerUser]:
    """Whoever is logged in."""
    init_auth_manager()
    user = SimpleAuthManagerUser(username="a", role="viewer")
    pages.app.dependency_overrides[get_user] = lambda: user
    yield user
    pages.app.dependency_overrides.clear()


def ask(path: str) -> httpx.Response:
    """As Airflow mounts what plugins bring."""
    airflow = FastAPI()
    for app in AirExecutorPlugin.fastapi_apps:
        airflow.mount(app["url_prefix"], app["app"])

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app=airflow)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            return await http.get(path)

    return asyncio.run(get())


@pytest.mark.parametrize("path", ["jobs/one", "jobs/none", "jobs/..%2f..%2fetc"])
def test_nobody_is_told_anything_without_a_login(home: Home, job: model.Job, path: str) -> None:
    answer = ask(f"/air-executor/{path}")
    assert answer.status_code in (401, 404) and "hunter2" not in answer.text
    assert "state" not in answer.text
    assert ask("/air-executor/jobs/one").status_code == 401


def test_who_is_logged_in_is_told_facts_and_no_secret(home: Home, job: model.Job, somebody: object) -> None:
    answer = ask("/air-executor/jobs/one")
    told = answer.json()
    assert (told["name"], told["state"], told["labels"]) == ("one", "waiting", {"team": "a"})
    assert [(task["id"], task["status"]) for task in told["tasks"]] == [("only", "pending")]
    assert "hunter2" not in answer.text
    assert ask(f"/air-executor/jobs/{job.id}").json() == told


def test_a_job_that_is_not_there_is_not_found(home: Home, somebody: object) -> None:
    assert ask("/air-executor/jobs/none").status_code == 404
    assert ask("/air-executor/jobs/.hidden").status_code == 404
    assert str(home.root) not in ask("/air-executor/jobs/none").text


def test_a_damaged_job_is_told_as_far_as_it_goes(home: Home, job: model.Job, somebody: object) -> None:
    home.job("one").tasks.write_text("{")
    answer = ask("/air-executor/jobs/one")
    assert answer.status_code == 503 and "tasks.json" in answer.json()["detail"]


def test_the_address_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/team/")
    assert links.job_address("one") == "https://airflow.example.org/team/air-executor/jobs/one"


def test_the_facts_are_plain_json(job: model.Job, api: AirExecutorClient) -> None:
    json.dumps(pages.facts(api.get_job("one"), api.get_tasks("one")))
