"""The order of a queue, and claims that exactly one gets."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor import model, spool
from air_executor.errors import InvalidNameError
from air_executor.paths import Home
from tests.unit.conftest import Submit

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))
names = st.from_regex(r"[a-z][a-z0-9._-]{0,20}", fullmatch=True)


def job_at(name: str, priority: int, moment: datetime) -> model.Job:
    text = moment.replace(tzinfo=timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return model.Job(name, priority=priority, queued_at=text)


@given(st.lists(st.tuples(names, st.integers(-(2**31) + 1, 2**31 - 1), moments), min_size=2, max_size=8))
def test_markers_sort_by_priority_then_age(entries: list[tuple[str, int, datetime]]) -> None:
    jobs = [job_at(*entry) for entry in entries]
    by_marker = sorted(jobs, key=lambda job: spool.marker_of(job).file_name)
    wanted = sorted(jobs, key=lambda job: (-job.priority, job.queued_at, job.name))
    assert [(job.priority, job.queued_at) for job in by_marker] == [(job.priority, job.queued_at) for job in wanted]
    assert sorted(map(spool.marker_of, jobs)) == [spool.marker_of(job) for job in by_marker]


@given(names, st.integers(), moments)
def test_a_marker_comes_back_from_its_file_name(name: str, priority: int, moment: datetime) -> None:
    job = job_at(name, priority, moment)
    marker = spool.marker_of(job)
    assert spool.parse_marker("default", marker.file_name) == marker
    assert marker.queued_at == pytest.approx(moment.replace(tzinfo=timezone.utc).timestamp(), abs=1e-5)
    assert len(marker.file_name.encode()) <= 255 - 200 + len(name)


@pytest.mark.parametrize("name", ["", "x", "-job", "0" * 22, "0" * 22 + "-", "z" * 22 + "-job", "0" * 21 + "-job"])
def test_what_is_no_marker_is_passed_over(home: Home, name: str) -> None:
    assert spool.parse_marker("default", name) is None


def test_the_longest_name_still_makes_a_marker(home: Home, submit: Submit) -> None:
    job = submit("n" * 200)
    assert [marker.job for marker in spool.waiting(home, "default")] == [job.name]


def test_a_claim_is_given_once_and_can_be_given_back(home: Home, submit: Submit) -> None:
    job = submit("a")
    marker = spool.marker_of(job)
    for holder in ("one", "two"):
        home.claims(holder).mkdir()
    assert spool.claim(home, marker, "one")
    assert not spool.claim(home, marker, "two")
    assert spool.claimed(home, "one") == ["a"] and list(spool.waiting(home, "default")) == []
    assert spool.take_over(home, "a", "one", "two") and not spool.take_over(home, "a", "one", "two")
    assert spool.requeue(home, job, "two") == marker
    assert list(spool.waiting(home, "default")) == [marker]
    spool.remove_holder(home, "one")
    assert spool.holders(home) == ["two"]


CLAIM_ALL = """
import sys
from pathlib import Path
from air_executor import spool
from air_executor.paths import Home

home, holder = Home(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
print(*(marker.job for marker in sorted(spool.waiting(home, "default")) if spool.claim(home, marker, holder)))
"""


def test_many_processes_claim_every_job_exactly_once(home: Home, submit: Submit) -> None:
    jobs = [submit(f"job-{n}").name for n in range(60)]
    workers = []
    for n in range(6):
        home.claims(f"h{n}").mkdir()
        argv = [sys.executable, "-c", CLAIM_ALL, str(home.root), f"h{n}"]
        workers.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    claimed = [name for worker in workers for name in worker.communicate(timeout=60)[0].split()]
    assert sorted(claimed) == sorted(jobs)
    assert sorted(name for holder in spool.holders(home) for name in spool.claimed(home, holder)) == sorted(jobs)


def test_the_end_of_a_job_is_announced_and_collected_once(home: Home) -> None:
    spool.announce_finished(home, "a")
    spool.announce_finished(home, "a")
    assert spool.finished(home) == ["a"]
    assert spool.collect_finished(home, "a") and not spool.collect_finished(home, "a")


def test_a_spool_that_somebody_deleted_is_made_again(home: Home, submit: Submit) -> None:
    import shutil

    shutil.rmtree(home.spool)
    assert spool.queues(home) == [] and spool.holders(home) == [] and spool.finished(home) == []
    spool.request_cancel(home, "a")
    assert spool.cancel_requests(home) == ["a"]
    spool.enqueue(home, model.Job("a", queued_at=model.now()))
    assert spool.queues(home) == ["default"]


def test_an_announced_success_leaves_nothing_behind(home: Home) -> None:
    (home.told / "left").touch()
    for name in ("a", "left"):
        spool.announce_success(home, name)
        assert not (home.told / name).exists()
    with pytest.raises(InvalidNameError):
        spool.announce_success(home, "../finished/a")
    (home.told / "left").touch()
    spool.drop_successes(home)
    assert list(home.told.iterdir()) == []


def test_a_success_is_announced_to_nobody_where_nobody_listens(home: Home) -> None:
    home.told.rmdir()
    with pytest.raises(FileNotFoundError):
        spool.announce_success(home, "a")
    assert not home.told.exists()
    spool.drop_successes(home)
