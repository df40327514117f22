"""The embedded runner: started without the scheduler waiting for it, kept running, renewed with the scheduler."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor import AirExecutorClient, JobState, _files, processes, runners, store
from air_executor.paths import Home
from air_executor.runners import StartOptions
from air_executor.testing import end_everything, running_runner, wait_for
from airflow_plugin import config, keeper, starter
from airflow_plugin.executor import AirExecutor
from airflow_plugin.keeper import RunnerKeeper

OPTIONS = StartOptions(queues=["default"], slots=3, linger=600, embedded=True)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Home]:
    """A home in which nothing runs in the end."""
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    yield home
    end_everything(home)


def tick_until(kept: RunnerKeeper, home: Home, wanted: int = 1) -> list[runners.RunnerInfo]:
    """Tick, as `sync` does, until so many runners take jobs and nothing is being started."""

    def ready() -> list[runners.RunnerInfo]:
        kept.tick()
        found = runners.serving(runners.alive_runners(home), "default")
        return found if len(found) == wanted and not kept.starting else []

    return wait_for(ready, 30, "the runner")


def test_a_runner_is_started_and_outlives_its_scheduler(place: Home) -> None:
    kept = RunnerKeeper(place, OPTIONS, wanted=True)
    [info] = tick_until(kept, place)
    assert (info.queues, info.slots, info.embedded) == (["default"], 3, True)
    assert os.getsid(info.process.pid) != os.getsid(0)


def test_starting_does_not_wait(place: Home) -> None:
    kept = RunnerKeeper(place, OPTIONS, wanted=True)
    kept.tick()
    assert kept.starting and runners.all_runners(place) == []
    tick_until(kept, place)


def test_a_runner_that_died_is_replaced(place: Home) -> None:
    kept = RunnerKeeper(place, OPTIONS, wanted=True)
    [info] = tick_until(kept, place)
    os.kill(info.process.pid, 9)
    wait_for(lambda: not runners.alive_runners(place))
    [new] = tick_until(kept, place)
    assert new.id != info.id


def test_a_new_scheduler_renews_the_runner(place: Home) -> None:
    [old] = tick_until(RunnerKeeper(place, OPTIONS, wanted=True), place)
    restarted = RunnerKeeper(place, OPTIONS, wanted=True)
    [new] = tick_until(restarted, place)
    assert new.id != old.id
    wait_for(lambda: not processes.is_alive(old.process), what="the end of the old runner")


def test_what_is_renewed_does_not_depend_on_a_clock_that_may_have_been_set(place: Home) -> None:
    with running_runner(place, "--embedded") as old:
        old.info.started_at = "2101-01-01T00:00:00Z"
        runners.write(place, old.info)
        assert starter._old_runners(place, processes.now() + 1) == [old.id]
        assert starter._old_runners(place, old.info.process.start_time) == []
        assert starter._old_runners(place, None) == []


def test_the_jobs_of_the_old_runner_go_over_to_the_new_one_and_take_its_slots(place: Home) -> None:
    client = AirExecutorClient(place.root)
    [old] = tick_until(RunnerKeeper(place, OPTIONS, wanted=True), place)
    client.create_job("goes-on", [{"command": "sleep", "args": ["300"]}])
    wait_for(lambda: client.get_job("goes-on").state is JobState.WORKING, what="the job working")
    [new] = tick_until(RunnerKeeper(place, OPTIONS, wanted=True), place)
    wait_for(lambda: not processes.is_alive(old.process), what="the end of the old runner")
    wait_for(lambda: runners.read(place, new.id).working == 1, what="the job in the slots of the new runner")
    assert client.get_job("goes-on").state is JobState.WORKING


def test_jobs_are_handed_over_only_to_a_runner_of_this_host(place: Home) -> None:
    with running_runner(place, "--embedded") as old, running_runner(place) as other:
        assert starter._has_successor(place, [old.id])
        here, info = other.id, other.info
        info.process.host, info.id = "elsewhere", "remote"
        runners.write(place, info)
        assert not starter._has_successor(place, [old.id, here])


def test_if_no_new_runner_can_be_started_the_old_one_goes_on(place: Home) -> None:
    [old] = tick_until(RunnerKeeper(place, OPTIONS, wanted=True), place)
    broken = RunnerKeeper(place, StartOptions(queues=["default"], embedded=True, launcher="none"), wanted=True)
    wait_for(lambda: broken.tick() or broken.failures, 30, "the failure")
    [info] = wait_for(lambda: runners.serving(runners.alive_runners(place), "default"), what="the old runner back")
    assert info.id == old.id


def test_a_runner_that_somebody_else_started_is_left_alone(place: Home) -> None:
    with running_runner(place) as own:
        kept = RunnerKeeper(place, OPTIONS, wanted=True)
        [info] = tick_until(kept, place)
        assert info.id == own.id and kept._renew_before is None


def test_a_runner_of_other_queues_is_not_enough(place: Home) -> None:
    with running_runner(place, "--queues", "gpu"):
        [info] = tick_until(RunnerKeeper(place, OPTIONS, wanted=True), place)
        assert info.queues == ["default"]


def test_of_two_schedulers_one_starts_it(place: Home) -> None:
    both = [RunnerKeeper(place, OPTIONS, wanted=True) for _ in range(2)]
    for kept in both:
        kept._renew_before = None
        kept.tick()
    for kept in both:
        tick_until(kept, place)
    assert len(runners.all_runners(place)) == 1


def test_nothing_is_started_if_nobody_wants_it(place: Home) -> None:
    kept = RunnerKeeper(place, OPTIONS, wanted=False)
    kept.tick()
    assert not kept.starting
    assert place.keepalive.exists()


def test_a_start_that_fails_says_why_and_is_tried_again_later(place: Home, caplog: pytest.LogCaptureFixture) -> None:
    broken = StartOptions(queues=["default"], embedded=True, launcher="no-such-launcher")
    kept = RunnerKeeper(place, broken, wanted=True)
    for failure, pause in ((1, 5.0), (2, 10.0), (3, 20.0)):
        kept._next_check = 0.0
        kept.tick(1000.0)
        wait_for(lambda: kept.tick(1000.0) or not kept.starting, 30)
        assert (kept.failures, kept._next_check) == (failure, 1000.0 + pause)
    assert "no-such-launcher" in caplog.text


def test_a_start_without_an_output_is_told_too(place: Home, caplog: pytest.LogCaptureFixture) -> None:
    kept = RunnerKeeper(place, OPTIONS, wanted=True)
    kept._output = None
    assert kept._read_output() == ""
    (place.root / "empty").touch()
    kept._output = (place.root / "empty").open("rb")
    assert kept._read_output() == ""


def test_the_runner_does_not_take_itself_for_a_server(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    [info] = tick_until(RunnerKeeper(place, OPTIONS, wanted=True), place)
    assert b"_AIRFLOW_PROCESS_CONTEXT" not in Path(f"/proc/{info.process.pid}/environ").read_bytes()


def test_the_lock_of_a_start_is_waited_for(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "START_TIMEOUT", 0.05)
    lock = _files.Lock(place.start_lock)
    assert lock.acquire()
    assert starter.main([str(place.root), starter.encode(OPTIONS, None)]) == 0
    lock.release()
    assert runners.all_runners(place) == []


def test_how_the_runner_of_an_executor_is_started(home: Home) -> None:
    options = config.Options(home.root, "default", ("default", "reports"), slots=None, python=sys.executable)
    start = keeper.start_options(options, 7, "airflow_plugin.workload")
    assert start.argv(home)[3:] == [
        *("--home", str(home.root), "--queues", "default,reports", "--slots", "7", "--linger", "600.0"),
        *("--preload", "airflow_plugin.workload", "--embedded"),
    ]
    assert start.python == sys.executable


def test_queues_that_cannot_be_known_are_those_of_the_last_time(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options, started = config.Options(home.root, "default", ("default",)), []
    monkeypatch.setattr(keeper.subprocess, "Popen", lambda command, **_: started.append(json.loads(command[-1])))
    kept = RunnerKeeper(home, OPTIONS, wanted=True, queues=lambda: config.served(options))
    for text in ("[queues.gpu]\n", "[queues.gpu]\nlauncher = 'slurp'\n", "[queues.cpu]\n"):
        home.config.write_text(text)
        kept._start()
        kept.close()
    assert [each["options"]["queues"] for each in started] == [["default", "gpu"]] * 2 + [["default", "cpu"]]
    assert "not 'slurp'; until that is put right, the runner serves default, gpu" in caplog.text


def test_the_executor_starts_it_with_its_first_breath(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__BASE_PATH", str(place.root))
    executor = AirExecutor(parallelism=2)
    executor.start()
    assert executor._door.site is not None and executor._door.site.keeper.starting
    [info] = tick_until(executor._door.site.keeper, place)
    assert info.slots == 2
    executor.end()
