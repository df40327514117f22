"""What is known of pilots: `slurm/pilots/<name>.json`. A pilot is a job of Slurm that hosts a whole runner for a queue.

Written durably before `sbatch` is called, by the runner that wants the pilot; what Slurm says of it later, by each
runner that asks Slurm, as all of them hear the same. So whoever serves the queue knows all pilots of the home, and
whoever takes over the jobs of one that died can say why it did.

::

    about to submit ── sbatch or squeue ──> and its id ── squeue ──> state, node ──> over: ended_at, why ──> removed
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from air_executor import _files, model, validation
from air_executor.errors import CorruptFileError
from air_executor.paths import Home

SUFFIX = ".json"
WORD_WAIT = 15.0
"""Seconds that the jobs of a pilot which looks dead wait until Slurm says how it ended."""
_QUEUE_LENGTH = 40
_PREFIX = "pilot-"
_KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "str | None": (str, type(None))}
_SUBMISSION = re.compile(r"(?P<pilot>.+)\.(?P<home>[0-9a-f]{8})\.pilot\Z")


@dataclass(frozen=True)
class Record:
    """A pilot, and what is known of it."""

    name: str
    """Of its runner, too."""
    queue: str
    slots: int
    submitted_at: str = ""
    id: str | None = None
    """Slurm's number; None until it is known that Slurm has it."""
    state: str | None = None
    reason: str | None = None
    """Why it waits in Slurm."""
    node: str | None = None
    came_up: bool = False
    """Whether its runner was there."""
    has_run: bool = False
    """Whether it was seen to have a job."""
    unwanted: bool = False
    """It was cancelled before it began, because nothing waited any more."""
    ended_at: str | None = None
    why: str | None = None
    """How it ended."""

    @property
    def over(self) -> bool:
        """Whether Slurm is done with it."""
        return self.ended_at is not None

    @property
    def where(self) -> str:
        """For messages: `the Slurm job 123 on n1`."""
        number = f"the Slurm job {self.id}" if self.id else "which Slurm may not have"
        return f"{number} on {self.node}" if self.node else number


def is_name(runner_id: str) -> bool:
    """Whether a runner is called as pilots are."""
    return runner_id.startswith(_PREFIX)


def new_name(queue: str) -> str:
    """A name for a pilot of a queue, which no other has."""
    return f"{_PREFIX}{queue[:_QUEUE_LENGTH]}-{os.urandom(4).hex()}"


def name_submission(name: str, home: str) -> str:
    """What a pilot is called in Slurm; no job of ours is called so.

    Args:
        home: the home's id.
    """
    return f"{name}.{home}.pilot"


def parse_submission(text: str, home: str) -> str | None:
    """The pilot of a submission of this home; None if it is none. Pure."""
    match = _SUBMISSION.match(text)
    return match["pilot"] if match is not None and match["home"] == home else None


def read(home: Home, name: str) -> Record | None:
    """One pilot; None if there is no such, or its file is damaged.

    Raises:
        OSError: the system refuses at this moment.
    """
    if not validation.is_name(name):
        return None
    try:
        content = _files.read_object(home.slurm_pilot(name))
        found = Record(**{item.name: content[item.name] for item in fields(Record) if item.name in content})
        _check(found)
    except (FileNotFoundError, NotADirectoryError, CorruptFileError, TypeError, ValueError):
        return None
    return found if found.name == name else None


def _check(found: Record) -> None:
    """Raise `ValueError` unless a program can work with it."""
    for item in fields(Record):
        value = getattr(found, item.name)
        if type(value) not in _KINDS[str(item.type)]:
            raise ValueError(f"{item.name!r} should be {item.type}, is {type(value).__name__}")


def read_all(home: Home) -> Iterator[Record]:
    """All that there are, those that have ended a while ago with them."""
    try:
        names = sorted(path.name.removesuffix(SUFFIX) for path in home.slurm_pilots.glob(f"*{SUFFIX}"))
    except OSError:
        return
    for name in names:
        if (found := read(home, name)) is not None:
            yield found


def write(home: Home, record: Record, *, durable: bool) -> None:
    """Write it whole.

    Args:
        durable: also after a power cut; needed before the submission.

    Raises:
        OSError: the home refused.
    """
    _files.make_directory(home.slurm_pilots)
    content: dict[str, Any] = {"schema": model.SCHEMA, **asdict(record)}
    _files.replace_object(home.slurm_pilot(record.name), content, durable=durable)


def announce(home: Home, name: str) -> None:
    """The runner of a pilot is there. For those who look too seldom to see it alive.

    Raises:
        OSError: the home refused.
    """
    _files.make_directory(home.slurm_pilots)
    _files.create_marker(home.slurm_pilot_up(name))


def came_up(home: Home, name: str) -> bool:
    """Whether it was there."""
    return home.slurm_pilot_up(name).exists()


def remove(home: Home, name: str) -> None:
    """Forget one, with what its node wrote."""
    _files.discard(home.slurm_pilot(name))
    _files.discard(home.slurm_pilot_log(name))
    _files.discard(home.slurm_pilot_up(name))


def awaits_word(home: Home, holder: str, dead_for: float) -> bool:
    """Whether the jobs of a dead runner have to wait a moment, because Slurm may say why its pilot ended.

    Args:
        dead_for: seconds that it has been known to be dead.
    """
    record = read(home, holder)
    return record is not None and not record.over and dead_for < WORD_WAIT


def describe_end(home: Home, runner_id: str) -> str | None:
    """How the pilot of that name ended, for people; None if there is none, or nobody knows."""
    record = read(home, runner_id)
    if record is None or not record.over:
        return None
    return f"its pilot {record.name} ({record.where}): {record.why or 'it is over'}"
