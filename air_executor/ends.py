"""How the end of a job becomes known to those who wait: files in `spool/awaited` and `spool/listeners`.

An index, as all of the spool: the truth is in state.json. `HeldJob.settle` announces an end once that is durable.

- Whoever waits for a job that he knows creates `spool/awaited/<job>`; the end of the job removes it. All waiters of a
  job share that file and see it go.
- Whoever wants to hear of jobs that he does not know yet makes a directory, `spool/listeners/<kind>=<name>,<id>`; the
  end of a job of that name, or of that pipeline, leaves a marker there, until the listener has dealt with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from air_executor import _files, model, validation
from air_executor.errors import InvalidInputError
from air_executor.paths import Home

log = logging.getLogger(__name__)

PIPELINE_LABEL = "pipeline"
"""The label that says of which pipeline a job is."""
KINDS = ("job", "pipeline")
"""What a listener may listen to: jobs of a name, which end once for each attempt, or all jobs of a pipeline."""
_PREFIXES = tuple(f"{kind}=" for kind in KINDS)
MAX_ID_BYTES = 40
KEPT = 7 * 86_400.0
"""Seconds after which what no listener has dealt with is dropped, and a listener that has not shown itself, too."""


def announce(home: Home, job: model.Job) -> None:
    """Tell all who wait for the end of a job that is over; safe to repeat.

    Raises:
        OSError: the home refused; not all were told.
    """
    stop_awaiting(home, job.name)  # first: this needs no room on a full disk
    _tell_listeners(home, job)


# --- Awaited jobs ---


def begin_to_await(home: Home, job_name: str) -> bool:
    """Ask to be told of a job's end; whether nobody had asked before.

    Raises:
        FileNotFoundError: the directory is gone.
        OSError: the home refused.
    """
    return _files.create_quietly(home.awaited / job_name)  # no runner is concerned, so none is woken


def stop_awaiting(home: Home, job_name: str) -> None:
    """Wake all who wait for a job: it is over, or gone."""
    with contextlib.suppress(NotADirectoryError):  # somebody's damage; repair and waiters see to it
        _files.discard(home.awaited / job_name)


def awaited(home: Home) -> set[str]:
    """The jobs for whose end somebody waits."""
    try:
        return {name for name in os.listdir(home.awaited) if validation.is_name(name)}  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return set()


# --- Listeners ---


class End(NamedTuple):
    """The end of one attempt of a job."""

    job: str
    attempt: int

    @property
    def file_name(self) -> str:
        return f"{self.job},{self.attempt}"


def listener_directory(home: Home, kind: str, name: str, listener_id: str) -> Path:
    """Where the ends are that a listener hears of.

    Raises:
        InvalidNameError, InvalidInputError: that cannot be listened to.
    """
    if kind not in KINDS:
        raise InvalidInputError(f"a listener listens to one of {', '.join(KINDS)}, not to {kind!r:.60}")
    validation.check_name(f"the {kind} to listen to", name)
    validation.check_name("the id of a listener", listener_id, MAX_ID_BYTES)
    return home.listeners / f"{kind}={name},{listener_id}"


def _tell_listeners(home: Home, job: model.Job) -> None:
    listened = [f"job={job.name},"]  # neither `=` nor `,` is in what may be listened to
    if pipeline := job.labels.get(PIPELINE_LABEL):
        listened.append(f"pipeline={pipeline},")
    for file_name in _listeners(home):
        if file_name.startswith(tuple(listened)):
            _tell_listener(home.listeners / file_name, End(job.name, job.attempt))


def _tell_listener(directory: Path, end: End) -> None:
    """One that refuses must not keep jobs from being settled."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # it listens no more
        try:
            _files.create_marker(directory / end.file_name)
        except PermissionError:
            if not os.access(directory, os.W_OK | os.X_OK):
                log.warning("the end of %s cannot be told to a listener: %s is not to be written", end.job, directory)
                return
            _files.create_marker(directory / end.file_name)


def _listeners(home: Home) -> list[str]:
    """The names of the directories of all listeners."""
    try:
        return [name for name in os.listdir(home.listeners) if name.startswith(_PREFIXES)]  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):  # mostly there is none
        return []


def pending(directory: Path) -> list[End]:
    """The ends in a listener's directory, the first first."""
    found: list[tuple[int, End]] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        for entry in entries:
            job, _, attempt = entry.name.rpartition(",")
            if validation.is_name(job) and attempt.isdecimal():
                with contextlib.suppress(FileNotFoundError):
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, End(job, int(attempt))))
    return [end for _, end in sorted(found)]


def drop_old(home: Home, now: float) -> Iterator[str]:
    """Remove what no listener has dealt with for long, and listeners that are gone; yields what that was.

    Args:
        now: by the clock of the home, seconds since the epoch.

    Raises:
        OSError: the home refused.
    """
    for file_name in _listeners(home):
        directory = home.listeners / file_name
        who = file_name.rpartition(",")[0].replace("=", " ", 1)
        shown = _modified(directory)  # before something is removed from it, which shows nothing of its listener
        if dropped := sum(_drop_if_old(directory / end.file_name, now) for end in pending(directory)):
            yield f"{dropped} ends that a listener to the {who} never looked at, removed"
        if now - shown > KEPT:
            with contextlib.suppress(OSError):  # somebody has just told it something
                directory.rmdir()
                yield f"a listener to the {who} that is gone, removed"


def _drop_if_old(marker: Path, now: float) -> bool:
    if now - _modified(marker, now) <= KEPT:
        return False
    _files.discard(marker)
    return True


def _modified(path: Path, missing: float = 0.0) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return missing
