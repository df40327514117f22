"""How many pilots a queue needs, and what of them their ends mean. Plain data, no I/O."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from air_executor.slurm import options
from air_executor.slurm.pilots import Record
from air_runner.slurm import decisions
from air_runner.slurm.commands import Row

WARNING_SPREAD = 60.0
"""Seconds that Slurm may give its warning before the end too early."""
ENDING_SECONDS = 10.0
"""Seconds beside the grace that a pilot keeps for the ends of its jobs to be written."""
MOST_LEAD = 300.0
COME_UP_SECONDS = 600.0
"""Seconds that a pilot may run without its runner being there: what a queue's `setup` does takes its time."""
ORDERLY = "COMPLETED"
"""The state of what ended by itself, and well."""


@dataclass(frozen=True)
class Life:
    """A pilot that Slurm is not done with."""

    slots: int
    up: bool = False
    """Whether its runner is alive."""
    gone: bool = False
    """Whether it was, and is not any more: Slurm has not said so yet."""
    draining: bool = False
    working: int = 0

    @property
    def free(self) -> int:
        """Slots that it has for jobs that wait, or will have when it is there."""
        return 0 if self.gone or self.draining else max(0, self.slots - self.working)


def how_many(waiting: int, lives: Sequence[Life], *, slots: int, limit: int, failing: bool) -> int:
    """How many pilots to start.

    Args:
        waiting: jobs of the queue that no runner has.
        lives: all pilots of the queue, whoever started them.
        slots: those of a new one.
        limit: pilots at once.
        failing: whether the last ones did not run anything: then one at a time is tried.
    """
    lacking = waiting - sum(life.free for life in lives)
    wanted = math.ceil(max(0, lacking) / slots)
    if failing:
        coming = any(not life.up and not life.gone for life in lives)
        wanted = 0 if coming else min(1, wanted)
    return max(0, min(wanted, limit - len(lives)))


def lead(time: Any, grace: float) -> int:
    """Seconds before its time limit at which a pilot is told to take nothing more.

    A tenth of the time, as far as that is neither more than enough nor too little to end what runs by then; of a short
    time at most half.

    Args:
        time: what the queue says; None: it is the partition's.
    """
    least = grace + ENDING_SECONDS + WARNING_SPREAD
    if time is None:
        return math.ceil(least)
    seconds = options.time_seconds(time)
    return max(1, math.floor(min(max(least, min(seconds / 10, MOST_LEAD)), seconds / 2)))


def stop_after(left: float, grace: float) -> float:
    """Seconds until a pilot stops what still runs, so that it and not Slurm ends it, and says why."""
    return max(0.0, left - grace - ENDING_SECONDS)


def has_failed(record: Record) -> bool:
    """Whether a pilot that is over says that the next one may come to nothing, too."""
    if record.unwanted or record.has_run:
        return False
    return not record.came_up or record.state != ORDERLY


@dataclass(frozen=True)
class Backoff:
    """Whether pilots of a queue may be started."""

    failures: int = 0
    not_before: float = 0.0

    def failed(self, now: float) -> Backoff:
        """One more came to nothing; of several that were started together, the first counts."""
        if now < self.not_before:
            return self
        return Backoff(self.failures + 1, now + decisions.pause(self.failures + 1))


def find(record: Record, rows: Iterable[Row]) -> Row | None:
    """What Slurm says of a pilot.

    Args:
        rows: those with the name of its submission.
    """
    if record.id is not None:
        return next((row for row in rows if row.id == record.id), None)
    return min(rows, key=lambda row: row.state.over, default=None)


def told(record: Record, row: Row, moment: str) -> Record:
    """The record with what Slurm says now."""
    said = replace(record, id=row.id, state=row.state.name, reason=row.reason, node=row.node or record.node)
    if not row.state.over:
        return replace(said, ended_at=None, why=record.why if record.ended_at is None else None)
    why = "it ended by itself" if row.state.name == ORDERLY else row.state.says
    return replace(said, ended_at=record.ended_at or moment, why=record.why or why)


def flags(submission: str, log: str, table: Mapping[str, Any], seconds: int) -> list[str]:
    """What `sbatch` is given, but for the script.

    Args:
        log: where it writes to.
        table: what the queue asks of Slurm.
        seconds: before its time limit, at which it is warned.
    """
    said = [f"--job-name={submission}", f"--output={log.replace('%', '%%')}", "--open-mode=append", "--no-requeue"]
    return [*said, f"--signal=B:TERM@{seconds}", *options.arguments(table), "--"]


def script(setup: str, argv: Sequence[str]) -> str:
    """The batch script: what a site needs first, then the runner, which becomes the process that Slurm warns."""
    return "\n".join([decisions.shebang(setup), *decisions.preparation(setup), f"exec {shlex.join(argv)}", ""])
