"""Pilots without a Slurm: how many there are, what their ends mean, what a runner notes of them, how one ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from air_executor import AirExecutorClient, model, queuetables, runners, settings, spool, store, testing
from air_executor.paths import Home
from air_executor.sightings import Sightings
from air_executor.slurm import pilots, record, states
from air_executor.slurm.pilots import Record
from air_executor.testing import wait_for
from air_runner import recovery
from air_runner.slurm import pilot, scaling
from air_runner.slurm import pilots as manager
from air_runner.slurm.commands import AwayError, RefusedError, Row, Slurm, SlurmError
from air_runner.slurm.doom import Doom
from air_runner.slurm.scaling import Backoff, Life
from air_runner.slurm.telling import Teller

UP, COMING = Life(2, up=True), Life(2)
BUSY = replace(UP, working=2)
GONE = Life(2, gone=True)
DRAINING = replace(UP, draining=True)


# --- Decisions ---


@pytest.mark.parametrize(
    ("waiting", "lives", "limit", "failing", "expected"),
    [
        (0, [], 4, False, 0),
        (1, [], 4, False, 1),
        (2, [], 4, False, 1),
        (3, [], 4, False, 2),
        (100, [], 4, False, 4),
        (2, [COMING], 4, False, 0),
        (3, [COMING], 4, False, 1),
        (2, [UP], 4, False, 0),
        (1, [BUSY], 4, False, 1),
        (1, [replace(UP, working=1)], 4, False, 0),
        (1, [replace(UP, working=5)], 4, False, 1),
        (1, [DRAINING], 4, False, 1),
        (1, [GONE], 4, False, 1),
        (9, [BUSY, COMING, DRAINING, GONE], 4, False, 0),
        (9, [BUSY] * 5, 4, False, 0),
        (100, [], 4, True, 1),
        (0, [], 4, True, 0),
        (100, [COMING], 4, True, 0),
        (100, [BUSY, GONE], 4, True, 1),
        (100, [BUSY], 1, True, 0),
    ],
)
def test_how_many_are_started(waiting: int, lives: Sequence[Life], limit: int, failing: bool, expected: int) -> None:
    assert scaling.how_many(waiting, lives, slots=2, limit=limit, failing=failing) == expected


@pytest.mark.parametrize(
    ("time", "grace", "expected"),
    [
        (None, 10, 80),  # the partition's: what is needed, and what Slurm may be early
        (1, 10, 30),
        ("5:00", 10, 80),
        ("0:30:00", 10, 180),
        ("12:00:00", 10, 300),
        ("1-00:00:00", 600, 670),
    ],
)
def test_when_a_pilot_is_warned(time: object, grace: float, expected: int) -> None:
    assert scaling.lead(time, grace) == expected


@pytest.mark.parametrize(("left", "expected"), [(100.0, 80.0), (20.0, 0.0), (0.0, 0.0), (float("inf"), float("inf"))])
def test_when_what_still_runs_is_stopped(left: float, expected: float) -> None:
    assert scaling.stop_after(left, 10.0) == expected


RECORD = Record("pilot-q-1", "q", 2, id="7", state="COMPLETED", ended_at="2026-01-01T00:00:00Z", why="it ended")


@pytest.mark.parametrize(
    ("known", "failed"),
    [
        (RECORD, True),  # a `setup` that exits with 0 comes to nothing, too
        (replace(RECORD, came_up=True), False),
        (replace(RECORD, came_up=True, state="FAILED"), True),
        (replace(RECORD, came_up=True, has_run=True, state="NODE_FAIL"), False),
        (replace(RECORD, state="CANCELLED"), True),
        (replace(RECORD, state="CANCELLED", unwanted=True), False),
    ],
)
def test_which_ends_are_failures(known: Record, failed: bool) -> None:
    assert scaling.has_failed(known) is failed


def test_pauses_grow_and_those_started_together_count_once() -> None:
    backoff = Backoff()
    for pause in (2, 4, 8, 16, 32, 64, 128, 256, 300, 300):
        moment = backoff.not_before
        backoff = backoff.failed(moment)
        assert backoff.not_before - moment == pause
        assert backoff.failed(moment + pause - 0.1) is backoff


@pytest.mark.parametrize(
    ("said", "why", "left"),
    [
        ("RUNNING 1:40\n", "reached its time limit", 100.0),
        ("RUNNING 0:00\n", "reached its time limit", 0.0),
        ("RUNNING 1-02:03:04", "reached its time limit", 93784.0),
        ("RUNNING UNLIMITED", "was asked to end", float("inf")),
        ("RUNNING INVALID", "was asked to end", 0.0),
        ("PREEMPTED 9:00", "was ended by Slurm (PREEMPTED)", 0.0),
        ("", "was asked to end", 0.0),
    ],
)
def test_what_slurm_says_of_the_time_left(said: str, why: str, left: float) -> None:
    assert pilot.read_answer(said) == (why, left)


def test_names_are_none_of_a_job() -> None:
    name = pilots.new_name("q" * 100)
    submission = pilots.name_submission(name, "0123abcd")
    assert len(name) < 100
    assert pilots.parse_submission(submission, "0123abcd") == name
    assert pilots.parse_submission(submission, "ffffffff") is None
    assert record.parse_submission(submission, "0123abcd") is None
    assert pilots.parse_submission(record.name_submission("job.0123abcd.pilot", "0123abcd"), "0123abcd") is None


def test_what_sbatch_is_given() -> None:
    given = scaling.flags("p.0123abcd.pilot", "/a%b/p.log", {"partition": "x", "time": 5, "array": 9}, 80)
    assert given[0] == "--job-name=p.0123abcd.pilot"
    assert {"--output=/a%%b/p.log", "--no-requeue", "--signal=B:TERM@80", "--partition=x"} < set(given)
    assert given[-1] == "--"
    assert scaling.script("", ["python", "a b"]) == "#!/bin/sh\nexec python 'a b'\n"
    first, *_, last = scaling.script("module load x", ["python"]).splitlines()
    assert (first, last) == ("#!/bin/bash -l", "exec python")


# --- What is noted ---


def test_a_record_is_read_as_it_was_written(home: Home) -> None:
    pilots.write(home, RECORD, durable=True)
    assert list(pilots.read_all(home)) == [RECORD]
    home.slurm_pilot("pilot-q-1").write_text('{"name": "pilot-q-1", "queue": "q", "slots": "many"}')
    home.slurm_pilot("other").write_text('{"name": "pilot-q-1", "queue": "q", "slots": 1}')
    assert list(pilots.read_all(home)) == []
    assert pilots.read(home, "../x") is None


def test_jobs_of_a_dead_pilot_wait_for_slurms_word_but_not_for_ever(home: Home) -> None:
    assert not pilots.awaits_word(home, "a-runner", 0.0)
    pilots.write(home, replace(RECORD, ended_at=None), durable=False)
    assert pilots.awaits_word(home, RECORD.name, pilots.WORD_WAIT - 1)
    assert not pilots.awaits_word(home, RECORD.name, pilots.WORD_WAIT)
    pilots.write(home, RECORD, durable=False)
    assert not pilots.awaits_word(home, RECORD.name, 0.0)
    seen = Sightings()
    assert [seen.dead_for(RECORD.name, now) for now in (100.0, 101.5)] == [0.0, 1.5]


def test_the_reason_of_a_loss_is_what_slurm_said_of_the_pilot(home: Home) -> None:
    process = model.Process("elsewhere", "boot", 77, 1, RECORD.name)
    assert "is gone" in recovery.describe_loss(home, process, Sightings())
    pilots.write(home, replace(RECORD, node="n1", why=states.parse("NODE_FAIL").says), durable=False)
    said = recovery.describe_loss(home, process, Sightings())
    assert said == "its pilot pilot-q-1 (the Slurm job 7 on n1): its node failed"


# --- A runner that sees to them ---


class Answers(Slurm):
    """What Slurm answers; nothing is called."""

    def __init__(self) -> None:
        super().__init__(1.0, {})
        self.refuse: SlurmError | None = None
        self.named: list[str] = []

    def submit(self, flags: Sequence[str], script: str) -> str:
        if self.refuse is not None:
            raise self.refuse
        self.named.append(flags[0].removeprefix("--job-name="))
        return str(len(self.named))

    def rows(self, state: str, *numbers: int) -> list[Row]:
        return [
            Row(str(number), states.parse(state), None, "main", "n1", self.named[number - 1])
            for number in numbers or range(1, len(self.named) + 1)
        ]


class Head:
    """A runner's part that sees to pilots of the queue `q`: at most two, with two slots each."""

    def __init__(self, home: Home, slurm: Answers, name: str = "head") -> None:
        table = queuetables.QueueSettings("slurm", pilots=2, pilot_idle=0.0, pilot_slots=2)
        chosen = settings.Settings(queues={"q": table}, slurm=settings.SlurmSettings(timeout=1.0, patience=0.0))
        self.doom = Doom(home, 0.0)
        self.teller = Teller(home, name, slurm)
        self.pilots = manager.Pilots(home, name, chosen, slurm, self.teller, self.doom)
        self.pilots.serve(["q"])

    @property
    def doomed(self) -> list[str]:
        return self.doom.due(FAR)

    @property
    def refusals(self) -> list[str]:
        return [each.why for each in self.teller._now.refusals]


@pytest.fixture
def slurm() -> Answers:
    return Answers()


def submit(client: AirExecutorClient, count: int) -> None:
    for number in range(count):
        client.create_job(f"job{number}", [{"command": "true"}], queue="q")


FAR = 1e12
"""A moment after everything that has happened."""


def test_two_runners_start_no_more_than_the_limit(home: Home, client: AirExecutorClient, slurm: Answers) -> None:
    one, two = Head(home, slurm, "one"), Head(home, slurm, "two")
    submit(client, 9)
    one.pilots.look()
    two.pilots.look()
    assert len(slurm.named) == 2
    assert Head(home, slurm, "next").pilots.active
    known = list(pilots.read_all(home))
    assert {each.id for each in known} == {"1", "2"}
    two.pilots.heard(slurm.rows("RUNNING"), FAR)
    assert {(each.state, each.node) for each in one_look(one, home)} == {("RUNNING", "n1")}
    assert len(slurm.named) == 2


def one_look(head: Head, home: Home) -> list[Record]:
    head.pilots.look()
    return list(pilots.read_all(home))


def test_nothing_is_started_for_a_paused_queue_or_without_jobs(
    home: Home, client: AirExecutorClient, slurm: Answers
) -> None:
    head = Head(home, slurm)
    head.pilots.look()
    submit(client, 1)
    home.paused.mkdir(exist_ok=True)
    home.pause("q").touch()
    head.pilots.look()
    assert slurm.named == []


def test_a_pilot_that_waits_is_cancelled_when_nothing_waits_for_it(
    home: Home, client: AirExecutorClient, slurm: Answers
) -> None:
    head = Head(home, slurm)
    submit(client, 3)
    head.pilots.look()
    head.pilots.heard([*slurm.rows("PENDING", 1), *slurm.rows("RUNNING", 2)], FAR)
    for marker in spool.waiting(home, "q"):
        marker.path(home).unlink()
    head.pilots.look()
    assert head.doomed == ["1"]
    head.pilots.heard([*slurm.rows("CANCELLED", 1), *slurm.rows("RUNNING", 2)], FAR)
    assert head.refusals == []


def test_failing_pilots_are_told_of_and_started_later_and_one_by_one(
    home: Home, client: AirExecutorClient, slurm: Answers
) -> None:
    head, other = Head(home, slurm), Head(home, slurm, "other")
    submit(client, 9)
    head.pilots.look()
    for number in slurm.named:
        home.slurm_pilot_log(number.partition(".")[0]).write_text("first\npython: not found\n")
    head.pilots.heard(slurm.rows("FAILED"), FAR)
    head.pilots.look()
    other.pilots.look()
    assert len(slurm.named) == 2
    assert len(head.refusals) == len(other.refusals) == 1
    assert "its last words on the node: python: not found; the next one in 2 s" in head.refusals[0]
    head.pilots._backoff["q"] = replace(head.pilots._backoff["q"], not_before=0.0)
    head.pilots.look()
    assert len(slurm.named) == 3
    assert [each.refused for each in head.pilots.failing] == [False], "it was only submitted"
    name = str(pilots.parse_submission(slurm.named[2], record.home_id(home)))
    pilots.write(home, replace(pilots.read(home, name) or Record("", "", 1), has_run=True), durable=False)
    head.pilots.look()
    head.pilots.heard(slurm.rows("COMPLETED", 3), FAR)
    assert head.pilots.failing == []


def test_a_refused_pilot_is_forgotten_and_told_of(home: Home, client: AirExecutorClient, slurm: Answers) -> None:
    head = Head(home, slurm)
    submit(client, 1)
    slurm.refuse = RefusedError("sbatch: invalid partition specified")
    head.pilots.look()
    head.pilots.look()
    assert list(pilots.read_all(home)) == []
    assert head.refusals == [
        "Slurm does not take it: sbatch: invalid partition specified; the next one in 2 s at the earliest"
    ]
    head.pilots._backoff["q"] = replace(head.pilots._backoff["q"], not_before=0.0)
    head.pilots.look()
    [failing] = head.pilots.failing
    assert (failing.queue, failing.failures, failing.refused) == ("q", 2, True)
    head.pilots._backoff["q"] = replace(head.pilots._backoff["q"], not_before=0.0)
    slurm.refuse = None
    head.pilots.look()
    assert head.pilots.failing == [], "Slurm takes them now"


def test_a_submission_without_an_answer_is_found_by_its_name_or_forgotten(
    home: Home, client: AirExecutorClient, slurm: Answers
) -> None:
    head = Head(home, slurm)
    submit(client, 9)
    slurm.refuse = AwayError("sbatch did not answer")
    head.pilots.look()
    [first] = pilots.read_all(home)
    assert head.pilots.unanswered
    slurm.refuse = None
    head.pilots.look(away=True)
    assert slurm.named == []
    head.pilots.look()
    [second] = [each for each in pilots.read_all(home) if each.name != first.name]
    submission = pilots.name_submission(first.name, record.home_id(home))
    found = Row("70", states.parse("PENDING"), "Resources", "main", None, submission)
    twice = replace(found, id="71")
    again = Head(home, slurm)  # after kill -9 of the first
    again.pilots.look()
    again.pilots.heard([found, twice], 0.0)
    assert pilots.read(home, first.name) == replace(first, id="70", state="PENDING", reason="Resources")
    assert again.doomed == ["71"]
    again.pilots.heard([found], 0.0)
    assert pilots.read(home, second.name) == second  # it was asked before the submission
    again.pilots.heard([found], FAR)
    vanished = pilots.read(home, second.name)
    assert vanished is not None
    assert vanished.over


def test_a_submission_that_never_came_to_be_is_forgotten(home: Home, client: AirExecutorClient, slurm: Answers) -> None:
    head = Head(home, slurm)
    submit(client, 1)
    slurm.refuse = AwayError("sbatch did not answer")
    head.pilots.look()
    head.pilots.heard([], 0.0)
    assert len(list(pilots.read_all(home))) == 1
    head.pilots.heard([], FAR)
    assert list(pilots.read_all(home)) == []


def test_jobs_that_ask_slurm_themselves_are_claimed_and_need_no_pilot(
    home: Home, client: AirExecutorClient, slurm: Answers
) -> None:
    head = Head(home, slurm)
    client.create_job("alone", [{"command": "true"}], queue="q", slurm={"cpus": 2})
    head.pilots.look(room=0)
    assert (list(pilots.read_all(home)), spool.claimed(home, "head")) == ([], [])
    head.pilots.look(room=1)
    assert (spool.claimed(home, "head"), slurm.named) == (["alone"], [])


# --- A pilot itself ---


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What squeue says, on the node."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "squeue"
    command.write_text(f"#!/bin/sh\ncat {tmp_path}/said\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    return tmp_path / "said"


@pytest.fixture
def start_pilot(home: Home) -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    testing.end_everything(home)
    for each in started:
        each.wait()


def start(home: Home, started: list[subprocess.Popen[bytes]], *, idle: float) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", pilot.__name__, "--home", str(home.root), "--name", "p", "--queue", "q"]
    argv += ["--slots", "2", "--idle", str(idle), "--launcher", "exec", "--heartbeat", "3"]
    argv += ["--grace", "1", "--output-mb", "0"]
    started.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True))
    wait_for(lambda: home.runner("p").exists(), what="a pilot")
    return started[-1]


def test_a_pilot_runs_its_queue_and_stops_what_is_left_before_its_time_ends(
    home: Home, client: AirExecutorClient, squeue: Path, start_pilot: list[subprocess.Popen[bytes]]
) -> None:
    home.config.write_text('[queues.q]\nlauncher = "slurm"\npilots = 1\n[broken')  # nothing of it concerns a pilot
    client.create_job("alone", [{"command": "true"}], queue="q", slurm={"cpus": 2})
    client.create_job("long", [{"command": "sleep", "args": ["600"]}], queue="q")
    process = start(home, start_pilot, idle=600)
    wait_for(lambda: store.read(home, "long").state is model.JobState.WORKING, what="a job on the pilot")
    squeue.write_text("RUNNING 0:00\n")
    process.terminate()
    assert process.wait(20) == 0
    ended = store.read(home, "long").exit
    assert ended is not None
    assert (ended.kind, ended.reason) == (
        model.ExitKind.RUNNER_LOST,
        "its pilot p (the Slurm job 7) reached its time limit",
    )
    assert [marker.job for marker in spool.waiting(home, "q")] == ["alone"]
    assert runners.all_runners(home) == []


def test_a_pilot_drains_when_it_is_warned_and_ends_when_idle_whoever_is_there(
    home: Home, client: AirExecutorClient, squeue: Path, start_pilot: list[subprocess.Popen[bytes]]
) -> None:
    squeue.write_text("RUNNING 5:00\n")
    go = home.root / "go"
    command = f"while ! [ -e {go} ]; do sleep 0.02; done"
    client.create_job("first", [{"command": "sh", "args": ["-c", command]}], queue="q")
    process = start(home, start_pilot, idle=600)
    wait_for(lambda: store.read(home, "first").state is model.JobState.WORKING, what="a job on the pilot")
    process.terminate()
    wait_for(lambda: runners.read(home, "p").draining, what="a pilot that drains")
    client.create_job("second", [{"command": "true"}], queue="q")
    go.touch()
    assert process.wait(20) == 0
    assert [store.read(home, name).state.value for name in ("first", "second")] == ["completed", "waiting"]
    runners.keep_alive(home)
    assert start(home, start_pilot, idle=0.3).wait(20) == 0
    client.create_job("third", [{"command": "sleep", "args": ["0.5"]}], queue="q")
    process = start(home, start_pilot, idle=600)
    wait_for(lambda: store.read(home, "third").state is model.JobState.WORKING, what="a job on the pilot")
    runners.tell(home, "p", "handover")
    assert process.wait(20) == 0
    assert store.read(home, "third").state is model.JobState.COMPLETED  # it was not left behind
    assert store.read(home, "second").state is model.JobState.COMPLETED
