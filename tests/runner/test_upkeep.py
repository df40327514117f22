"""What a runner does now and then, beside clocks that may be set."""

from __future__ import annotations

import os
import time

import pytest

from air_executor import _files, model, processes, repair, runners
from air_executor.paths import Home
from air_runner.presence import Presence
from air_runner.upkeep import last_look

HOUR = 3600.0


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(10_030.0, 10_000.0, id="nobody set it"),
        pytest.param(10_030.0 + HOUR, 10_000.0, id="set ahead: what was written before counts"),
        pytest.param(10_030.0 - HOUR, 10_000.0 - HOUR, id="set back: what was written since counts"),
    ],
)
def test_since_when_to_look(now: float, expected: float) -> None:
    assert last_look(530.0, now, 500.0, 10_000.0) == expected


def test_the_time_of_the_home_is_that_of_its_files(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(home.runners.iterdir())
    assert repair.home_time(home) == pytest.approx(time.time(), abs=5.0)
    assert list(home.runners.iterdir()) == before

    def full(_: object) -> float:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files, "time_in", full)
    assert repair.home_time(home) == pytest.approx(time.time(), abs=5.0)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_submitter_is_there_as_long_as_its_sign_changes_whatever_time_it_says(home: Home, step: float) -> None:
    moment = model.now()
    process = processes.identify(os.getpid())
    presence = Presence(home, runners.RunnerInfo("r", process, ["default"], 1, "fork", "0", moment, moment, 3.0))
    assert not presence.is_wanted(60.0, 1000.0)
    runners.keep_alive(home)
    assert not presence.is_wanted(60.0, 1010.0)  # it may be an old one
    for now, sign in ((1020.0, time.time() + step), (1030.0, time.time() - step)):
        os.utime(home.keepalive, (sign, sign))
        assert presence.is_wanted(60.0, now) and presence.is_wanted(60.0, now + 59.0)
        assert not presence.is_wanted(60.0, now + 61.0)
    home.keepalive.unlink()
    assert not presence.is_wanted(60.0, 2000.0)
