"""Markers: tiny files that stand for jobs in queues. The spool is an index; the truth is in the job directories.

Moving a marker by rename is the claim: of any number of runners on any number of hosts exactly one gets it. New markers
are created, never renamed into place, so that a watcher needs only "a file was written".
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from air_executor import _files, model, validation
from air_executor.paths import Home

_MAX_PRIORITY = 2**31 - 1
_PRIORITY_DIGITS = 8
_TIME_DIGITS = 14
_MAX_TIME = 16**_TIME_DIGITS - 1
"""Microseconds since the epoch: the year 4253. A time beyond, of a clock gone wrong, still gives a place."""
_ORDER = re.compile(rf"[0-9a-f]{{{_PRIORITY_DIGITS + _TIME_DIGITS}}}\Z")


class Marker(NamedTuple):
    """A waiting job's place in its queue; sorts as the jobs should start. A tuple: a look makes 100,000 of them."""

    order: str
    job: str
    queue: str

    @property
    def file_name(self) -> str:
        return f"{self.order}-{self.job}"

    def path(self, home: Home) -> Path:
        return home.queue(self.queue) / self.file_name

    @property
    def queued_at(self) -> float:
        """Since when the job waits, in seconds since the epoch."""
        return int(self.order[_PRIORITY_DIGITS:], 16) / 1_000_000


def marker_of(job: model.Job) -> Marker:
    """The marker that a waiting job has; it follows from the job alone, so that it can be rebuilt."""
    priority = max(-_MAX_PRIORITY, min(_MAX_PRIORITY, job.priority))
    moment = max(0, min(_MAX_TIME, int(model.parse_time(job.queued_at).timestamp() * 1_000_000)))
    order = f"{_MAX_PRIORITY - priority:0{_PRIORITY_DIGITS}x}{moment:0{_TIME_DIGITS}x}"
    return Marker(order, job.name, job.queue)


def parse_marker(queue: str, file_name: str) -> Marker | None:
    """The marker with that file name; None if it is none of ours."""
    order, separator, job = file_name.partition("-")
    if not _ORDER.match(order) or not separator or not validation.is_name(job):
        return None
    return Marker(order, job, queue)


def enqueue(home: Home, job: model.Job, *, durable: bool = True) -> Marker:
    """Put a waiting job in its queue; nothing happens if it is there already."""
    marker = marker_of(job)
    path = marker.path(home)
    if not _create(path) and path.is_dir():  # nobody would take that for a marker, and the job would wait for ever
        path.rename(path.with_name(f".{path.name}.{os.urandom(4).hex()}"))
        _files.create_marker(path)
    if durable:
        with contextlib.suppress(OSError):  # the job itself is durable, and the marker can be made again from it
            _files.sync_directory(home.queue(job.queue))
    return marker


def _create(path: Path) -> bool:
    """Create a file, and its directory if somebody deleted the spool; False if it is there already."""
    try:
        return _files.create_marker(path)
    except FileNotFoundError:
        _files.make_directory(path.parent)
        return _files.create_marker(path)


def claim(home: Home, marker: Marker, holder: str) -> bool:
    """Take a waiting job; False if somebody else was quicker."""
    return _move_claim(marker.path(home), home.claims(holder) / marker.job)


def _move_claim(source: Path, target: Path) -> bool:
    try:
        return _files.move(source, target)
    except FileNotFoundError:  # somebody deleted the holder's directory
        _files.make_directory(target.parent)
        return _files.move(source, target)


def claim_again(home: Home, holder: str, job_name: str) -> None:
    """Make the claim of a job that the holder has, and of which somebody deleted the file."""
    _files.make_directory(home.claims(holder))
    _files.create_marker(home.claims(holder) / job_name)


def requeue(home: Home, job: model.Job, holder: str) -> Marker:
    """Put a claimed job back in its queue."""
    marker = marker_of(job)
    if not _move_claim(home.claims(holder) / job.name, marker.path(home)):
        _create(marker.path(home))  # somebody deleted the claim
    return marker


def give_back(home: Home, job: model.Job, holder: str) -> bool:
    """Put a claimed job back in its queue, unless somebody has taken the claim over meanwhile."""
    return _move_claim(home.claims(holder) / job.name, marker_of(job).path(home))


def drop_claim(home: Home, holder: str, job_name: str) -> None:
    """Forget a claimed job: it is over."""
    _files.discard(home.claims(holder) / job_name)


def take_over(home: Home, job_name: str, old_holder: str, new_holder: str) -> bool:
    """Move a claim from a holder that is gone; False if somebody else was quicker."""
    return _move_claim(home.claims(old_holder) / job_name, home.claims(new_holder) / job_name)


def announce_finished(home: Home, job_name: str) -> None:
    """Tell those who wait for an answer."""
    _create(home.finished / job_name)


def collect_finished(home: Home, job_name: str) -> bool:
    """Take the answer; False if somebody else has it."""
    try:
        (home.finished / job_name).unlink()
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True


def announce_success(home: Home, job_name: str) -> None:
    """Tell an executor that is waiting that a task has succeeded, although its job is not over yet.

    Once as Airflow is told, and once when Airflow has noted it.

    Only who is listening at this moment hears it, and nothing stays.

    Raises:
        InvalidNameError: that is not a job name.
        OSError: nobody was told.
    """
    validation.check_name("the job", job_name)
    path = home.told / job_name
    try:
        _files.create_marker(path)
    finally:
        _files.discard(path)


def drop_successes(home: Home) -> None:
    """Remove what those left behind who were killed while they announced one."""
    for name in _names(home.told):
        _files.discard(home.told / name)


def request_cancel(home: Home, job_name: str) -> None:
    """Wake the runner that has the job, so that it looks at the job's cancel file."""
    _create(home.cancel_requests / job_name)


def waiting(home: Home, queue: str) -> Iterator[Marker]:
    """The markers of a queue, in no order."""
    for name in _names(home.queue(queue)):
        if marker := parse_marker(queue, name):
            yield marker


def queues(home: Home) -> list[str]:
    """The queues that ever had a job."""
    return sorted(_names(home.waiting, directories=True))


def holders(home: Home) -> list[str]:
    """Those who have claims, or had."""
    return sorted(_names(home.claimed, directories=True))


def claimed(home: Home, holder: str) -> list[str]:
    """The jobs that a holder has claimed."""
    return sorted(name for name in _names(home.claims(holder)) if validation.is_name(name))


def finished(home: Home) -> list[str]:
    """The jobs whose end was announced and not collected."""
    return [name for name in _names(home.finished) if validation.is_name(name)]


def cancel_requests(home: Home) -> list[str]:
    """The jobs for which a runner should look at the cancel file."""
    return [name for name in _names(home.cancel_requests) if validation.is_name(name)]


def remove_holder(home: Home, holder: str) -> bool:
    """Remove a holder's directory if it is empty; whether it is gone."""
    with contextlib.suppress(OSError):
        home.claims(holder).rmdir()
    return not home.claims(holder).exists()


def _names(directory: Path, *, directories: bool = False) -> Iterator[str]:
    """What is in a directory of the spool. A directory is no marker, and a file no queue."""
    try:
        entries = os.scandir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if not entry.name.startswith(".") and _is_directory(entry) is directories:
                yield entry.name


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
