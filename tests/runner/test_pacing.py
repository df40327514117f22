"""How many jobs start at a time."""

from __future__ import annotations

import pytest

from air_executor import load
from air_runner.pacing import LOOK_SECONDS, LOOK_SECONDS_BUSY, START_SECONDS, Pacer


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """How many processors are idle, at each look; the last stays."""
    looks: list[int | None] = [0]
    monkeypatch.setattr(load, "idle_processors", lambda: looks.pop(0) if len(looks) > 1 else looks[0])
    return looks


def start(pacer: Pacer, running: set[str], moment: float, most: int) -> int:
    """Start as many as may start now."""
    begun = 0
    while begun < most and pacer.seconds_to_wait(running, moment) == 0:
        name = f"job-{moment}-{begun}"
        pacer.begin(name, moment)
        running.add(name)
        begun += 1
    return begun


def test_a_few_start_at_once_however_busy_the_host_is(idle: list[int | None]) -> None:
    pacer = Pacer(4)
    assert start(pacer, set(), 100.0, 50) == 4
    assert pacer.seconds_to_wait({"job-100.0-0"}, 100.0) == 0, "three of them are over"


def test_the_end_of_one_lets_another_start(idle: list[int | None]) -> None:
    pacer, running = Pacer(2), set[str]()
    assert start(pacer, running, 100.0, 50) == 2
    assert start(pacer, running, 100.1, 50) == 0
    running.remove("job-100.0-1")
    assert start(pacer, running, 100.2, 50) == 1


def test_one_that_runs_for_long_is_no_start_any_more(idle: list[int | None]) -> None:
    pacer, running = Pacer(2), set[str]()
    start(pacer, running, 100.0, 50)
    assert start(pacer, running, 100.0 + START_SECONDS, 50) == 2


def test_an_idle_processor_is_used(idle: list[int | None]) -> None:
    pacer, running = Pacer(2), set[str]()
    start(pacer, running, 100.0, 2)
    idle[:] = [3, 1, 0]
    assert start(pacer, running, 100.0, 50) == 3
    assert start(pacer, running, 100.0 + LOOK_SECONDS / 2, 50) == 0, "what was launched has to be seen first"
    assert start(pacer, running, 100.0 + LOOK_SECONDS, 50) == 1
    assert pacer.seconds_to_wait(running, 100.0 + LOOK_SECONDS * 2) == pytest.approx(LOOK_SECONDS_BUSY)


def test_where_nobody_knows_whether_processors_are_idle_nothing_waits(idle: list[int | None]) -> None:
    idle[:] = [None]
    pacer, running = Pacer(2), set[str]()
    moment = 100.0
    for _ in range(10):
        assert start(pacer, running, moment, 2) == 2
        moment += LOOK_SECONDS


def test_more_processors_let_more_start(monkeypatch: pytest.MonkeyPatch, idle: list[int | None]) -> None:
    monkeypatch.setattr(load, "processors", lambda: 8)
    assert start(Pacer(), set(), 100.0, 50) == 8 * load.STARTS_PER_PROCESSOR
