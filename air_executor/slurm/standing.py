"""How runners and Slurm get on, and how a job stands there: in words, for `status`, `doctor`, `show` and pages.

What a runner notes is in `condition`, what is noted of a job in `record`; what Slurm's words mean is in `states`. Pure
but for `gather` and what begins with `read`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from air_executor import model, spool, store
from air_executor.errors import AirExecutorError
from air_executor.paths import Home, command
from air_executor.slurm import condition, pilots, record, states
from air_executor.slurm.condition import Condition, Failing, Pilot, Refusal

CONSEQUENCE = "jobs that are in Slurm go on, all others wait"
HELD_ON = "Slurm says that it is over, but a process still holds it"


@dataclass(frozen=True)
class Wait:
    """What jobs wait for in Slurm."""

    reason: str
    """Slurm's word."""
    says: str
    jobs: int
    stuck: bool
    """Whether somebody has to do something: it does not pass with time."""


@dataclass(frozen=True)
class Standing:
    """How a runner and Slurm get on."""

    runner: str
    alive: bool
    """Whether the runner lives. Of one that is gone all this is of its last moments."""
    at: str
    """When something of it changed last."""
    answers: bool | None
    """Whether Slurm answers; None if it was not asked yet."""
    answered_at: str | None
    trouble: str | None
    """What it says instead."""
    trouble_since: str | None
    to_submit: int
    """Jobs that are to be submitted, and those of which it is not known whether Slurm has them."""
    waiting: int
    """Jobs that wait in Slurm."""
    running: int
    held_on: int
    """Jobs that are over for Slurm, while a process holds them."""
    waits: tuple[Wait, ...]
    """What those wait for that wait in Slurm or are not taken for now, stuck ones first."""
    refusals: tuple[Refusal, ...]
    """The last jobs that could not be submitted or started."""
    pilots: tuple[Pilot, ...]
    failing: tuple[Failing, ...]
    """Queues whose last pilots have run nothing."""
    polls: int
    """How often Slurm was asked for all jobs."""

    @property
    def sentence(self) -> str:
        """Whether Slurm answers."""
        if not self.alive:
            return "the runner is gone"
        if self.answers is None:
            return "not asked yet"
        return "yes" if self.answers else "no"


def gather(home: Home, alive: Collection[str], holding: Collection[str]) -> list[Standing]:
    """Of all runners that use Slurm.

    Args:
        alive: the ids of the runners that live.
        holding: those that have claims. One that is gone and has none left nothing that could be told.
    """
    found = (describe(each, alive=each.runner in alive) for each in condition.read_all(home))
    return [each for each in found if each.alive or each.runner in holding]


def describe(found: Condition, *, alive: bool) -> Standing:
    """What a runner noted, in words. Pure."""
    answers = None if found.answered_at is None and found.trouble is None else found.trouble is None
    waits = [_describe_wait(code, jobs) for code, jobs in found.reasons.items()]
    waits += [Wait(said, _no_more(said), jobs, stuck=False) for said, jobs in found.limits.items()]
    return Standing(
        runner=found.runner,
        alive=alive,
        at=found.at,
        answers=answers,
        answered_at=found.answered_at,
        trouble=found.trouble,
        trouble_since=found.trouble_since,
        to_submit=found.to_submit + found.unsure,
        waiting=_count(found.states, states.Phase.WAITING),
        running=_count(found.states, states.Phase.RUNNING) + _count(found.states, states.Phase.UNKNOWN),
        held_on=found.held_on,
        waits=tuple(sorted(waits, key=lambda wait: (not wait.stuck, -wait.jobs, wait.reason))),
        refusals=found.refusals,
        pilots=found.pilots,
        failing=found.failing,
        polls=found.polls,
    )


def _count(by_state: dict[str, int], phase: states.Phase) -> int:
    return sum(jobs for state, jobs in by_state.items() if states.parse(state).phase is phase)


def _describe_wait(code: str, jobs: int) -> Wait:
    reason = states.explain(code)
    return Wait(code, reason.says, jobs, reason.stuck)


def _no_more(*said: str) -> str:
    return f"Slurm takes no more for now ({'; '.join(said)})"


@dataclass(frozen=True)
class Problem:
    """What should be otherwise, and what helps to find out more."""

    text: str
    advice: str
    fix: str


def problems(found: Iterable[Standing]) -> Iterator[Problem]:
    """What should be otherwise between the runners that live and Slurm. Pure."""
    for each in found:
        if not each.alive:
            continue  # that it is gone is told of the runner, and its jobs
        if each.trouble is not None:
            since = f" since {each.trouble_since}" if each.trouble_since else ""
            text = f"Slurm has not answered the runner {each.runner}{since} ({each.trouble}): {CONSEQUENCE}"
            yield Problem(text, "look at it from its host with", "scontrol ping; squeue --me")
        for wait in each.waits:
            if wait.stuck:
                jobs = "1 job" if wait.jobs == 1 else f"{wait.jobs} jobs"
                text = f"{jobs} of the runner {each.runner} will not start in Slurm by waiting: {wait.says}"
                yield Problem(text, "look at them with", "squeue --me --states=PENDING --Format=JobID,Reason,Name:200")


_OF_ONE = re.compile(r"; the next one in .* at the earliest| \(the Slurm job [^)]*\)")
"""What tells apart refusals that have the same reason."""


def group(refusals: Iterable[Refusal]) -> list[tuple[Refusal, int]]:
    """The last of those of a queue that have the same reason, and how many these are; the latest first. Pure."""
    found: dict[tuple[str, str], tuple[Refusal, int]] = {}
    for each in sorted(refusals, key=lambda each: each.at):
        key = (each.queue, _OF_ONE.sub("", each.why))
        found[key] = (each, found.get(key, (each, 0))[1] + 1)
    return sorted(found.values(), key=lambda pair: pair[0].at, reverse=True)


# --- One job ---


@dataclass(frozen=True)
class JobStanding:
    """How a job stands in Slurm."""

    id: str | None
    submission: str
    """How Slurm calls it."""
    state: str | None
    """Slurm's word, or ours where it has said none; None of a job that is over, if its end is newer than the word."""
    reason: str | None
    """Slurm's word for what it waits for."""
    says: str | None
    """In a sentence: what its state means, or what it waits for; None of a job that is over, which says itself why."""
    stuck: bool
    partition: str | None
    node: str | None
    submitted_at: str
    seen_at: str | None

    @property
    def brief(self) -> str:
        """`PENDING (Resources)`."""
        return f"{self.state} ({self.reason})" if self.reason else self.state or ""

    @property
    def sentence(self) -> str:
        """All of it."""
        named = f"Slurm job {self.id}" if self.id else f"named {self.submission} in Slurm"
        where = [f"partition {self.partition}" if self.partition else "", f"node {self.node}" if self.node else ""]
        state = f"{self.state}: {self.says}" if self.state and self.says else self.state
        return ", ".join(each for each in (named, state, *where) if each)


SUBMITTING = "SUBMITTING"
"""The state of what was given to Slurm without an answer: its next answer tells whether it has it."""


def of_job(job: model.Job, submitted: record.Record | None) -> JobStanding | None:
    """How a job stands, by what was noted of its submission. Pure."""
    if submitted is None:
        return None
    state, says, stuck = _words(job, submitted)
    return JobStanding(
        id=submitted.id,
        submission=submitted.submission,
        state=state,
        reason=submitted.reason if state == "PENDING" else None,
        says=says,
        stuck=stuck,
        partition=submitted.partition,
        node=submitted.node or _ran_on(job),
        submitted_at=submitted.submitted_at,
        seen_at=submitted.seen_at,
    )


def _ran_on(job: model.Job) -> str | None:
    """Of a job that was over before Slurm was asked: where its own process was."""
    process = job.runner
    return None if process is None else _noted(process, model.SLURM_NODE) or process.host


def _noted(process: model.Process, key: str) -> str | None:
    """What its file says beside what is declared, which may be anything."""
    value = process.extra.get(key)
    return value if isinstance(value, str) else None


def describe_pilot(job: model.Job, pilot: pilots.Record | None) -> str | None:
    """Of a job that a pilot runs or ran: in which. Pure.

    Args:
        pilot: what is known of that whose name its runner has; of one that ended a while ago, nothing is.
    """
    process = job.runner
    if process is None or process.runner is None:
        return None
    number = pilot.id if pilot is not None else _noted(process, model.SLURM_JOB)
    if pilot is None and not (number and pilots.is_name(process.runner)):
        return None
    node = (pilot.node if pilot is not None else None) or _ran_on(job)
    return f"in pilot {process.runner} ({f'Slurm job {number}, ' if number else ''}node {node})"


def read_pilot(home: Home, job: model.Job) -> str | None:
    """In which pilot a job is or was; None if in none."""
    if job.runner is None or job.runner.runner is None:
        return None
    try:
        return describe_pilot(job, pilots.read(home, job.runner.runner))
    except OSError:
        return None


def _words(job: model.Job, submitted: record.Record) -> tuple[str | None, str | None, bool]:
    """State, sentence, and whether it is stuck: the job's own files are newer than what Slurm said."""
    known = states.parse(submitted.state or "PENDING")
    if job.state.terminal:
        return known.name if known.over else None, None, False
    if submitted.id is None:
        return SUBMITTING, "it was given to Slurm, which has not said yet whether it has it", False
    if known.phase is states.Phase.WAITING and job.state is model.JobState.WORKING:
        known = states.parse("RUNNING")
    if known.phase is states.Phase.WAITING and submitted.reason:
        reason = states.explain(submitted.reason)
        return known.name, reason.says, reason.stuck
    return known.name, known.says, False


def read_job(home: Home, job: model.Job) -> JobStanding | None:
    """How a job stands in Slurm; None if its current attempt was not submitted there."""
    try:
        return of_job(job, record.read(home.job(job.name), job.attempt))
    except OSError:
        return None


def waits(found: JobStanding | None, job: model.Job) -> str | None:
    """Why a job that waits has not started, if that is for Slurm to say. Pure."""
    if found is None or job.state is not model.JobState.WAITING:
        return None
    stuck = "; that does not pass by waiting" if found.stuck else ""
    return f"in Slurm: {found.says}{stuck}"


def away(found: Condition) -> str | None:
    """Why the jobs wait that a runner has for Slurm, if it is for Slurm's silence. Pure."""
    if found.trouble is None:
        return None
    since = f" since {found.trouble_since}" if found.trouble_since else ""
    return f"Slurm has not answered{since} ({found.trouble}): it is asked again, and what has not begun waits for it"


def read_waits(home: Home, job: model.Job) -> str | None:
    """Why a job that a runner has for Slurm has not started; None if it waits for something else, or does not wait."""
    if job.state is not model.JobState.WAITING:
        return None
    found = read_job(home, job)
    for each in condition.read_all(home):
        if os.path.lexists(home.claims(each.runner) / job.name):
            if why := away(each):
                return why
            limited = f"; {_no_more(*each.limits)}" if each.limits else ""
            return waits(found, job) or f"it is to be submitted to Slurm{limited}"
    return waits(found, job)


def read_left(home: Home, holder: str) -> int:
    """How many of somebody's jobs Slurm has, which go on without him."""
    return sum(_is_there(home, name) for name in spool.claimed(home, holder))


def _is_there(home: Home, name: str) -> bool:
    try:
        job = store.read(home, name)
        return not job.state.terminal and record.read(home.job(name), job.attempt) is not None
    except (AirExecutorError, OSError):
        return False


def stay(home: Home, jobs: int) -> str:
    """What is said to those who end a runner that has jobs in Slurm."""
    goes_on = "1 job stays in Slurm and goes on" if jobs == 1 else f"{jobs} jobs stay in Slurm and go on"
    them = "it" if jobs == 1 else "them"
    return f"{goes_on}; the next runner takes {them} over. Cancel {them} with: {command(home, 'cancel', 'JOB')}"


def to_dict(found: JobStanding | None) -> dict[str, Any] | None:
    """For JSON."""
    return None if found is None else {**vars(found), "sentence": found.sentence}
