"""The scheduler's loop goes on whatever becomes of the executor's home or configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.airflow import databases, stack, waiting

pytestmark = databases.ON_POSTGRES


@pytest.fixture
def home_in_the_way(airflow: stack.Stack) -> Iterator[Path]:
    """A file where the home was; the home is put back afterwards."""
    home, aside = airflow.home.path, airflow.home.path.with_name("aside")
    home.rename(aside)
    home.write_text("not a directory")
    yield home
    if home.is_file():
        home.unlink()
        aside.rename(home)


def test_a_home_that_is_gone_does_not_stop_the_scheduler(airflow: stack.Stack, home_in_the_way: Path) -> None:
    scheduler = airflow.component("scheduler")
    airflow.new_output("scheduler")
    one = airflow.rest.trigger("one")
    empty = airflow.rest.trigger("empty")
    # This one needs the scheduler and no executor.
    assert airflow.rest.finished(empty) == "success"
    seen: list[str] = []

    def logged() -> bool:
        seen.append(airflow.new_output("scheduler"))
        return str(home_in_the_way) in "".join(seen)

    waiting.until(logged, "the scheduler to say what is wrong", 30)
    home_in_the_way.unlink()
    home_in_the_way.with_name("aside").rename(home_in_the_way)
    airflow.rest.finished(one)
    again = airflow.rest.trigger("one")
    assert airflow.rest.finished(again) == "success"
    assert airflow.running("scheduler")
    assert airflow.component("scheduler") == scheduler


@pytest.mark.own_scheduler
def test_a_wrong_option_does_not_stop_the_scheduler(shared_airflow: stack.Stack) -> None:
    shared_airflow.use_scheduler(AIR_EXECUTOR__SLOTTS="4")
    waits = shared_airflow.rest.trigger("one")
    assert shared_airflow.rest.finished(shared_airflow.rest.trigger("empty")) == "success"

    def told() -> bool:
        return any("slotts" in str(event["extra"]).lower() for event in shared_airflow.rest.events(waits, "ping"))

    waiting.until(told, "the task's events to name the option", 30, 0.5)
    assert shared_airflow.running("scheduler")
    # What waited runs as soon as the option is right.
    shared_airflow.use_scheduler()
    assert shared_airflow.rest.finished(waits, 90) == "success"
