"""What a job's files and Slurm's words mean together; what is submitted how, and when. Plain data, no I/O."""

from __future__ import annotations

import enum
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from air_executor import backoff, model
from air_executor.slurm import states
from air_executor.slurm.record import Record
from air_runner.slurm.commands import Row

FIRST_POLL = 2.0
"""Seconds until Slurm is asked again after something has changed; half as many again after each answer without news."""
POLL_GROWTH = 1.5
FIRST_PAUSE, MAX_PAUSE = 2.0, 300.0
"""Seconds before a job is submitted again whose start failed, at first and at most; twice as many each time."""
_JOB = "air_executor_job"
"""A variable of the batch script; what a site needs there has variables of its own."""
GATHERING = 0.2
"""Seconds that a job waits which may be submitted together with others, for these to come."""
MAX_ELEMENTS = 1000
"""Of a job array; Slurm's default limit is 1,001."""

VANISHED = states.State(
    "VANISHED",
    "",
    states.Phase.OVER,
    "Slurm does not know it any more",
    kind=model.ExitKind.RUNNER_LOST,
    blame=model.Blame.RUNNER,
)
"""Of what is over for longer than Slurm remembers, or was lost with a controller's state."""


@dataclass
class Tracked:
    """A job in the hands of a runner that goes to Slurm, is there, or has just been."""

    job: model.Job
    record: Record | None = None
    """None: it is to be submitted."""
    options: Mapping[str, Any] = field(default_factory=dict)
    not_before: float = 0.0
    """When it may be submitted, monotonic seconds."""
    failures: int = 0
    """How often it could not be submitted or started in a row."""
    limit: str | None = None
    """Why Slurm does not take it for now, in its words."""
    asked_at: float = 0.0
    """When its submission was last answered, or not: what Slurm says of before does not count."""
    over: states.State | None = None
    """What Slurm says since it is over."""
    over_since: float = 0.0
    stopping: bool = False
    cancelled_at: float | None = None
    """When Slurm was last told to end it."""
    held_on: bool = False
    """Whether a process holds the job although it is over for Slurm."""


class Stage(enum.Enum):
    """How far a job has come."""

    TO_SUBMIT = "to submit"
    UNSURE = "unsure"
    """Submitted, without an answer."""
    THERE = "there"
    OVER = "over"


def stage(tracked: Tracked) -> Stage:
    """How far it has come."""
    if tracked.record is None:
        return Stage.TO_SUBMIT
    if tracked.over is not None:
        return Stage.OVER
    return Stage.UNSURE if tracked.record.id is None else Stage.THERE


def is_same(tracked: Tracked | None, job: model.Job, submitted: Record | None) -> bool:
    """Whether it is this submission of this job that is watched already."""
    if tracked is None or tracked.record is None or submitted is None:
        return False
    return tracked.job.id == job.id and tracked.record.submission == submitted.submission


def find(record: Record, rows: Iterable[Row]) -> Row | None:
    """What Slurm says of a submission.

    The number alone does not tell: a controller that has lost its state begins to count anew. The name alone does not,
    either: a submission without an answer may have been made twice.

    Args:
        rows: those with the name of the submission.
    """
    mine = [row for row in rows if row.element == record.element]
    if record.id is not None:
        return next((row for row in mine if row.id == record.id), None)
    return min(mine, key=lambda row: row.state.over, default=None)  # one that lives, if there is one


def told(record: Record, row: Row, moment: str) -> Record:
    """The record with what Slurm says now."""
    changes = {"id": row.id, "state": row.state.name, "reason": row.reason}
    changes |= {"partition": row.partition, "node": row.node}
    if all(getattr(record, name) == value for name, value in changes.items()):
        return record
    return Record(**{**vars(record), **changes, "seen_at": moment})


def pause(failures: int) -> float:
    """Seconds before the next attempt after so many in a row that failed."""
    return backoff.pause(failures, FIRST_PAUSE, MAX_PAUSE)


def first_pause(tracked: Tracked) -> float:
    """Seconds before a job is submitted that was just taken: others may come with which it can be one array."""
    return pause(tracked.failures) if tracked.failures else GATHERING * (array_size(tracked) > 1)


def array_size(tracked: Tracked) -> int:
    """With how many others, itself included, it may be submitted."""
    return min(int(tracked.options.get("array") or 1), MAX_ELEMENTS)


def ready(all_: Sequence[Tracked], now: float) -> list[Tracked]:
    """What is due, and what need not wait any longer because one with which it can be an array is due."""
    due = {kind(each) for each in all_ if each.not_before <= now and array_size(each) > 1}
    return [each for each in all_ if each.not_before <= now + GATHERING * (kind(each) in due)]


def next_interval(interval: float, longest: float, *, news: bool) -> float:
    """Seconds until Slurm is asked again, from those before its last answer."""
    return min(longest, FIRST_POLL) if news else min(longest, interval * POLL_GROWTH)


def kind(tracked: Tracked) -> str:
    """What jobs have in common that ask for the same."""
    return repr((tracked.job.queue, sorted(tracked.options.items(), key=lambda item: item[0])))


def batches(ready: Sequence[Tracked]) -> list[list[Tracked]]:
    """What is submitted together: as a job array, where the options are the same and allow it."""
    found: list[list[Tracked]] = []
    open_: dict[str, list[Tracked]] = {}
    for tracked in ready:
        size = array_size(tracked)
        if size <= 1:
            found.append([tracked])
            continue
        batch = open_.get(kind(tracked))
        if batch is None or len(batch) >= size:
            batch = open_[kind(tracked)] = []
            found.append(batch)
        batch.append(tracked)
    return found


_SETUP_FAILED = 'code=$?; [ $code -eq 0 ] || { echo "setup failed with exit code $code" >&2; exit $code; }'
"""Of the last: a job must not compute in another environment than it was told to. `set -e` is for the others."""


def shebang(setup: str | None) -> str:
    """Who reads a batch script: where a site needs something first, a login shell, which has `module`."""
    return "#!/bin/bash -l" if setup else "#!/bin/sh"


def preparation(setup: str | None) -> list[str]:
    """What comes before Python; the last line may end with a backslash."""
    return [setup, "", _SETUP_FAILED] if setup else []


def script(setup: str | None, argv: Sequence[str], jobs: Sequence[str], logs: Sequence[str]) -> str:
    """The batch script: what a site needs first, then the agent of the job, or of the one at this place of the array.

    Args:
        argv: the agent's command line, to which the job's name is added.
        logs: where each job's agent writes to, if that differs by place.
    """
    lines = [shebang(setup)]
    if len(jobs) > 1:
        lines += ["case $SLURM_ARRAY_TASK_ID in"]
        for number, (job, log) in enumerate(zip(jobs, logs, strict=True)):
            lines += [f"{number}) {_JOB}={shlex.quote(job)} log={shlex.quote(log)} ;;"]
        lines += ["esac", 'exec >>"$log" 2>&1']
    else:
        lines += [f"{_JOB}={shlex.quote(jobs[0])}"]
    lines += preparation(setup)
    return "\n".join([*lines, f'exec {shlex.join(argv)} "${_JOB}"', ""])


def count_states(all_: Iterable[Tracked]) -> tuple[dict[str, int], dict[str, int]]:
    """Jobs in Slurm by state, and those that wait there by reason."""
    by_state: dict[str, int] = {}
    by_reason: dict[str, int] = {}
    for tracked in all_:
        record = tracked.record
        if record is None or record.id is None or tracked.over is not None:
            continue
        state = record.state or "PENDING"
        by_state[state] = by_state.get(state, 0) + 1
        if record.reason:
            by_reason[record.reason] = by_reason.get(record.reason, 0) + 1
    return dict(sorted(by_state.items())), dict(sorted(by_reason.items()))


def count_limits(all_: Iterable[Tracked]) -> dict[str, int]:
    """Jobs that Slurm does not take for now, by what it says."""
    return dict(sorted(Counter(each.limit for each in all_ if each.limit).items()))


def outcome(over: states.State, why: str) -> model.Exit:
    """How a job ended of which its own files do not say it."""
    return model.Exit(over.kind or model.ExitKind.RUNNER_LOST, why)
