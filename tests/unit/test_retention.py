"""Which jobs are removed: the decision in tables, and the removal in a home."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import pytest

from air_executor import _json, held, model, pruning, retention, spool, store
from air_executor.client import AirExecutorClient
from air_executor.errors import CorruptFileError
from air_executor.model import JobState
from air_executor.paths import Home
from air_executor.retention import Ended, Policy
from tests.unit.conftest import Submit, finish

DAY = 86_400.0
NOW = 1000 * DAY

C1, C2, C9 = (Ended(f"c{days}", NOW - days * DAY, True, 10) for days in (1, 2, 9))
F1, F9, F40 = (Ended(f"f{days}", NOW - days * DAY, False, 100) for days in (1, 9, 40))
A9, A40 = (Ended(f"a{days}", NOW - days * DAY, True, 1000, announced=True) for days in (9, 40))
ALL = [F1, C1, F40, C9, F9, C2]


@pytest.mark.parametrize(
    ("jobs", "policy", "gone"),
    [
        (ALL, Policy(), []),
        ([], Policy(0, 0, 0, 0), []),
        (ALL, Policy(7 * DAY, 30 * DAY), [C9, F40]),
        (ALL, Policy(7 * DAY), [C9]),
        (ALL, Policy(failed_age=7 * DAY), [F40, F9]),
        (ALL, Policy(keep=6), []),
        (ALL, Policy(keep=5), [C9]),
        (ALL, Policy(keep=2), [C9, C2, C1, F40]),
        (ALL, Policy(keep=0), [C9, C2, C1, F40, F9, F1]),
        (ALL, Policy(max_bytes=330), []),
        (ALL, Policy(max_bytes=329), [C9]),
        (ALL, Policy(max_bytes=299), [C9, C2, C1, F40]),
        (ALL, Policy(max_bytes=0), [C9, C2, C1, F40, F9, F1]),
        (ALL, Policy(failed_age=30 * DAY, keep=4), [F40, C9]),
        (ALL, Policy(7 * DAY, 30 * DAY, keep=3, max_bytes=209), [C9, F40, C2, C1]),
        ([A9, C1], Policy(7 * DAY), []),
        ([A9, C1], Policy(keep=1), [C1]),
        ([A9, C1], Policy(max_bytes=500), [C1]),
        ([A40, A9], Policy(7 * DAY), [A40]),
        ([A40, A9], Policy(keep=0), [A40]),
        ([C2], Policy(2 * DAY), []),
        ([Ended("b", NOW, True), Ended("a", NOW, True)], Policy(keep=1), [Ended("a", NOW, True)]),
    ],
)
def test_choices(jobs: list[Ended], policy: Policy, gone: list[Ended]) -> None:
    assert retention.choose(jobs, policy, NOW) == gone


@pytest.mark.parametrize("at", [NOW + DAY, 0.0])
def test_what_ended_in_the_future_is_young(at: float) -> None:
    assert retention.choose([C1, F9], Policy(0, 0), min(C1.ended, F9.ended) - at) == []


def age(home: Home, name: str, days: float) -> None:
    """Let a job have ended so long ago."""
    with held.HeldJob.acquire(home, name) as job:
        moment = time.time() - days * DAY
        job.job.finished_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
        home.job(name).state.write_bytes(_json.pretty(store.state_content(job.job)))
    os.utime(home.job(name).root, (moment, moment))


@pytest.fixture
def jobs(home: Home, submit: Submit) -> Home:
    """Jobs of several ages and ends, and some that are not over."""
    for name, state, days in (
        ("new", JobState.COMPLETED, 0),
        ("old", JobState.COMPLETED, 9),
        ("older", JobState.COMPLETED, 12),
        ("failed", JobState.FAILED, 9),
        ("cancelled", JobState.CANCELLED, 40),
    ):
        submit(name)
        finish(home, name, state)
        age(home, name, days)
    submit("waits")
    return home


@pytest.mark.parametrize(
    ("limits", "gone"),
    [
        ({"older_than": 7 * DAY, "failed_older_than": 30 * DAY}, ["older", "old", "cancelled"]),
        ({"older_than": 7 * DAY}, ["older", "old", "cancelled", "failed"]),
        ({"failed_older_than": 7 * DAY}, ["cancelled", "failed"]),
        ({"keep": 5}, []),
        ({"keep": 4}, ["older"]),
        ({"keep": 1}, ["older", "old", "new", "cancelled"]),
        ({"max_bytes": 10**9}, []),
        ({"max_bytes": 0}, ["older", "old", "new", "cancelled", "failed"]),
    ],
)
def test_removed(jobs: Home, limits: dict[str, float], gone: list[str]) -> None:
    api = AirExecutorClient(jobs.root)
    before = set(store.names(jobs))
    assert api.prune(dry_run=True, **limits) == gone  # type: ignore[arg-type]
    assert set(store.names(jobs)) == before
    assert api.prune(**limits) == gone  # type: ignore[arg-type]
    assert {path.name for path in jobs.jobs.iterdir()} == before - set(gone)


def test_the_size_is_that_of_all_files(jobs: Home) -> None:
    jobs.job("new").log("task-1").write_bytes(b"x" * 100_000)
    (jobs.job("new").root / "link").symlink_to("/")
    total = sum(pruning.size_of(jobs.job(name).root) for name in ("new", "old", "older", "failed", "cancelled"))
    assert 100_000 < pruning.size_of(jobs.job("new").root) < 110_000
    assert list(pruning.prune(jobs, Policy(max_bytes=total))) == []
    assert list(pruning.prune(jobs, Policy(max_bytes=total - 1))) == ["older"]
    assert pruning.size_of(jobs.job("older").root) == 0


def test_what_changed_lately_is_not_read(jobs: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = store.read
    monkeypatch.setattr(store, "read", lambda home, name: (read.append(name), original(home, name))[1])
    pruning.choose(jobs, Policy(7 * DAY, 30 * DAY))
    assert sorted(read) == ["cancelled", "failed", "old", "older"]
    read.clear()
    pruning.choose(jobs, Policy(keep=6))
    assert read == []


def test_an_end_that_nobody_collected_stays(home: Home, submit: Submit) -> None:
    for name in ("wanted", "given-up"):
        submit(name, notify=True)
        finish(home, name)
    age(home, "wanted", 29)
    age(home, "given-up", 31)
    assert list(pruning.prune(home, Policy(DAY, DAY, keep=0))) == ["given-up"]
    assert spool.finished(home) == ["wanted"]
    spool.collect_finished(home, "wanted")
    assert list(pruning.prune(home, Policy(DAY))) == ["wanted"]


def test_an_end_that_was_announced_after_the_choice_stays(jobs: Home) -> None:
    [chosen] = [each for each in pruning.choose(jobs, Policy(keep=0)) if not each.announced][:1]
    spool.announce_finished(jobs, chosen.name)
    assert not pruning.remove(jobs, chosen)
    assert jobs.job(chosen.name).root.is_dir() and chosen.name in spool.finished(jobs)


def test_what_began_anew_or_is_held_stays(jobs: Home) -> None:
    old, older = (job for job in pruning.choose(jobs, Policy(7 * DAY, 100 * DAY)))
    AirExecutorClient(jobs.root).retry(old.name)
    assert pruning.remove(jobs, old) is False
    with held.HeldJob.acquire(jobs, older.name):
        assert pruning.remove(jobs, older) is False
    finish(jobs, old.name)  # it ended once more: that is another end
    assert pruning.remove(jobs, old) is False
    assert pruning.remove(jobs, older) is True and pruning.remove(jobs, older) is False
    assert not jobs.job(older.name).root.exists()


def test_a_damaged_job_stays_until_it_is_repaired(jobs: Home) -> None:
    jobs.job("old").state.write_text("{")
    os.utime(jobs.job("old").root, (1, 1))
    assert list(pruning.prune(jobs, Policy(7 * DAY))) == ["older"]
    held.condemn(jobs, "old", CorruptFileError("state.json", "is cut off"), by="test")
    spool.collect_finished(jobs, "old")
    assert list(pruning.prune(jobs, Policy(failed_age=-1)))[-1] == "old"


def test_one_at_a_time_and_not_too_often(jobs: Home) -> None:
    policy = Policy(7 * DAY)
    lock = held._files.Lock(jobs.prune_lock)
    assert lock.acquire()
    assert list(pruning.prune_if_due(jobs, policy, 0.0)) == []
    lock.release()
    os.utime(jobs.prune_lock, (1, 1))
    assert list(pruning.prune_if_due(jobs, policy, 3600.0)) == ["older", "old"]
    age(jobs, "new", 8)
    assert list(pruning.prune_if_due(jobs, policy, 3600.0)) == []
    future = time.time() + 7200  # the clock was set back since
    os.utime(jobs.prune_lock, (future, future))
    assert list(pruning.prune_if_due(jobs, policy, 3600.0)) == ["new"]


def test_the_first_time_is_due(jobs: Home) -> None:
    assert not Path(jobs.prune_lock).exists()
    assert list(pruning.prune_if_due(jobs, Policy(10 * DAY), 3600.0)) == ["older"]
    assert model.JobState.WAITING is store.read(jobs, "waits").state


def test_a_look_for_old_jobs_does_not_remember_the_others(home: Home) -> None:
    for number in range(3000):
        (home.jobs / f"job-{number:06}").mkdir()
    policy = Policy(completed_age=1000.0, failed_age=1000.0)
    assert pruning.choose(home, policy) == []  # imports what it needs
    tracemalloc.start()
    assert pruning.choose(home, policy) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3000 * 30
