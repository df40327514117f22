"""What becomes of jobs that go to Slurm, whatever that does. Home and jobs are real, Slurm and the clock are not."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from air_executor import _files, held, model, processes, repair, spool, store
from air_executor.model import Exit, ExitKind, JobState
from air_executor.paths import Home
from air_executor.queuetables import QueueSettings
from air_executor.settings import Settings, SlurmSettings
from air_executor.slurm import condition, record
from air_runner import taskloop
from air_runner.slurm import cluster, doom
from air_runner.slurm.commands import AwayError, BusyError, RefusedError
from tests.runner.slurm import Entry, FakeSlurm

POLL, PATIENCE = 15.0, 4.0
RUNNER = "test"


class World:
    """A runner's view of Slurm, in a time of its own."""

    def __init__(self, home: Home) -> None:
        self.home, self.slurm, self.now = home, FakeSlurm(), 1000.0
        self.left: list[str] = []
        self.settings = Settings(
            slurm=SlurmSettings(poll=POLL, patience=PATIENCE),
            queues={
                "slurm": QueueSettings(launcher="slurm"),
                "many": QueueSettings(launcher="slurm", slurm={"array": 3}),
            },
        )
        self.cluster = self.anew()

    def anew(self) -> cluster.Cluster:
        """The process was killed, and there is another."""
        rules = taskloop.Rules(grace=1.0, output_mb=100)
        self.cluster = cluster.Cluster(self.home, RUNNER, self.settings, rules, self.left.append, self.slurm)
        for name in sorted(spool.claimed(self.home, RUNNER)):
            self.cluster.take(name)
        return self.cluster

    def submit(self, name: str = "job", queue: str = "slurm", **options: Any) -> str:
        """A job that waits, and is claimed and in the hands of the runner."""
        job = store.submit(self.home, store.Submission(model.Job(name, queue=queue, **options), [model.Task("true")]))
        assert spool.claim(self.home, spool.marker_of(job), RUNNER)
        self.cluster.take(name)
        return name

    def go_on(self, seconds: float = 0.0) -> None:
        """As the process does: a step whenever something is due."""
        until = self.now + seconds
        self.cluster.step()
        for _ in range(1000):
            left = self.cluster.seconds_left()
            if left is None or self.now + left > until:
                self.now = until
                return
            self.now += max(left, 0.01)
            self.cluster.step()
        raise AssertionError("it never comes to rest")

    def job(self, name: str = "job") -> model.Job:
        return store.read(self.home, name)

    def record(self, name: str = "job") -> record.Record | None:
        return record.read(self.home.job(name), self.job(name).attempt)

    def id_of(self, name: str = "job") -> str:
        """Slurm's number."""
        found = self.record(name)
        assert found is not None and found.id is not None
        return found.id

    def in_slurm(self, name: str = "job") -> str:
        """A job that Slurm has; its number."""
        self.submit(name)
        self.go_on()
        return self.id_of(name)

    def begin(self, name: str = "job", *, task: bool = True) -> held.HeldJob:
        """What the ephemeral runner on the node does first."""
        job = held.HeldJob.acquire(self.home, name)
        job.start(processes.identify(os.getpid(), RUNNER), by="the node")
        if task:
            job.set_task(job.tasks[0], model.TaskStatus.RUNNING)
        return job

    def finish(self, job: held.HeldJob) -> None:
        """What it does last."""
        job.set_task(job.tasks[0], model.TaskStatus.COMPLETED, exit_code=0)
        job.finish(JobState.COMPLETED, Exit(ExitKind.SUCCESS, "completed", code=0), by="the node")
        job.release()

    def claimed(self) -> list[str]:
        return spool.claimed(self.home, RUNNER)

    def told(self) -> condition.Condition:
        """What people are told."""
        return next(condition.read_all(self.home))

    def check_over(self, state: JobState, kind: ExitKind, *words: str, name: str = "job") -> None:
        """The job is over, says why, and is in nobody's hands."""
        job = self.job(name)
        assert job.exit is not None
        assert (job.state, job.exit.kind) == (state, kind), job.exit
        assert [word for word in words if word not in job.exit.reason] == [], job.exit.reason
        assert name not in self.claimed()
        assert name in self.left


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    clock = SimpleNamespace(monotonic=lambda: made.now)
    monkeypatch.setattr(cluster, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    made = World(home)
    monkeypatch.setattr(cluster, "time", clock)
    monkeypatch.setattr(doom, "time", clock)
    return made


# --- From the claim to the end ---


def test_a_job_that_goes_well(world: World) -> None:
    number = world.in_slurm()
    assert (number, world.job().state, world.claimed()) == ("1", JobState.WAITING, ["job"])
    flags, script = world.slurm.orders[0]
    submitted = world.record()
    assert submitted is not None
    assert f"--job-name={submitted.submission}" in flags
    assert submitted.submission.startswith("job.")
    assert script.endswith(' "$air_executor_job"\n')
    world.go_on(POLL)
    assert world.record() == record.Record(
        **{**vars(submitted), "id": "1", "state": "PENDING", "reason": "Resources", "partition": "main"}
        | {"seen_at": world.record().seen_at}  # type: ignore[union-attr]
    )
    assert (world.told().states, world.told().reasons) == ({"PENDING": 1}, {"Resources": 1})
    world.slurm.say(number, "RUNNING")
    job = world.begin()
    world.go_on(POLL)
    assert world.told().states == {"RUNNING": 1}
    world.finish(job)
    world.go_on(cluster.LOOK_INTERVAL)  # before Slurm says so
    world.check_over(JobState.COMPLETED, ExitKind.SUCCESS)
    assert world.cluster.seconds_left() is None
    assert world.slurm.cancelled == []


@pytest.mark.parametrize("command", ["submit", "jobs"])
def test_what_is_at_hand_is_told_while_a_command_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    seen = []
    answer = getattr(world.slurm, command)

    def hang(*given: Any) -> Any:
        told = world.told()
        seen.append((told.to_submit, told.states))
        return answer(*given)

    monkeypatch.setattr(world.slurm, command, hang)
    world.submit()
    world.go_on(2.0)
    assert seen[0] == ((1, {}) if command == "submit" else (0, {"PENDING": 1}))


def test_questions_become_rarer_and_are_one_for_all(world: World) -> None:
    for number in range(20):
        world.submit(f"job-{number}")
    world.go_on(600.0)
    assert 600 / POLL <= world.slurm.polls <= 600 / POLL + 8
    before = world.slurm.polls
    world.slurm.say("3", "RUNNING")
    world.go_on(POLL)
    assert world.slurm.polls - before <= 3
    world.go_on(POLL)
    assert world.slurm.polls - before >= 4  # soon again, after news


def test_an_array_is_one_submission(world: World) -> None:
    for name in "abcde":
        world.submit(name, "many")
    world.submit("other", "many", slurm={"cpus": 2})
    world.go_on(1.0)
    assert sorted(world.slurm.entries) == ["1_0", "1_1", "1_2", "2_0", "2_1", "3"]
    assert [world.id_of(name) for name in [*"abcde", "other"]] == ["1_0", "1_1", "1_2", "2_0", "2_1", "3"]
    assert "--cpus-per-task=2" in world.slurm.orders[2][0]


# --- What Slurm refuses ---


def test_a_refusal_is_the_end(world: World) -> None:
    world.slurm.faults.submit.append(RefusedError("sbatch: invalid partition specified: nope"))
    world.submit()
    world.go_on()
    world.check_over(
        JobState.FAILED, ExitKind.START_FAILED, "Slurm does not take it", "invalid partition specified: nope"
    )
    assert [refusal.job for refusal in world.told().refusals] == ["job"]


def test_a_refused_array_ends_all_of_it(world: World) -> None:
    world.slurm.faults.submit.append(RefusedError("sbatch: no"))
    for name in "abc":
        world.submit(name, "many")
    world.go_on(1.0)
    for name in "abc":
        world.check_over(JobState.FAILED, ExitKind.START_FAILED, name=name)


def test_a_refusal_that_cannot_be_written_is_tried_again(world: World) -> None:
    world.slurm.faults.submit += [RefusedError("sbatch: no")] * 2
    world.submit()
    lock = held.lock_job(world.home, "job", 0.0)
    world.go_on()
    lock.release()
    assert world.job().state is JobState.WAITING
    world.go_on(5.0)
    world.check_over(JobState.FAILED, ExitKind.START_FAILED, "sbatch: no")


def test_options_that_only_another_version_knows_end_their_job_alone(world: World) -> None:
    world.submit("strange", slurm={"cpus": 1})
    world.submit("sound")
    for tracked in world.cluster._jobs.values():
        if tracked.job.name == "strange":
            tracked.options = {**tracked.options, "of_tomorrow": 1}
    world.go_on()
    world.check_over(JobState.FAILED, ExitKind.START_FAILED, "of_tomorrow", name="strange")
    assert world.id_of("sound") == "1"


def test_a_limit_is_no_refusal_and_is_not_tried_for_each_job(world: World) -> None:
    world.slurm.faults.submit += [BusyError("sbatch: AssocMaxSubmitJobLimit")] * 2
    for number in range(5):
        world.submit(f"job-{number}")
    world.submit("other", slurm={"qos": "long"})
    world.go_on()
    assert len(world.slurm.orders) == 2  # one for each kind
    assert (world.told().limits, world.told().trouble) == ({"sbatch: AssocMaxSubmitJobLimit": 6}, None)
    assert world.told().to_submit == 6
    assert world.record("job-0") is None
    world.go_on(POLL)
    assert len(world.slurm.entries) == 6
    assert world.told().limits == {}


def test_a_job_that_is_gone_does_not_keep_back_its_array(world: World) -> None:
    for name in "abc":
        world.submit(name, "many")
    shutil.rmtree(world.home.job("b").root)
    world.go_on(1.0)
    assert sorted(world.slurm.entries) == ["1_0", "1_1"]
    assert "b" in world.left
    assert [world.id_of("a"), world.id_of("c")] == ["1_0", "1_1"]


def test_a_home_that_refuses_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    world.submit()
    with monkeypatch.context() as full:
        full.setattr(record, "write", refuse)
        world.go_on(1.0)
    assert world.slurm.orders == []
    world.go_on(10.0)
    assert world.id_of() == "1"


# --- Answers that do not come ---


def test_a_submission_that_was_lost_is_made_again(world: World) -> None:
    world.slurm.faults.submit.append(AwayError("sbatch: Unable to contact slurm controller"))
    world.submit()
    world.go_on()
    assert (world.told().unsure, world.told().states) == (1, {})
    first = world.record()
    world.go_on(10.0)
    second = world.record()
    assert first is not None and second is not None
    assert first.submission != second.submission
    assert (second.id, len(world.slurm.orders)) == ("1", 2)


def test_a_submission_whose_answer_was_lost_is_found_by_its_name(world: World) -> None:
    world.slurm.faults.lost.append(AwayError("sbatch did not answer within 30 s"))
    world.submit()
    world.go_on(POLL)
    assert (world.id_of(), len(world.slurm.orders)) == ("1", 1)


def test_the_number_of_an_array_is_found_for_each_of_it(world: World) -> None:
    world.slurm.faults.lost.append(AwayError("sbatch did not answer within 30 s"))
    for name in "abc":
        world.submit(name, "many")
    world.go_on(POLL)
    assert [world.id_of(name) for name in "abc"] == ["1_0", "1_1", "1_2"]


def test_nothing_is_submitted_while_slurm_is_away(world: World) -> None:
    world.slurm.faults.submit.append(AwayError("sbatch: Unable to contact slurm controller"))
    world.slurm.faults.jobs += [AwayError("squeue: Unable to contact slurm controller")] * 5
    for number in range(5):
        world.submit(f"job-{number}")
    world.go_on(10.0)
    assert len(world.slurm.orders) == 1
    assert "Unable to contact" in (world.told().trouble or "")
    world.go_on(100.0)
    assert (len(world.slurm.entries), len(world.slurm.orders)) == (5, 6)
    assert all(world.job(f"job-{number}").state is JobState.WAITING for number in range(5))
    assert world.told().trouble is None


def test_while_slurm_is_away_nothing_changes(world: World) -> None:
    world.in_slurm()
    world.go_on(POLL)
    world.slurm.faults.jobs += [AwayError("squeue: Unable to contact slurm controller")] * 20
    world.go_on(250.0)
    assert (world.job().state, world.claimed(), world.left) == (JobState.WAITING, ["job"], [])
    assert world.told().trouble is not None
    assert world.told().states == {"PENDING": 1}


def test_what_has_ended_is_known_without_slurm(world: World) -> None:
    world.in_slurm()
    world.slurm.faults.jobs += [AwayError("squeue: Unable to contact slurm controller")] * 20
    job = world.begin()
    world.go_on(20.0)
    world.finish(job)
    world.go_on(cluster.LOOK_INTERVAL)
    world.check_over(JobState.COMPLETED, ExitKind.SUCCESS)


# --- Another process, another runner ---


def test_the_next_one_goes_on(world: World) -> None:
    number = world.in_slurm()
    world.submit("later")
    world.anew()
    world.go_on(POLL)
    assert (world.id_of(), world.id_of("later"), len(world.slurm.orders)) == (number, "2", 2)


def test_one_that_was_killed_before_it_noted_the_number(world: World) -> None:
    number = world.in_slurm()
    submitted = world.record()
    assert submitted is not None
    record.write(world.home.job("job"), record.Record(1, submitted.submission), durable=False)
    world.anew()
    world.go_on(POLL)
    assert (world.id_of(), len(world.slurm.orders)) == (number, 1)


def test_one_that_was_killed_before_it_submitted(world: World) -> None:
    world.submit()
    record.write(world.home.job("job"), record.Record(1, "job.0123456789abcdef"), durable=False)
    world.anew()
    world.go_on(POLL)
    assert (world.id_of(), len(world.slurm.orders)) == ("1", 1)


def test_a_damaged_record_is_submitted_anew_and_the_old_submission_ended(world: World) -> None:
    old = world.in_slurm()
    world.home.job("job").slurm.write_text("{")
    world.anew()
    world.go_on(POLL + PATIENCE)
    assert (world.id_of(), world.slurm.cancelled) == ("2", [old])


def test_a_damaged_record_of_a_job_that_works_ends_nothing(world: World) -> None:
    world.slurm.say(world.in_slurm(), "RUNNING")
    world.in_slurm("other")
    job = world.begin()
    world.home.job("job").slurm.write_text("{")
    world.anew()
    world.go_on(4 * POLL)
    assert (world.slurm.cancelled, len(world.slurm.orders)) == ([], 2)
    assert world.left == ["job"]  # to the runner, which leaves alone what somebody holds
    job.release()


def test_a_job_that_cannot_be_read_is_the_runners_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.in_slurm()
    with monkeypatch.context() as exhausted:
        exhausted.setattr(store, "read", _raise(OSError(24, "Too many open files")))
        world.anew()
    assert world.left == ["job"]
    world.cluster.take("job")
    world.cluster.take("none-such")
    assert world.left == ["job", "none-such"]
    world.go_on(POLL)
    assert (world.id_of(), len(world.slurm.orders)) == ("1", 1)


def _raise(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_what_was_not_submitted_goes_back(world: World) -> None:
    world.in_slurm("there")
    world.submit("waits")
    world.cluster.give_back()
    assert world.claimed() == ["there"]
    assert spool.marker_of(world.job("waits")).path(world.home).exists()


# --- Ends of which the job's files say nothing ---


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "BOOT_FAIL"])
def test_a_node_that_fails_before_the_start(world: World, state: str) -> None:
    world.slurm.say(world.in_slurm(), state)
    world.go_on(POLL + PATIENCE)
    job = world.job()
    assert (job.state, job.attempt, job.crashes, job.losses) == (JobState.WAITING, 1, 0, 1)
    world.go_on(10.0)
    assert (world.id_of(), world.claimed(), world.left) == ("2", ["job"], [])


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("NODE_FAIL", ExitKind.RUNNER_LOST, "its node failed"),
        ("PREEMPTED", ExitKind.RUNNER_LOST, "preemption"),
        ("TIMEOUT", ExitKind.TIMEOUT, "time limit"),
        ("OUT_OF_MEMORY", ExitKind.MEMORY, "more memory"),
        ("CANCELLED", ExitKind.CANCELLED, "cancelled in Slurm"),
        ("COMPLETED", ExitKind.RUNNER_LOST, "wrote no end"),
    ],
)
def test_ends_after_the_start(world: World, state: str, kind: ExitKind, words: str) -> None:
    number = world.in_slurm()
    world.begin().release()  # killed
    world.slurm.say(number, state)
    world.go_on(POLL + PATIENCE)
    over = JobState.CANCELLED if state == "CANCELLED" else JobState.FAILED
    world.check_over(over, kind, f"the Slurm job {number} on n1", words)
    assert len(world.slurm.orders) == 1


@pytest.mark.parametrize(
    ("state", "kind"),
    [("TIMEOUT", ExitKind.TIMEOUT), ("OUT_OF_MEMORY", ExitKind.MEMORY), ("CANCELLED", ExitKind.CANCELLED)],
)
def test_ends_before_the_start(world: World, state: str, kind: ExitKind) -> None:
    world.slurm.say(world.in_slurm(), state, node=None)
    world.go_on(POLL + PATIENCE)
    over = JobState.CANCELLED if state == "CANCELLED" else JobState.FAILED
    world.check_over(over, kind, "the Slurm job 1: ")
    assert len(world.slurm.orders) == 1


def test_an_end_that_cannot_be_written_is_written_later_and_nothing_submitted(world: World) -> None:
    world.slurm.say(world.in_slurm(), "CANCELLED", node=None)
    world.go_on(2.0)
    lock = held.lock_job(world.home, "job", 0.0)
    world.go_on(60.0)
    lock.release()
    world.go_on(cluster.LOOK_INTERVAL)
    world.check_over(JobState.CANCELLED, ExitKind.CANCELLED)
    assert len(world.slurm.orders) == 1


def test_a_node_on_which_it_does_not_start_is_to_blame_on_the_job_and_bounded(world: World) -> None:
    world.submit()
    _files.replace(world.home.job("job").slurm_log, b"something\n/shared/venv/bin/python: not found\n")
    for number in range(1, repair.CRASH_LIMIT + 1):
        world.go_on(80.0)
        world.slurm.say(str(number), "FAILED", "NonZeroExitCode")
    world.go_on(80.0)
    assert len(world.slurm.orders) == repair.CRASH_LIMIT
    world.check_over(
        JobState.FAILED, ExitKind.RUNNER_LOST, "its last words on the node: /shared/venv/bin/python: not found"
    )


def test_of_a_node_that_wrote_nothing_is_asked_what_it_sees(world: World) -> None:
    world.slurm.say(world.in_slurm(), "FAILED", "NonZeroExitCode")
    world.go_on(POLL + PATIENCE)
    assert f"does n1 see {world.home.root}" in world.told().refusals[-1].why


def test_a_job_that_goes_on_although_slurm_has_ended_it(world: World) -> None:
    number = world.in_slurm()
    job = world.begin()
    world.slurm.say(number, "NODE_FAIL")
    world.go_on(100.0)
    assert (world.job().state, world.told().held_on) == (JobState.WORKING, 1)
    world.finish(job)
    world.go_on(cluster.LOOK_INTERVAL)
    world.check_over(JobState.COMPLETED, ExitKind.SUCCESS)


# --- What Slurm does not know any more ---


def test_a_controller_that_lost_its_state(world: World) -> None:
    """It counts anew, so another job may have the number."""
    world.in_slurm()
    world.slurm.entries, world.slurm.next_number = {"1": Entry("somebody-elses", "RUNNING")}, 2
    world.go_on(POLL + PATIENCE)
    assert (world.job().state, world.job().losses) == (JobState.WAITING, 1)
    world.go_on(10.0)
    assert (world.id_of(), world.slurm.cancelled) == ("2", [])


def test_one_answer_without_a_job_is_no_end_of_it(world: World) -> None:
    number = world.in_slurm()
    entries, world.slurm.entries = world.slurm.entries, {}
    world.go_on(2.5)
    world.slurm.entries = entries
    world.go_on(2 * POLL)
    assert (world.id_of(), world.job().losses, world.slurm.cancelled) == (number, 0, [])


def test_one_that_was_running_and_is_not_known_any_more(world: World) -> None:
    world.in_slurm()
    world.begin().release()
    world.slurm.entries.clear()
    world.go_on(POLL + PATIENCE)
    world.check_over(JobState.FAILED, ExitKind.RUNNER_LOST, "Slurm does not know it any more")


def test_accounts_say_what_slurm_has_forgotten(world: World) -> None:
    number = world.in_slurm()
    world.slurm.entries.clear()
    world.slurm.recorded[number] = "CANCELLED by 1000"
    world.slurm.faults.past.append(AwayError("sacct: Connection refused"))
    world.go_on(2 * POLL + PATIENCE)
    world.check_over(JobState.CANCELLED, ExitKind.CANCELLED, "by the user with the id 1000")


# --- Cancelling ---


def cancel(world: World, name: str = "job") -> None:
    outcome = Exit(ExitKind.CANCELLED, "cancelled by a test")
    repair.note_stop(world.home, name, by="a test", outcome=outcome)
    world.cluster.stop(name)


def test_cancelled_before_it_is_submitted(world: World) -> None:
    world.slurm.faults.submit.append(BusyError("sbatch: QOSMaxSubmitJobPerUserLimit"))
    world.submit()
    world.go_on()
    cancel(world)
    world.check_over(JobState.CANCELLED, ExitKind.CANCELLED, "cancelled by a test")
    world.go_on(60.0)
    assert len(world.slurm.orders) == 1


def test_cancelled_while_it_waits_in_slurm(world: World) -> None:
    number = world.in_slurm()
    world.go_on(POLL)
    cancel(world)
    world.check_over(JobState.CANCELLED, ExitKind.CANCELLED, "cancelled by a test")
    world.go_on()
    assert world.slurm.cancelled == [number]
    world.go_on(POLL)
    assert world.cluster.seconds_left() is None


def test_a_hundred_are_cancelled_at_once(world: World) -> None:
    names = [world.submit(f"job-{number}") for number in range(100)]
    world.go_on()
    for name in names:
        cancel(world, name)
    world.go_on()
    assert sorted(world.slurm.cancelled) == sorted(world.slurm.entries)


def test_cancelled_while_slurm_is_away(world: World) -> None:
    number = world.in_slurm()
    world.slurm.faults.cancel.append(AwayError("scancel: Unable to contact slurm controller"))
    cancel(world)
    world.check_over(JobState.CANCELLED, ExitKind.CANCELLED)
    world.go_on(5.0)
    assert world.slurm.cancelled == [number]


def test_cancelled_without_an_answer_to_its_submission(world: World) -> None:
    """Nothing else is there for which Slurm would be asked."""
    world.slurm.faults.lost.append(AwayError("sbatch did not answer within 30 s"))
    world.submit()
    world.go_on()
    cancel(world)
    world.check_over(JobState.CANCELLED, ExitKind.CANCELLED)
    world.go_on(POLL)
    assert world.slurm.cancelled == ["1"]
    world.go_on(2 * POLL)
    assert world.cluster.seconds_left() is None


def test_one_that_runs_is_ended_by_slurm_and_its_files_say_why(world: World) -> None:
    number = world.in_slurm()
    job = world.begin()
    world.slurm.say(number, "RUNNING")
    world.go_on(POLL)
    cancel(world)
    world.go_on()
    assert world.slurm.cancelled == [number]
    assert world.job().state is JobState.WORKING
    job.release()  # killed before it could write the end
    world.go_on(POLL + PATIENCE)
    world.check_over(JobState.CANCELLED, ExitKind.CANCELLED, "cancelled by a test")


def test_it_is_told_until_it_has_ended_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.in_slurm()
    monkeypatch.setattr(world.slurm, "cancel", lambda ids: not world.slurm.cancelled.extend(ids))  # type: ignore[func-returns-value]
    cancel(world)
    world.go_on(doom.TELL_AGAIN + 2 * POLL)
    assert world.slurm.cancelled == ["1", "1", "1"]
    world.slurm.faults.jobs += [AwayError("squeue: Unable to contact slurm controller")] * 4
    world.slurm.entries["1"] = Entry("somebody-elses", "RUNNING")  # a controller that has lost its state
    world.go_on(10 * POLL)
    assert world.slurm.cancelled == ["1", "1", "1"]
    assert world.cluster.seconds_left() is None


def test_submissions_that_no_job_wants_are_ended_after_a_while(world: World) -> None:
    world.in_slurm()
    own = record.home_id(world.home)
    world.slurm.entries["50"] = Entry(f"job.{own}00000000")
    world.slurm.entries["51"] = Entry(f"gone.{own}00000000", "RUNNING")
    world.slurm.entries["52"] = Entry("job.ffffffff00000000")
    world.slurm.entries["53"] = Entry("job")
    world.go_on(2.0)
    assert world.slurm.cancelled == []
    world.go_on(POLL + PATIENCE)
    assert sorted(world.slurm.cancelled) == ["50", "51"]


def test_a_deleted_claim_is_made_again(world: World) -> None:
    world.in_slurm()
    (world.home.claims(RUNNER) / "job").unlink()
    world.go_on(cluster.LOOK_INTERVAL)
    assert (world.claimed(), world.left) == (["job"], [])


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_spool_that_was_deleted_ends_nothing_in_slurm(world: World, elsewhere: bool) -> None:
    number = world.in_slurm()
    shutil.rmtree(world.home.spool)
    store.ensure_home(world.home)
    assert [change.job for change in repair.repair(world.home)] == ["job"]
    marker = spool.marker_of(world.job())
    if elsewhere:
        assert spool.claim(world.home, marker, "another")
    world.go_on(cluster.LOOK_INTERVAL + POLL + PATIENCE)
    assert (world.slurm.cancelled, world.left, world.id_of()) == ([], ["job"], number)


def test_of_a_job_that_begins_anew_the_submission_before_is_ended(world: World) -> None:
    number = world.in_slurm()
    repair.resolve(world.home, "job", "a test", by="a test", holder=RUNNER)
    world.go_on(cluster.LOOK_INTERVAL)
    assert (world.slurm.cancelled, world.left) == ([number], ["job"])


def test_a_limit_does_not_fill_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world.in_slurm("there")
    world.slurm.faults.submit += [BusyError("sbatch: AssocMaxSubmitJobLimit")] * 9
    world.submit()
    for _ in range(6):
        world.go_on(POLL)
        assert (sum(world.told().limits.values()), world.told().trouble) == (1, None)
    assert len([each for each in caplog.records if "Slurm" in each.message]) == 1
    world.go_on(10 * POLL)
    assert world.told().limits == {}


def test_no_more_are_in_slurm_than_may_be(world: World) -> None:
    world.settings = dataclasses.replace(world.settings, slurm=SlurmSettings(max_jobs=2, poll=POLL, patience=PATIENCE))
    world.anew()
    for name in "abcd":
        world.submit(name, "default", slurm={"array": 9})
    world.go_on(POLL)
    assert sorted(world.slurm.entries) == ["1_0", "1_1"]
    world.finish(world.begin("a"))
    world.slurm.say("1_0", "COMPLETED")
    world.go_on(POLL)
    assert sorted(world.slurm.entries) == ["1_0", "1_1", "2"]


def test_what_slurm_cancelled_was_not_refused(world: World) -> None:
    world.slurm.say(world.in_slurm(), "CANCELLED")
    world.go_on(POLL + PATIENCE)
    world.check_over(JobState.CANCELLED, ExitKind.CANCELLED, "cancelled in Slurm")
    assert world.told().refused == 0
