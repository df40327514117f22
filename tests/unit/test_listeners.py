"""Hearing of the ends of jobs that were not known before."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor import ends, held, repair, store
from air_executor.awaiting import JobWatch
from air_executor.client import AirExecutorClient
from air_executor.errors import InvalidInputError, NotFoundError
from air_executor.listeners import Listener
from air_executor.model import Job, JobState
from air_executor.paths import Home
from air_executor.testing import wait_for
from tests.unit.conftest import Submit, finish

DAY = 86_400.0


@pytest.fixture(autouse=True)
def _no_thread_is_left(home: Home) -> Iterator[None]:
    yield
    watch = JobWatch.shared(home)
    watch._listening.clear()
    watch._bell.set()
    wait_for(lambda: not watch.is_running, what="the end of the thread")


def make_old(path: Path, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))


def test_ends_of_a_name_come_once_for_each_attempt(home: Home, submit: Submit, api: AirExecutorClient) -> None:
    listener = Listener(home, "job", "a", "x1")
    listener.open()
    submit("a")
    submit("b")
    finish(home, "a")
    finish(home, "b")
    api.retry("a")
    finish(home, "a", JobState.FAILED)
    assert listener.pending() == [("a", 1), ("a", 2)]
    listener.done("a", 1)
    listener.done("a", 1)
    assert listener.pending() == [("a", 2)]


def test_ends_of_a_pipeline_are_told_by_the_label_alone(home: Home, submit: Submit) -> None:
    nightly, other = (Listener(home, "pipeline", name, "x") for name in ("nightly", "hourly"))
    by_name = Listener(home, "job", "nightly", "x")
    for listener in (nightly, other, by_name):
        listener.open()
    submit("one", labels={"pipeline": "nightly"})
    submit("two", labels={"pipeline": "nightly,x"}, trigger="pipeline")
    submit("nightly")
    for name in ("one", "two", "nightly"):
        finish(home, name)
    assert [listener.pending() for listener in (nightly, other, by_name)] == [[("one", 1)], [], [("nightly", 1)]]


def test_a_listener_goes_on_after_a_restart(home: Home, submit: Submit) -> None:
    Listener(home, "job", "a", "x").open()
    submit("a")
    finish(home, "a")
    again = Listener(home, "job", "a", "x")
    again.open()
    assert again.pending() == [("a", 1)]
    again.forget()
    assert not again.directory.exists() and again.pending() == []
    again.done("a", 1)


def test_settling_twice_tells_at_least_once(home: Home, submit: Submit) -> None:
    listener = Listener(home, "job", "a", "x")
    listener.open()
    submit("a")
    finish(home, "a")
    with held.HeldJob.acquire(home, "a") as job:
        job.settle()
        assert listener.pending() == [("a", 1)]
        listener.done("a", 1)
        job.settle()
    assert listener.pending() == [("a", 1)]


@pytest.mark.parametrize(
    ("kind", "name", "listener_id", "message"),
    [
        ("task", "a", "x", "one of job, pipeline"),
        ("job", "../a", "x", "the job to listen to"),
        ("pipeline", "a=b", "x", "the pipeline to listen to"),
        ("job", "n" * 300, "x", "300 characters"),
        ("job", "a", "x,y", "the id of a listener"),
        ("job", "a", "x" * 41, "41 characters"),
    ],
)
def test_what_cannot_be_listened_to(home: Home, kind: str, name: str, listener_id: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Listener(home, kind, name, listener_id)


def test_the_longest_names_fit(home: Home, submit: Submit) -> None:
    listener = Listener(home, "pipeline", "p" * 200, "i" * 40)
    listener.open()
    submit("n" * 200, labels={"pipeline": "p" * 200})
    finish(home, "n" * 200)
    assert listener.pending() == [("n" * 200, 1)]


@pytest.mark.parametrize("label", ["../../x", "", "a\nb", "x" * 5000, "nightly,x/"])
def test_odd_labels_reach_nobody_and_harm_nothing(home: Home, submit: Submit, label: str) -> None:
    Listener(home, "pipeline", "nightly", "x").open()
    submit("a", labels={"pipeline": label})
    assert finish(home, "a").state is JobState.COMPLETED
    assert [path.name for path in home.listeners.rglob("*")] == ["pipeline=nightly,x"]


def test_there_is_no_home(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no home"):
        Listener(Home(tmp_path / "nowhere"), "job", "a", "x").open()
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_listener_is_passed_over(home: Home, submit: Submit) -> None:
    home.listeners.mkdir()
    (home.listeners / "job=a,file").touch()
    (home.listeners / "job=b").mkdir()
    (home.listeners / "else").mkdir()
    submit("a")
    assert finish(home, "a").state is JobState.COMPLETED
    listener = Listener(home, "job", "a", "x")
    listener.open()
    for name in ("a,x", "a", ",1", "..,1", "a,1"):
        (listener.directory / name).touch()
    assert listener.pending() == [("a", 1)]


def test_a_listener_is_woken(home: Home, submit: Submit) -> None:
    first, second = (Listener(home, "job", name, "x") for name in ("a", "b"))
    woken = {listener: threading.Event() for listener in (first, second)}
    for listener in (first, second):
        listener.open()
        listener.watch(woken[listener].set)
    wait_for(lambda: JobWatch.shared(home).is_running)
    for name in ("a", "b"):
        submit(name)
    finish(home, "b")
    assert woken[second].wait(20) and not woken[first].is_set()
    finish(home, "a")
    assert woken[first].wait(20)
    for listener in (first, second):
        listener.unwatch(woken[listener].set)
        listener.unwatch(woken[listener].set)
    wait_for(lambda: not JobWatch.shared(home).is_running, what="the end of the thread")


def test_what_is_pending_already_wakes_at_once(home: Home, submit: Submit) -> None:
    listener, woken = Listener(home, "job", "a", "x"), threading.Event()
    listener.open()
    submit("a")
    finish(home, "a")
    listener.watch(woken.set)
    assert woken.wait(20)


def test_a_listener_survives_the_deletion_of_the_spool(home: Home, submit: Submit) -> None:
    watch, woken = JobWatch(home, poll_interval=0.02), threading.Event()
    listener = Listener(home, "job", "a", "x")
    listener.open()
    watch.listen(listener.directory, woken.set)
    wait_for(lambda: watch.is_running)
    home.spool.rename(home.root / "gone")
    wait_for(listener.directory.is_dir, what="the listener, made again")
    store.ensure_home(home)
    submit("a")
    woken.clear()
    finish(home, "a")
    assert woken.wait(20) and listener.pending() == [("a", 1)]
    watch.unlisten(listener.directory, woken.set)
    wait_for(lambda: not watch.is_running, what="the end of the thread")


def test_repair_drops_what_nobody_wants(home: Home, submit: Submit) -> None:
    gone, old, live = (Listener(home, "job", "a", name) for name in ("gone", "old", "live"))
    for listener in (gone, old, live):
        listener.open()
    submit("a")
    finish(home, "a")
    gone.done("a", 1)
    make_old(old.directory / "a,1", 8)
    make_old(live.directory / "a,1", 6)
    make_old(gone.directory, 8)
    said = [change.what for change in repair.repair(home)]
    assert said == [
        "a listener to the job a that is gone, removed",
        "1 ends that a listener to the job a never looked at, removed",
    ] or said == [
        "1 ends that a listener to the job a never looked at, removed",
        "a listener to the job a that is gone, removed",
    ]
    assert not gone.directory.exists() and old.pending() == [] and live.pending() == [("a", 1)]
    make_old(old.directory, 8)
    assert [change.job for change in repair.repair(home)] == ["spool/listeners"]
    assert not old.directory.exists()


def test_a_listener_that_is_watched_shows_that_it_is_there(home: Home) -> None:
    listener, woken = Listener(home, "job", "a", "x"), threading.Event()
    listener.open()
    make_old(listener.directory, 8)
    listener.watch(woken.set)
    wait_for(lambda: time.time() - listener.directory.stat().st_mtime < DAY, what="a sign of life")
    assert list(repair.repair(home)) == [] and listener.directory.is_dir()


def test_repair_ends_waits_that_were_not_ended(home: Home, submit: Submit) -> None:
    for name in ("over", "waits"):
        submit(name)
    finish(home, "over")
    for name in ("over", "waits", "gone"):
        ends.begin_to_await(home, name)
    assert {change.job for change in repair.repair(home)} == {"over", "gone"}
    assert ends.awaited(home) == {"waits"}


def test_who_waits_wakes_no_runner(home: Home) -> None:
    """Runners watch the spool for files that were written and closed."""
    from air_executor.watch import Watch

    watch = Watch([home.spool], lambda: None, recursive=True)
    watch.start()
    try:
        ends.begin_to_await(home, "a")
        ends.announce(home, Job("a"))
        (home.finished / "b").touch()
        seen = wait_for(watch.take, what="a new file")
        assert [path.name for path in seen] == ["b"]
    finally:
        watch.stop()
