"""What was submitted to Slurm for a job: `jobs/<job>/slurm.json`.

Written durably before `sbatch` is called, by the holder of the claim and by nobody else. So whoever has the claim after
a crash finds the submission by its name; and an agent on a node whose submission is not named here, because another one
took its place, does nothing. The file goes with each return of the job to its queue.

::

    no file ── about to submit ──> submission ── sbatch or squeue ──> and its id ── squeue ──> and state, reason, node
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from air_executor import _files, model
from air_executor.errors import CorruptFileError
from air_executor.paths import Home, JobPaths

HOME_ID_LENGTH = 8
_SUBMISSION = re.compile(rf"(?P<job>.+)\.(?P<home>[0-9a-f]{{{HOME_ID_LENGTH}}})[0-9a-f]{{8}}\Z")


@dataclass(frozen=True)
class Record:
    """A submission and what Slurm last said of it."""

    attempt: int
    """Of the job."""
    submission: str
    """The name that it has in Slurm: unique, while numbers are used again when a controller has lost its state."""
    submitted_at: str = ""
    element: int | None = None
    """Its place in a job array."""
    id: str | None = None
    """Slurm's number, `123` or `123_4`; None until it is known that Slurm has it."""
    state: str | None = None
    reason: str | None = None
    """Why it waits in Slurm."""
    partition: str | None = None
    node: str | None = None
    seen_at: str | None = None
    """When Slurm said this."""

    @property
    def where(self) -> str:
        """For messages: `the Slurm job 123`."""
        return f"the Slurm job {self.id}" if self.id else f"the Slurm job named {self.submission}"


def exists(paths: JobPaths) -> bool:
    """Whether something was submitted, be it readable or not."""
    return os.path.lexists(paths.slurm)


def read(paths: JobPaths, attempt: int) -> Record | None:
    """The submission of an attempt; None if there is none, or none that can be read.

    Raises:
        OSError: the system refuses at this moment.
    """
    try:
        content = _files.read_object(paths.slurm)
        found = Record(**{item.name: content[item.name] for item in fields(Record) if item.name in content})
        _check(found)
    except (FileNotFoundError, NotADirectoryError, CorruptFileError, TypeError, ValueError):
        return None
    return found if found.attempt == attempt else None


def _check(found: Record) -> None:
    """Raise `ValueError` unless a program can work with it."""
    texts = (found.id, found.state, found.reason, found.partition, found.node, found.seen_at)
    sound = isinstance(found.submission, str) and isinstance(found.attempt, int)
    if not sound or not all(isinstance(text, (str, type(None))) for text in texts):
        raise ValueError("not a submission")
    if found.element is not None and not isinstance(found.element, int):
        raise ValueError("not a place in a job array")


def write(paths: JobPaths, record: Record, *, durable: bool) -> None:
    """Write it whole.

    Args:
        durable: also after a power cut; needed before the submission, and no more for what Slurm says.

    Raises:
        OSError: the home refused.
    """
    content: dict[str, Any] = {"schema": model.SCHEMA, **asdict(record)}
    _files.replace_object(paths.slurm, content, durable=durable)


def logs(home: Home, job: model.Job) -> list[Path]:
    """Where may stand what Slurm and the batch script said on the node.

    Raises:
        OSError: the system refuses at this moment.
    """
    paths = home.job(job.name)
    submitted = read(paths, job.attempt)
    found = [paths.slurm_log]
    if submitted is not None and submitted.element is not None:
        found.append(home.slurm_array(submitted.submission) / f"{submitted.element}.log")
    return found


def home_id(home: Home) -> str:
    """What tells this home's submissions from those of others, whatever path it is seen under; made by who asks first.

    Raises:
        OSError: the home refused.
    """
    _files.make_directory(home.slurm)
    try:
        return _read_id(home)
    except (FileNotFoundError, ValueError):
        pass
    made = os.urandom(HOME_ID_LENGTH // 2).hex()
    temporary = home.slurm / f".id.{made}"
    _files.write_new(temporary, made.encode(), durable=True)
    try:
        os.link(temporary, home.slurm_id)  # of two who make one, the first decides
    except OSError:  # somebody was first, or what he left is damaged, or this filesystem has no such links
        if not _is_sound(home):
            temporary.replace(home.slurm_id)
    finally:
        _files.discard(temporary)
    return _read_id(home)


def _is_sound(home: Home) -> bool:
    try:
        return bool(_read_id(home))
    except (FileNotFoundError, ValueError):
        return False


def _read_id(home: Home) -> str:
    text = home.slurm_id.read_text("ascii").strip()
    if not re.fullmatch(rf"[0-9a-f]{{{HOME_ID_LENGTH}}}", text):
        raise ValueError(f"{home.slurm_id} is damaged")
    return text


def name_submission(job_name: str, home: str) -> str:
    """A name that no other submission has."""
    return f"{job_name}.{home}{os.urandom(4).hex()}"


def parse_submission(name: str, home: str) -> str | None:
    """The job of a submission of this home; None if it is none. Pure.

    Args:
        home: the home's id.
    """
    match = _SUBMISSION.match(name)
    return match["job"] if match is not None and match["home"] == home else None
