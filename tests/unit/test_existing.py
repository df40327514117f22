"""A job that shall be there: what is done about one of its name, also if many want it at once."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from air_executor import existing, held, model, spool, store
from air_executor.client import AirExecutorClient
from air_executor.errors import (
    AirExecutorError,
    CorruptFileError,
    InvalidInputError,
    InvalidJobError,
    JobBusyError,
    JobExistsError,
    NotFoundError,
    WaitTimeoutError,
)
from air_executor.existing import Found, OnExisting, Step, decide, differences
from air_executor.model import Job, JobState, Task
from air_executor.paths import Home
from air_executor.testing import wait_for
from tests.unit.conftest import finish

POLICIES = ("reuse", "attach", "restart", "fail")

TABLE: dict[str, tuple[Found | None, tuple[str, str, str, str]]] = {
    "nothing": (None, ("CREATE", "CREATE", "CREATE", "CREATE")),
    "waiting": (Found(JobState.WAITING), ("ATTACH", "ATTACH", "STOP", "REFUSE")),
    "working": (Found(JobState.WORKING), ("ATTACH", "ATTACH", "STOP", "REFUSE")),
    "waiting, stopping": (Found(JobState.WAITING, stopping=True), ("AWAIT", "AWAIT", "AWAIT", "REFUSE")),
    "working, stopping": (Found(JobState.WORKING, stopping=True), ("AWAIT", "AWAIT", "AWAIT", "REFUSE")),
    "completed": (Found(JobState.COMPLETED), ("TAKE", "TAKE", "RESTART", "REFUSE")),
    "failed": (Found(JobState.FAILED), ("RESTART", "TAKE", "RESTART", "REFUSE")),
    "cancelled": (Found(JobState.CANCELLED), ("RESTART", "TAKE", "RESTART", "REFUSE")),
    "just begun": (Found(JobState.WORKING, fresh=True), ("ATTACH", "ATTACH", "ATTACH", "REFUSE")),
    "just begun, stopping": (Found(JobState.WORKING, True, fresh=True), ("AWAIT", "AWAIT", "AWAIT", "REFUSE")),
    "just begun and over": (Found(JobState.FAILED, fresh=True), ("TAKE", "TAKE", "TAKE", "REFUSE")),
    "somebody else's": (Found(JobState.WORKING, foreign=True), ("REFUSE",) * 4),
    "somebody else's, over": (Found(JobState.COMPLETED, foreign=True), ("REFUSE",) * 4),
}


@pytest.mark.parametrize("what", TABLE)
def test_what_is_done(what: str) -> None:
    found, expected = TABLE[what]
    assert tuple(decide(found, OnExisting(policy)).name for policy in POLICIES) == expected


def test_every_decision_is_in_the_table() -> None:
    """And a decision to wait, stop or restart is never made about somebody else's."""
    for state, *flags in itertools.product(JobState, *[(False, True)] * 3):
        found = Found(state, *flags)
        for policy in OnExisting:
            step = decide(found, policy)
            assert step is not Step.CREATE
            assert (step is Step.REFUSE) == (found.foreign or policy is OnExisting.FAIL)
            if step in (Step.RESTART, Step.TAKE):
                assert state.terminal
            if step in (Step.STOP, Step.AWAIT, Step.ATTACH):
                assert not state.terminal


@pytest.mark.parametrize(
    ("labels", "trigger", "differ"),
    [
        ({"dag_id": "d", "task_id": "t"}, "operator", {}),
        ({"dag_id": "d", "task_id": "t", "try_number": "2"}, "operator", {}),
        ({"dag_id": "other", "task_id": "t"}, "operator", {"dag_id": ("other", "d")}),
        ({"dag_id": "d"}, "operator", {"task_id": (None, "t")}),
        ({"dag_id": "d", "task_id": "t"}, "cli", {"trigger": ("cli", "operator")}),
    ],
)
def test_whose_a_job_is(labels: dict[str, str], trigger: str, differ: dict[str, tuple[str, str]]) -> None:
    wanted = Job("a", trigger="operator", labels={"dag_id": "d", "task_id": "t", "try_number": "1"})
    assert differences(Job("a", trigger=trigger, labels=labels), wanted, ("dag_id", "task_id")) == differ


# --- On disk ---


def submission(name: str = "a", command: str = "true", **options: object) -> store.Submission:
    return store.Submission(Job(name, **options), [Task(command)])  # type: ignore[arg-type]


def bring_to(home: Home, api: AirExecutorClient, state: str) -> None:
    if state == "nothing":
        return
    api.submit(submission())
    if state == "working":
        claim(home)
        with held.HeldJob.acquire(home, "a") as job:
            job.start(model.Process("host", "boot", 1, 1, "test"), by="runner test")
    elif state != "waiting":
        finish(home, "a", JobState(state))


def claim(home: Home) -> None:
    home.claims("test").mkdir()
    assert spool.claim(home, spool.marker_of(store.read(home, "a")), "test")


@pytest.mark.parametrize(
    ("state", "reuse", "attach", "restart"),
    [
        ("nothing", "created 1", "created 1", "created 1"),
        ("waiting", "attached 1", "attached 1", "restarted 2"),
        ("working", "attached 1", "attached 1", None),
        ("completed", "reused 1", "reused 1", "restarted 2"),
        ("failed", "restarted 2", "reused 1", "restarted 2"),
        ("cancelled", "restarted 2", "reused 1", "restarted 2"),
    ],
)
def test_what_comes_of_it(
    home: Home, api: AirExecutorClient, state: str, reuse: str, attach: str, restart: str | None
) -> None:
    for policy, expected in (("reuse", reuse), ("attach", attach), ("restart", restart)):
        if expected is None:
            continue
        other = AirExecutorClient(home.root / policy)
        store.ensure_home(other.home)
        bring_to(other.home, other, state)
        job, what = other.ensure(submission(command="echo"), policy)
        assert f"{what} {job.attempt}" == expected
        command = other.get_tasks("a")[0].command
        assert command == ("echo" if what in ("created", "restarted") else "true")
        assert spool.marker_of(job).path(other.home).exists() == (what != "reused" and state != "working")


def test_fail_says_what_there_is(home: Home, api: AirExecutorClient) -> None:
    assert api.ensure(submission(), "fail")[1] == "created"
    finish(home, "a")
    with pytest.raises(JobExistsError, match=r"named a already \(completed, attempt 1\), and on_existing is fail"):
        api.ensure(submission(), "fail")


@pytest.mark.parametrize("policy", POLICIES)
def test_somebody_elses_job_is_left_alone(home: Home, api: AirExecutorClient, policy: str) -> None:
    api.submit(submission(labels={"dag_id": "theirs"}, trigger="api"))
    with pytest.raises(JobExistsError, match="somebody else's: it has trigger api, dag_id theirs, this one trigger o"):
        api.ensure(submission(labels={"dag_id": "ours"}, trigger="operator"), policy, same=("dag_id",))
    job = api.get_job("a")
    assert (job.state, job.attempt, job.labels) == (JobState.WAITING, 1, {"dag_id": "theirs"})


@pytest.mark.parametrize(
    ("wrong", "policy", "error", "message"),
    [
        (submission(), "replace", InvalidInputError, "one of reuse, attach, restart, fail, not 'replace'"),
        (store.Submission(Job("a"), []), "reuse", InvalidJobError, "at least one task"),
        (submission(name="../a"), "reuse", InvalidInputError, "the job name"),
    ],
)
def test_what_is_wrong_is_refused_also_where_it_would_not_be_used(
    home: Home, api: AirExecutorClient, wrong: store.Submission, policy: str, error: type[Exception], message: str
) -> None:
    bring_to(home, api, "completed")
    with pytest.raises(error, match=message):
        api.ensure(wrong, policy)


def test_something_else_has_the_name(home: Home, api: AirExecutorClient) -> None:
    home.job("a").root.write_text("no job")
    with pytest.raises(JobExistsError, match="there is a job named a already"):
        api.ensure(submission())


@pytest.mark.parametrize("policy", ["reuse", "attach", "restart"])
@pytest.mark.parametrize("state", ["waiting", "failed"])
def test_a_damaged_state_is_for_a_person(home: Home, api: AirExecutorClient, policy: str, state: str) -> None:
    bring_to(home, api, state)
    home.job("a").state.write_text('{"name"')
    with pytest.raises(CorruptFileError, match=r"state.json: is not valid JSON .* move .*/jobs/a away, or choose"):
        api.ensure(submission(), policy)
    home.job("a").root.rename(home.root / "away")
    assert api.ensure(submission(), policy)[1] == "created"


def test_damaged_tasks_are_for_a_person_where_they_are_needed(home: Home, api: AirExecutorClient) -> None:
    bring_to(home, api, "failed")
    home.job("a").tasks.write_text("")
    assert api.ensure(submission(), "attach")[1] == "reused"
    with pytest.raises(CorruptFileError, match=r"tasks.json: is empty; so the job a cannot be used"):
        api.ensure(submission())


def test_a_job_whose_owner_was_lost(home: Home, api: AirExecutorClient) -> None:
    api.submit(submission(labels={"dag_id": "ours"}))
    home.job("a").state.write_text("")
    try:
        store.read(home, "a")
    except CorruptFileError as error:
        held.condemn(home, "a", error, by="test")
    with pytest.raises(JobExistsError, match="its files were damaged"):
        api.ensure(submission(labels={"dag_id": "ours"}), same=("dag_id",))


# --- Jobs that are being stopped ---


def in_thread(call: Callable[[], tuple[Job, str]]) -> tuple[threading.Thread, list[object]]:
    came: list[object] = []

    def run() -> None:
        try:
            job, what = call()
            came.append((what, job.attempt))
        except AirExecutorError as error:
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, came


@pytest.mark.parametrize(
    ("policy", "end", "expected"),
    [
        ("reuse", JobState.CANCELLED, ("restarted", 2)),
        ("reuse", JobState.COMPLETED, ("reused", 1)),  # it had ended well before it was stopped
        ("attach", JobState.CANCELLED, ("reused", 1)),
        ("restart", JobState.CANCELLED, ("restarted", 2)),
    ],
)
def test_a_job_that_is_being_stopped_is_waited_for(
    home: Home, api: AirExecutorClient, policy: str, end: JobState, expected: tuple[str, int]
) -> None:
    bring_to(home, api, "working")
    with held.HeldJob.acquire(home, "a") as running:
        if policy != "restart":
            api.cancel("a")
        thread, came = in_thread(lambda: api.ensure(submission(), policy))
        wait_for(lambda: home.job("a").cancel.exists() and home.job("a").restart_lock.exists(), what="the wait")
        assert came == []
        kind = model.ExitKind.SUCCESS if end is JobState.COMPLETED else model.ExitKind.CANCELLED
        running.finish(end, model.Exit(kind, "stopped in a test"), by="runner test")
    thread.join()
    assert came == [expected]


def test_a_job_that_does_not_stop(home: Home, api: AirExecutorClient) -> None:
    bring_to(home, api, "working")
    with pytest.raises(WaitTimeoutError, match=r"the job a was asked to stop and is still working after 0\.1 s"):
        existing.ensure(api, submission(), on_existing="restart", by="me", patience=0.1)
    assert home.job("a").cancel.exists()


def test_somebody_else_restarts_for_too_long(home: Home, api: AirExecutorClient) -> None:
    from air_executor import _files

    bring_to(home, api, "failed")
    lock = _files.Lock(home.job("a").restart_lock)
    assert lock.acquire()
    try:
        with pytest.raises(WaitTimeoutError, match="another process has been starting the job a anew"):
            existing.ensure(api, submission(), by="me", patience=0.05)
    finally:
        lock.release()
    assert api.ensure(submission())[1] == "restarted"


def test_an_ephemeral_runner_that_does_not_let_go(home: Home, api: AirExecutorClient) -> None:
    bring_to(home, api, "failed")
    with held.HeldJob.acquire(home, "a"), pytest.raises(JobBusyError):
        existing.ensure(api, submission(), by="me", patience=0.05)


def test_a_job_that_is_removed_meanwhile(home: Home, api: AirExecutorClient, monkeypatch: pytest.MonkeyPatch) -> None:
    bring_to(home, api, "failed")
    resubmit = api.resubmit

    def remove_first(*args: object, **options: object) -> Job:
        home.job("a").root.rename(home.root / "away")
        monkeypatch.undo()
        return resubmit(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(api, "resubmit", remove_first)
    job, what = api.ensure(submission())
    assert (what, job.attempt) == ("created", 1)


def test_a_job_that_is_removed_before_it_is_stopped(
    home: Home, api: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_to(home, api, "waiting")

    def gone(*_: object, **__: object) -> Job:
        home.job("a").root.rename(home.root / "away")
        raise NotFoundError("gone")

    monkeypatch.setattr(api, "cancel", gone)
    assert api.ensure(submission(), "restart")[1] == "created"


# --- Many at once ---

CROWD = 50


def all_at_once(home: Home, policy: str, monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """Each has looked before any does something."""
    barrier = threading.Barrier(CROWD, timeout=60)
    init = existing._Call.__init__

    def look_and_wait(self: existing._Call, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]
        barrier.wait()

    monkeypatch.setattr(existing._Call, "__init__", look_and_wait)
    with ThreadPoolExecutor(CROWD) as pool:
        calls = [pool.submit(AirExecutorClient(home.root).ensure, submission(), policy) for _ in range(CROWD)]
        return Counter((what, job.attempt) for job, what in (call.result() for call in calls))


@pytest.mark.parametrize("policy", ["reuse", "attach", "restart"])
def test_fifty_at_once_make_one_job(home: Home, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all_at_once(home, policy, monkeypatch) == {("created", 1): 1, ("attached", 1): CROWD - 1}
    assert list(store.names(home)) == ["a"]


@pytest.mark.parametrize(("policy", "state"), [("reuse", "failed"), ("restart", "completed"), ("restart", "waiting")])
def test_fifty_restarts_at_once_make_one_attempt(
    home: Home, api: AirExecutorClient, policy: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_to(home, api, state)
    assert all_at_once(home, policy, monkeypatch) == {("restarted", 2): 1, ("attached", 2): CROWD - 1}
    assert api.get_job("a").state is JobState.WAITING and not home.job("a").cancel.exists()


def test_of_fifty_that_must_not_find_one_one_gets_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = threading.Barrier(CROWD, timeout=60)

    def call() -> str:
        barrier.wait()
        try:
            return AirExecutorClient(home.root).ensure(submission(), "fail")[1]
        except JobExistsError:
            return "refused"

    with ThreadPoolExecutor(CROWD) as pool:
        came = Counter(each.result() for each in [pool.submit(call) for _ in range(CROWD)])
    assert came == {"created": 1, "refused": CROWD - 1}


PROCESS = """
import sys
from air_executor import client, model, store
api = client.AirExecutorClient(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
job, what = api.ensure(store.Submission(model.Job("a"), [model.Task("true")]))
print(what, job.attempt)
"""


@pytest.mark.parametrize(("state", "first"), [("nothing", "created 1"), ("failed", "restarted 2")])
def test_processes_at_once(home: Home, api: AirExecutorClient, state: str, first: str) -> None:
    bring_to(home, api, state)
    argv = [sys.executable, "-c", PROCESS, str(home.root)]
    started = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    for each in started:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    for each in started:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    came = Counter(each.communicate(timeout=60)[0].strip() for each in started)
    assert came == {first: 1, f"attached {first[-1]}": 7}
    events = [json.loads(line) for line in home.job("a").events.read_text().splitlines()]
    assert sum(event["to"] == "waiting" for event in events) == int(first[-1])
