"""Judging jobs whose process is gone, and rebuilding the spool from the jobs."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from air_executor import _files, client, held, model, processes, repair, respool, runners, spool, store, temporaries
from air_executor.errors import CorruptFileError, JobBusyError, NotFoundError
from air_executor.model import Blame, ExitKind, Job, JobState, TaskStatus
from air_executor.paths import Home
from air_executor.repair import Verdict
from air_executor.sightings import SETTLE_TIME, Sightings
from air_executor.slurm import record
from tests.unit.conftest import Submit, finish

GONE = model.Process(processes.host(), processes.boot_id(), 2**22 + 1, 1, "dead")
"""A process that cannot exist: its number is above the highest."""


@pytest.mark.parametrize(
    ("state", "started", "cancel", "crashes", "verdict"),
    [
        ("waiting", False, False, 0, Verdict.QUEUE),
        ("working", False, False, 0, Verdict.QUEUE),
        ("working", False, False, repair.CRASH_LIMIT - 2, Verdict.QUEUE),
        ("working", False, False, repair.CRASH_LIMIT - 1, Verdict.FAIL),
        ("working", True, False, 0, Verdict.FAIL),
        ("working", True, True, 0, Verdict.CANCEL),
        ("waiting", False, True, 0, Verdict.CANCEL),
        ("completed", True, True, 0, Verdict.SETTLE),
        ("failed", True, False, 9, Verdict.SETTLE),
        ("cancelled", False, False, 0, Verdict.SETTLE),
    ],
)
def test_verdicts(state: str, started: bool, cancel: bool, crashes: int, verdict: Verdict) -> None:
    job = Job("a", state=JobState(state), crashes=crashes)
    assert repair.judge(job, started=started, cancel_asked=cancel) is verdict


@pytest.mark.parametrize(
    ("crashes", "losses", "blame", "verdict"),
    [
        (repair.CRASH_LIMIT, 0, Blame.RUNNER, Verdict.QUEUE),
        (0, repair.LOSS_LIMIT - 2, Blame.RUNNER, Verdict.QUEUE),
        (0, repair.LOSS_LIMIT - 1, Blame.RUNNER, Verdict.FAIL),
        (0, repair.LOSS_LIMIT, Blame.JOB, Verdict.QUEUE),
        (repair.CRASH_LIMIT - 1, 0, Blame.JOB, Verdict.FAIL),
        (repair.CRASH_LIMIT, repair.LOSS_LIMIT, Blame.HOME, Verdict.QUEUE),
    ],
)
def test_what_kept_a_job_from_starting_is_counted_apart(
    crashes: int, losses: int, blame: Blame, verdict: Verdict
) -> None:
    job = Job("a", crashes=crashes, losses=losses)
    assert repair.judge(job, started=False, cancel_asked=False, blame=blame) is verdict


def changes(home: Home) -> dict[str, str]:
    return {change.job: change.what for change in repair.repair(home)}


def waiting(home: Home) -> list[str]:
    return [marker.job for queue in spool.queues(home) for marker in sorted(spool.waiting(home, queue))]


def work(home: Home, name: str, process: model.Process = GONE, *, task: bool = True) -> None:
    """Let a job be working for a process, without one."""
    home.claims("dead").mkdir(exist_ok=True)
    spool.claim(home, spool.marker_of(store.read(home, name)), "dead")
    with held.HeldJob.acquire(home, name) as job:
        job.start(process, by="runner dead")
        if task:
            job.set_task(job.tasks[0], TaskStatus.RUNNING)


def test_nothing_to_do_in_a_sound_home(home: Home, submit: Submit) -> None:
    submit("a")
    submit("b")
    finish(home, "b")
    assert changes(home) == {}
    assert waiting(home) == ["a"]


def test_the_spool_is_rebuilt_from_the_jobs(home: Home, submit: Submit) -> None:
    for n in range(5):
        submit(f"j{n}", priority=n, queue="big" if n % 2 else "default")
    finish(home, "j0")
    before = [(queue, sorted(spool.waiting(home, queue))) for queue in ("big", "default")]
    shutil.rmtree(home.spool)
    assert changes(home) == {f"j{n}": "was waiting without a place in its queue" for n in range(1, 5)}
    assert [(queue, sorted(spool.waiting(home, queue))) for queue in ("big", "default")] == before
    assert changes(home) == {}


def test_a_job_whose_process_is_gone(home: Home, submit: Submit) -> None:
    for name in ("ran", "not-yet", "stopped"):
        submit(name)
        work(home, name, task=name != "not-yet")
    client.AirExecutorClient(home.root).cancel("stopped", by="me")
    shutil.rmtree(home.spool)
    assert set(changes(home)) == {"ran", "not-yet", "stopped"} and changes(home) == {}
    assert sorted(spool.claimed(home, "dead")) == ["not-yet", "ran", "stopped"], "what it left may run on"
    for name in ("ran", "not-yet", "stopped"):  # as a runner does that takes them over
        repair.resolve(home, name, "its ephemeral runner is gone", by="me", holder="dead")
    ran, not_yet, stopped = (store.read(home, name) for name in ("ran", "not-yet", "stopped"))
    assert ran.state is JobState.FAILED and ran.exit is not None and ran.exit.kind is ExitKind.RUNNER_LOST
    assert (not_yet.state, not_yet.crashes) == (JobState.WAITING, 1)
    assert stopped.state is JobState.CANCELLED
    assert waiting(home) == ["not-yet"]


def test_a_job_that_cannot_be_looked_at_hides_no_other(
    home: Home, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        submit(name)
    shutil.rmtree(home.spool)
    read = store.read

    def refuse(place: Home, name: str) -> Job:
        if name == "b":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place.job(name).state))
        return read(place, name)

    monkeypatch.setattr(store, "read", refuse)
    found = {change.job: change for change in repair.repair(home)}
    assert {name: change.failed for name, change in found.items()} == {"a": False, "b": True, "c": False}
    assert "b/state.json" in found["b"].what


def test_a_job_whose_process_lives_is_left_alone(home: Home, submit: Submit) -> None:
    submit("a")
    work(home, "a", processes.identify(os.getpid(), "dead"))
    shutil.rmtree(home.spool)
    assert changes(home) == {}
    assert store.read(home, "a").state is JobState.WORKING


def test_a_job_of_another_host_is_left_alone(home: Home, submit: Submit) -> None:
    submit("a")
    work(home, "a", model.Process("elsewhere", "boot", 1, 1, "dead"))
    shutil.rmtree(home.spool)
    assert changes(home) == {}


def test_a_job_that_works_in_slurm_gets_its_claim_back(home: Home, submit: Submit) -> None:
    """Its node may die, and no runner of that node notices."""
    submit("a")
    work(home, "a", model.Process("elsewhere", "boot", 1, 1, "r"))
    record.write(home.job("a"), record.Record(1, "a.aaaaaaaabbbbbbbb", id="7"), durable=False)
    shutil.rmtree(home.spool)
    assert respool.is_out_of_place(home, store.read(home, "a"))
    assert list(changes(home)) == ["a"]
    assert spool.claimed(home, "r") == ["a"]
    assert changes(home) == {}


def test_a_job_that_somebody_holds_is_left_alone(home: Home, submit: Submit) -> None:
    submit("a")
    with held.HeldJob.acquire(home, "a"):
        shutil.rmtree(home.spool)
        assert changes(home) == {}
    assert list(changes(home)) == ["a"]


def test_crash_loops_end(home: Home, submit: Submit) -> None:
    submit("a")
    for _ in range(repair.CRASH_LIMIT):
        work(home, "a", task=False)
        repair.resolve(home, "a", "its ephemeral runner died", by="test", holder="dead")
    job = store.read(home, "a")
    assert job.state is JobState.FAILED and job.exit is not None
    assert job.exit.reason == f"its ephemeral runner died ({repair.CRASH_LIMIT} times before a task started)"
    assert spool.claimed(home, "dead") == []


def test_a_claimed_job_survives_more_deaths_of_its_runner_than_a_crash_loop_has(home: Home, submit: Submit) -> None:
    submit("a")
    for _ in range(repair.CRASH_LIMIT + 1):
        assert lose_claim(home, "a") is Verdict.QUEUE
    job = store.read(home, "a")
    assert (job.state, job.crashes, job.losses) == (JobState.WAITING, 0, repair.CRASH_LIMIT + 1)


def test_also_the_deaths_of_runners_come_to_an_end(home: Home, submit: Submit) -> None:
    submit("a")
    while lose_claim(home, "a") is Verdict.QUEUE:
        assert store.read(home, "a").losses < repair.LOSS_LIMIT
    job = store.read(home, "a")
    assert job.state is JobState.FAILED and job.exit is not None
    assert job.exit.reason == f"its runner died ({repair.LOSS_LIMIT} times before a task started)"


def lose_claim(home: Home, name: str) -> Verdict:
    """A runner dies that has claimed a job."""
    home.claims("dead").mkdir(exist_ok=True)
    assert spool.claim(home, spool.marker_of(store.read(home, name)), "dead")
    return repair.resolve(home, name, "its runner died", by="test", holder="dead")


def test_a_damaged_job_fails_and_the_others_are_repaired(home: Home, submit: Submit) -> None:
    for name in ("bad-state", "bad-tasks", "bad-time", "good"):
        submit(name)
    home.job("bad-state").state.write_text('{"name":')
    home.job("bad-time").state.write_text('{"name": "bad-time", "queued_at": "x"}')
    shutil.rmtree(home.spool)
    (home.jobs / "no job").mkdir()
    (home.jobs / "stray-file").touch()
    assert changes(home).keys() == {"bad-state", "bad-time", "bad-tasks", "good"}
    assert sorted(waiting(home)) == ["bad-tasks", "good"]
    assert store.read(home, "bad-state").state is JobState.FAILED
    with pytest.raises(CorruptFileError):
        home.job("bad-tasks").tasks.write_text("")
        held.HeldJob.acquire(home, "bad-tasks")
    assert repair.resolve(home, "bad-tasks", "x", by="test") is Verdict.FAIL
    assert store.read(home, "bad-tasks").state is JobState.FAILED


def left_by(process: subprocess.Popen[bytes] | None, path: Path) -> Path:
    """A directory under the name that a process, or this one, gives to what it has not finished."""
    if process is None:
        path.mkdir()
        return path
    host_and_boot, _, rest = path.name.removeprefix(".tmp-").partition("-")
    path = path.with_name(f".tmp-{host_and_boot}-{process.pid}-{rest.partition('-')[2]}")
    path.mkdir()
    return path


def test_what_a_dead_process_left_unfinished_goes_at_once(home: Home) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    dead = left_by(gone, temporaries.submission(home.jobs))
    (dead / "state.json").touch()
    living = left_by(None, temporaries.submission(home.jobs))
    assert changes(home) == {dead.name: "left unfinished by a process that is gone, removed"}
    assert list(home.jobs.iterdir()) == [living]


@pytest.mark.parametrize("name", [".tmp-0123456789abcdef-1-1-12345678", ".tmp-older-version"])
def test_what_somebody_left_who_cannot_be_seen_goes_after_a_day(home: Home, name: str) -> None:
    """The clock may be an hour wrong."""
    path = home.jobs / name
    path.mkdir()
    hours_ago = time.time() - 7200
    os.utime(path, (hours_ago, hours_ago))
    assert changes(home) == {}
    os.utime(path, (1, 1))
    assert list(changes(home)) == [name]
    assert not path.exists()


def test_a_killed_writer_leaves_nothing_for_good(home: Home, submit: Submit) -> None:
    submit("a")
    for directory in (home.job("a").root, home.runners, home.components):
        program = (
            "import os, pathlib, sys; from air_executor import temporaries;"
            "temporaries.replacement(pathlib.Path(sys.argv[1]) / 'state.json').touch()"
        )
        subprocess.run([sys.executable, "-c", program, str(directory)], check=True)
        assert temporaries.within(directory)
    list(repair.repair(home))
    for directory in (home.job("a").root, home.runners, home.components):
        assert temporaries.within(directory) == []


def test_a_light_repair_looks_at_what_changed_since(home: Home, submit: Submit) -> None:
    ages = {"long-ago": 500, "lately": 50, "just-now": 1, "future": -3000}
    for name in ages:
        spool.marker_of(submit(name)).path(home).unlink()
    now = time.time()  # once all are there: a disk may take long over them
    for name, age in ages.items():
        os.utime(home.job(name).root, (now - age, now - age))
    found = {change.job: change.what for change in repair.repair_recent(home, now - 100, "me")}
    assert found == dict.fromkeys(["lately", "future"], "was waiting without a place in its queue")
    assert sorted(waiting(home)) == ["future", "lately"]


def test_markers_of_jobs_that_are_gone_or_over_are_dropped(home: Home, submit: Submit) -> None:
    for name in ("gone", "over", "stays"):
        submit(name)
    marker = spool.marker_of(store.read(home, "over"))
    finish(home, "over")
    marker.path(home).touch()
    shutil.rmtree(home.job("gone").root)
    assert changes(home).keys() == {"gone", "over"}
    assert waiting(home) == ["stays"]


def test_abandoned_claims(home: Home, submit: Submit) -> None:
    for name in ("a", "b", "c"):
        submit(name)
    for name, holder in (("a", "dead"), ("b", "fresh-client"), ("c", "alive")):
        home.claims(holder).mkdir()
        spool.claim(home, spool.marker_of(store.read(home, name)), holder)
    moment = model.now()
    for runner_id, process in (("dead", GONE), ("alive", processes.identify(os.getpid()))):
        runners.write(home, runners.RunnerInfo(runner_id, process, ["default"], 1, "fork", "0", moment, moment, 3.0))
    seen = Sightings()
    assert not seen.is_old_holder(home, "fresh-client", now=time.monotonic() - SETTLE_TIME - 1)
    assert list(repair.abandoned_claims(home, Sightings())) == [("dead", "a")]
    assert sorted(repair.abandoned_claims(home, seen)) == [("dead", "a"), ("fresh-client", "b")]


@pytest.mark.parametrize("content", ["", "x", "{}", '{"by": "me", "exit": 1}', '{"exit": {"kind": "odd"}}'])
def test_an_unreadable_request_is_still_one(home: Home, submit: Submit, content: str) -> None:
    submit("a")
    home.job("a").cancel.write_text(content)
    request = repair.read_stop_request(home, "a")
    assert request is not None and request.state is JobState.CANCELLED


def test_a_claim_that_names_no_job_is_dropped(home: Home) -> None:
    home.claims("r").mkdir()
    (home.claims("r") / "no job name").touch()
    assert repair.resolve(home, "no job name", "?", by="r", holder="r") is Verdict.LEAVE
    assert spool.claimed(home, "r") == []


@pytest.mark.parametrize("error", [JobBusyError("held"), NotFoundError("pruned")])
def test_a_damaged_job_that_somebody_else_takes_meanwhile_is_left(
    home: Home, submit: Submit, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    submit("a")
    home.job("a").tasks.write_text("{")

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(held, "condemn", refuse)
    assert repair.resolve(home, "a", "?", by="r") is Verdict.LEAVE


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE])
def test_a_system_out_of_files_makes_no_job_damaged_or_cancelled(
    home: Home, submit: Submit, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    submit("a")

    def refuse(*_: object) -> dict[str, object]:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(_files, "read_object", refuse)
        assert repair.read_stop_request(home, "a") is None
        with pytest.raises(OSError, match=os.strerror(number)):
            repair.resolve(home, "a", "?", by="r")
    assert store.read(home, "a").state is JobState.WAITING


def test_a_waiting_job_that_lost_its_marker_gets_one_unless_it_is_claimed(home: Home, submit: Submit) -> None:
    job = submit("a")
    home.claims("r").mkdir()
    spool.claim(home, spool.marker_of(job), "r")
    assert respool.requeue_lost(home, "a") is False
    spool.drop_claim(home, "r", "a")
    assert respool.requeue_lost(home, "a") is True
    assert waiting(home) == ["a"]
    assert respool.requeue_lost(home, "a") is False
