"""Tokens of jobs that wait: another one before the old one is out of date, and none in a job that does not wait."""

from __future__ import annotations

import json
import stat
from typing import Any

import jwt
import pytest

from air_executor import held
from air_executor.paths import Home
from airflow_plugin import tending, wanted
from airflow_plugin.executor import AirExecutor
from airflow_plugin.ledger import Entry
from airflow_plugin.wanted import Known
from tests.plugin import fleet

WEEK = 7 * 24 * 3600.0


@pytest.fixture(autouse=True)
def _database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow still wants everything, and nothing runs."""
    monkeypatch.setattr(wanted, "look", lambda _: iter(()))


def token(home: Home, name: str) -> str:
    return str(json.loads(home.job(name).workload.read_text())["token"])


def entry_of(executor: AirExecutor, name: str) -> Entry:
    entry = executor._ledger.get(name)
    assert entry is not None
    return entry


def age(executor: AirExecutor, seconds: float) -> None:
    """As if so much time had passed since everything was handed over; and a look."""
    for entry in executor._ledger:
        entry.since -= seconds
        entry.token_since -= seconds
    executor._tender._next = 0.0
    executor.sync()


def test_a_token_is_made_anew_in_the_middle_of_its_life(executor: AirExecutor, home: Home) -> None:
    task, callback = fleet.make_task(), fleet.make_callback()
    fleet.hand_over(executor, task, callback)
    names = {fleet.name_of(task): task, **{e.name: callback for e in executor._ledger if "callback" in e.name}}
    assert len(names) == 2
    age(executor, WEEK / 2 - 60)
    assert {token(home, name) for name in names} == {task.token, callback.token}
    age(executor, 61)
    for name, workload in names.items():
        subject = task.ti.id if workload is task else callback.callback.id
        claims = jwt.decode(token(home, name), options={"verify_signature": False})
        assert (claims["sub"], claims["scope"]) == (str(subject), "workload")
        assert claims["exp"] - claims["iat"] == WEEK
        content = json.loads(home.job(name).workload.read_text())
        assert {**content, "token": ""} == {**json.loads(workload.model_dump_json()), "token": ""}
        assert stat.S_IMODE(home.job(name).workload.stat().st_mode) == 0o600
    made = {name: token(home, name) for name in names}
    age(executor, 60)
    assert {name: token(home, name) for name in names} == made


def test_an_adopted_job_gets_one_at_once(executor: AirExecutor, home: Home) -> None:
    """How old the token is that another scheduler made, nobody knows."""
    task = fleet.make_task()
    [name] = fleet.hand_over(fleet.start_executor(), task)
    entry = Entry(name, fleet.key_of(task), external_id=task.ti.external_executor_id, subject=task.ti.id)
    executor._ledger.add(entry)
    age(executor, tending.INTERVAL)
    assert token(home, name) != task.token


def test_none_in_a_job_that_does_not_wait(executor: AirExecutor, home: Home) -> None:
    working, over, other = (fleet.make_task(task_id=name) for name in ("working", "over", "other"))
    fleet.hand_over(executor, working, over, other)
    entries = {task.ti.task_id: entry_of(executor, fleet.name_of(task)) for task in (working, over, other)}
    fleet.finish(home, fleet.name_of(over))
    entries["other"].external_id = "another run"
    with fleet.begin(home, fleet.name_of(working)):
        age(executor, WEEK)
        assert token(home, fleet.name_of(working)) == working.token
    for entry in entries.values():  # it is not held any more, and has begun
        tending.renew(home, entry, executor.jwt_generator)
    assert token(home, fleet.name_of(working)) == working.token
    assert token(home, fleet.name_of(other)) == other.token
    assert not home.job(fleet.name_of(over)).workload.exists()
    assert list(home.job(fleet.name_of(over)).root.glob("*workload*")) == []


def test_a_job_that_somebody_looks_at_gets_it_the_next_time(executor: AirExecutor, home: Home) -> None:
    task, damaged = fleet.make_task(), fleet.make_task()
    fleet.hand_over(executor, damaged, task)
    home.job(fleet.name_of(damaged)).workload.unlink()  # which keeps no other from getting one
    name = fleet.name_of(task)
    with held.HeldJob.acquire(home, name):
        age(executor, WEEK / 2)
        assert token(home, name) == task.token
    age(executor, tending.INTERVAL)
    assert token(home, name) != task.token


@pytest.mark.parametrize(
    ("known", "external_id", "expected"),
    [
        (Known("queued", "this"), "this", True),
        (Known("running", "this"), "this", True),
        (Known("restarting", "this"), "this", True),
        (Known("queued", None), "this", True),
        (Known("queued", "this"), None, True),
        (Known("queued", "next"), "this", False),
        (Known("scheduled", "this"), "this", False),
        (Known("failed", "this"), "this", False),
        (Known("removed", "this"), "this", False),
        (Known(None, "this"), "this", False),
        (None, "this", False),
    ],
)
def test_what_airflow_waits_for(known: Any, external_id: str | None, expected: bool) -> None:
    assert wanted.is_wanted(known, external_id) is expected
