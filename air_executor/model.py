"""Jobs and tasks: what they hold, which states they have, which changes are allowed. Plain data, no I/O.

::

                     claim                    every task over
    submit ─> waiting ─────> working ──────────┬─────────> completed
                 ^ │            │              ├─────────> failed
                 │ │            │ runner lost  └─────────> cancelled
                 │ │            │ before a task started
                 │ │ <──────────┘
                 │ └── cancelled before it started ──────> cancelled
                 │ └── cannot start (damaged, crash limit) > failed
                 └──── retry: a new attempt ── completed, failed, cancelled

Timestamps are UTC, ISO 8601, with microseconds and `Z`. Durations are seconds. Memory is MiB (2**20 bytes).
"""

from __future__ import annotations

import enum
import functools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from typing import Any, TypeVar

SCHEMA = 1

DEFAULT_QUEUE = "default"


class JobState(str, enum.Enum):
    """Where a job is in its life."""

    WAITING = "waiting"
    WORKING = "working"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    __str__ = str.__str__

    @property
    def terminal(self) -> bool:
        """Whether the job is over, unless somebody asks for a new attempt."""
        return self in TERMINAL_JOB_STATES


class TaskStatus(str, enum.Enum):
    """Where a task is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    __str__ = str.__str__

    @property
    def terminal(self) -> bool:
        """Whether the task is over."""
        return self in TERMINAL_TASK_STATUSES


class ExitKind(str, enum.Enum):
    """Why a job ended, in one word."""

    SUCCESS = "success"
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"
    CANCELLED = "cancelled"
    RESULT = "result"
    START_FAILED = "start_failed"
    RUNNER_LOST = "runner_lost"
    DAMAGED = "damaged"

    __str__ = str.__str__


class OnFailure(str, enum.Enum):
    """What becomes of the other tasks of a job when one has failed for good."""

    CONTINUE = "continue"
    """Those that do not depend on it go on."""
    STOP = "stop"
    """No other is started; those that run are let finish."""

    __str__ = str.__str__


class Trigger(str, enum.Enum):
    """Who submits jobs."""

    EXECUTOR = "executor"
    OPERATOR = "operator"
    API = "api"
    CLI = "cli"
    PIPELINE = "pipeline"

    __str__ = str.__str__


TERMINAL_JOB_STATES = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
TERMINAL_TASK_STATUSES = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED})

JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.WAITING: frozenset({JobState.WORKING, JobState.FAILED, JobState.CANCELLED}),
    JobState.WORKING: frozenset({JobState.WAITING, *TERMINAL_JOB_STATES}),
    **{state: frozenset({JobState.WAITING}) for state in TERMINAL_JOB_STATES},
}

TASK_TRANSITIONS: Mapping[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.PENDING: frozenset({TaskStatus.RUNNING, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED}),
    TaskStatus.RUNNING: frozenset(
        {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.PENDING}  # the last: tried again
    ),
    **{status: frozenset({TaskStatus.PENDING}) for status in TERMINAL_TASK_STATUSES},
}


class TransitionError(Exception):
    """A change that the tables above do not allow: a fault of the program, never of a user."""


SLURM_NODE, SLURM_JOB = "slurm_node", "slurm_job"
"""What is noted beside a process that Slurm runs: how Slurm calls its node, and the number of its job."""


@dataclass
class Process:
    """A process that can be told from any other, also after its number was used again."""

    host: str
    boot_id: str
    pid: int
    start_time: int
    """Clock ticks since boot on Linux, milliseconds since the epoch elsewhere."""
    runner: str | None = None
    """The runner that launched it."""
    waited: float = 0.0
    """Seconds that it had been there before it was given its job."""
    extra: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass
class Exit:
    """Why a job ended."""

    kind: ExitKind
    reason: str
    """One sentence for people."""
    code: int | None = None
    signal: int | None = None
    extra: dict[str, Any] = field(default_factory=dict, repr=False)


class Blame(enum.Enum):
    """What kept a job from starting, and is counted for it."""

    JOB = "its ephemeral runner died before a task started"
    RUNNER = "its runner died before the job had an ephemeral runner"
    HOME = "the home refused to be written, which is counted for no job"


@dataclass
class Job:
    """One unit of submission: the content of state.json."""

    name: str
    id: str = ""
    """The name and a random number: tells this job from one of the same name that was pruned."""
    state: JobState = JobState.WAITING
    created_at: str = ""
    updated_at: str = ""
    queued_at: str = ""
    """When this attempt was put in its queue; with the priority it gives the place there."""
    started_at: str | None = None
    finished_at: str | None = None
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    """Higher starts first."""
    attempt: int = 1
    crashes: int = 0
    """How often in this attempt its ephemeral runner died before a task started."""
    losses: int = 0
    """How often in this attempt its runner died before the job had an ephemeral runner."""
    trigger: str = Trigger.API.value
    labels: dict[str, str] = field(default_factory=dict)
    external_id: str | None = None
    """The submitter's own identifier of this attempt."""
    notify: bool = False
    """Whether somebody waits for a marker in spool/finished."""
    template: str | None = None
    """The module that a template may have preloaded, so that a task `python -m <module>` is forked, not executed."""
    variant: str | None = None
    """What the jobs have in common for which a template may have prepared more than its module."""
    max_parallel: int | None = None
    """How many tasks run at once; None means the host's cores."""
    on_failure: str = OnFailure.CONTINUE.value
    """What becomes of the other tasks when one has failed."""
    timeout: float | None = None
    """Seconds from start to end of the whole job."""
    memory_mb: int | None = None
    """Limit of the resident memory of the whole process tree, MiB."""
    output_mb: int | None = None
    """Limit of what all its tasks write in this attempt, together, MiB."""
    nice: int = 0
    slurm: dict[str, Any] | None = None
    """What it asks of Slurm, and thereby to run there, whatever its queue; see `slurm.options`."""
    webhooks: list[str] = field(default_factory=list)
    """Those that are told of its end, beside those that choose it themselves."""
    runner: Process | None = None
    """The ephemeral runner of the current or last attempt."""
    exit: Exit | None = None
    usage: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.id:
            self.id = f"{self.name}.{os.urandom(4).hex()}"


@dataclass
class Task:
    """One command line inside a job: an entry of tasks.json."""

    command: str
    args: list[str] = field(default_factory=list)
    id: str = ""
    job_name: str = ""
    dependencies: list[str] = field(default_factory=list)
    status: TaskStatus = TaskStatus.PENDING
    created_at: str = ""
    started_at: str | None = None
    completed_at: str | None = None
    error: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    """None means the working directory of the runner."""
    timeout: float | None = None
    memory_mb: int | None = None
    """Limit of the resident memory of its process and all descendants, MiB."""
    output_mb: int | None = None
    """Limit of what it writes in one attempt, MiB."""
    retries: int = 0
    """How often it is started again when it fails."""
    retry_delay: float = 1.0
    """Seconds before it is started again; twice as long after each time."""
    tries: int = 0
    """How often it was started in this attempt of the job."""
    added_by: str | None = None
    """The task that added it while the job ran; empty if somebody else did."""
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def argv(self) -> list[str]:
        """The command line."""
        return [self.command, *self.args]

    @property
    def has_started(self) -> bool:
        """Whether it ran, or may have run, in this attempt. One that completed in an earlier attempt has not."""
        return self.tries > 0 or self.status not in (TaskStatus.PENDING, TaskStatus.COMPLETED)

    @property
    def was_kept(self) -> bool:
        """Whether it completed in an earlier attempt, and that counts in this one."""
        return self.status is TaskStatus.COMPLETED and self.tries == 0


def now() -> str:
    """The current time as it is written in files."""
    return from_timestamp(time.time())


def from_timestamp(seconds: float) -> str:
    """A time, given in seconds since 1970, as it is written in files."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """The time that `now` wrote.

    Raises:
        ValueError: it is not ISO 8601 with a time zone.
    """
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r:.60} has no time zone")
    return moment


def check_job_transition(old: JobState, new: JobState) -> None:
    """Raise `TransitionError` unless a job may go from `old` to `new`."""
    if new not in JOB_TRANSITIONS[old]:
        raise TransitionError(f"a job cannot go from {old} to {new}")


def check_task_transition(old: TaskStatus, new: TaskStatus) -> None:
    """Raise `TransitionError` unless a task may go from `old` to `new`."""
    if new not in TASK_TRANSITIONS[old]:
        raise TransitionError(f"a task cannot go from {old} to {new}")


# --- JSON ------------------------------------------------------------------------------------------------------------
# A key that this version does not know is kept in `extra` and written back; a key that is missing takes its default.

T = TypeVar("T", Job, Task, Process, Exit)

_NESTED: Mapping[str, Any] = {
    "state": JobState,
    "status": TaskStatus,
    "kind": ExitKind,
}

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "str": str,
    "str | None": (str, type(None)),
    "int": int,
    "int | None": (int, type(None)),
    "bool": bool,
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "list[str]": list,
    "dict[str, str]": dict,
    "dict[str, Any] | None": (dict, type(None)),
}


_PLAIN = frozenset({str, int, float, bool, type(None), list, dict})


def to_dict(value: Job | Task | Process | Exit) -> dict[str, Any]:
    """What is written to a file."""
    plain: dict[str, Any] = {name: getattr(value, name) for name in _declared(type(value).__name__)}
    for name, content in plain.items():
        if type(content) in _PLAIN:
            continue
        if isinstance(content, (Process, Exit)):
            plain[name] = to_dict(content)
        elif isinstance(content, enum.Enum):
            plain[name] = content.value
    return plain | value.extra if value.extra else plain


@functools.cache
def _declared(kind: str) -> Mapping[str, str]:
    """The fields of a class that are keys of their own, and their types as they are written above."""
    return {item.name: str(item.type) for item in fields(globals()[kind]) if item.name != "extra"}


@functools.cache
def _plain_types(kind: str) -> Mapping[str, frozenset[type]]:
    """The types of each field whose values are right as they are: most are, and asking more takes its time."""
    scalars = {"str": str, "int": int, "bool": bool, "float": float, "None": type(None)}
    found = {}
    for name, declared in _declared(kind).items():
        parts = [] if name in _NESTED else declared.split(" | ")
        found[name] = frozenset(scalars[part] for part in parts if part in scalars)
    return found


def from_dict(kind: type[T], data: Mapping[str, Any]) -> T:
    """Read what `to_dict` wrote, in this or another version.

    Raises:
        ValueError: a value has the wrong type, or a key without a default is missing. The message names the key.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"should be an object, is {type(data).__name__}")
    known, plain = _declared(kind.__name__), _plain_types(kind.__name__)
    values = {
        name: value if type(value := data[name]) in plain[name] else check_value(name, known[name], value)
        for name in known
        if name in data
    }
    extra = {key: value for key, value in data.items() if key not in known and key != "schema"}
    try:
        return kind(**values, extra=extra)
    except TypeError as error:
        raise ValueError(str(error).split(") ")[-1].split("__init__() ")[-1]) from None


def check_value(name: str, declared: str, value: Any) -> Any:
    """A field's value as it was declared.

    Raises:
        ValueError: it has the wrong type.
    """
    if name in _NESTED:
        try:
            return _NESTED[name](value)
        except ValueError:
            shown = value[:60] if isinstance(value, str) else type(value).__name__
            raise ValueError(f"{name!r} has the unknown value {shown!r}") from None
    if declared in ("Process | None", "Exit | None"):
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ValueError(f"{name!r} should be an object")
        return from_dict(Process, value) if declared.startswith("Process") else from_dict(Exit, value)
    expected = _TYPES[declared]
    if not isinstance(value, expected) or (isinstance(value, bool) and declared != "bool"):
        raise ValueError(f"{name!r} should be {declared.replace(' | None', '')}, is {type(value).__name__}")
    _check_items(name, declared, value)
    return value


def _check_items(name: str, declared: str, value: Any) -> None:
    if declared == "list[str]":
        items = value
    elif declared == "dict[str, str]":
        items = [*value.keys(), *value.values()]
    else:
        return
    if not all(isinstance(item, str) for item in items):
        raise ValueError(f"{name!r} should hold text only")
