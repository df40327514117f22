"""Jobs on disk: how they are created, read and listed. Changing a job is the business of `held`.

A submission is complete or absent: directories are written under temporary names, made durable once for the whole
batch, renamed into place, and only then put in their queues.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from air_executor import _files, _json, journal, model, spool, temporaries, validation
from air_executor.errors import (
    AirExecutorError,
    CorruptFileError,
    HomeError,
    JobExistsError,
    NotFoundError,
)
from air_executor.paths import EVENTS, LOGS, STATE, TASKS, WORKLOAD, Home, JobPaths

SYNC_EACH = 3
"""Up to so many jobs, syncing each file is quicker than syncing the whole filesystem."""


@dataclass
class Submission:
    """What becomes a job directory."""

    job: model.Job
    tasks: list[model.Task]
    workload: bytes | None = None
    """Kept in a file of its own, readable by the owner alone, removed when the job is over."""
    by: str | None = None
    """Who submits it, for the journal; None: that is said by the job's trigger."""


def ensure_home(home: Home) -> None:
    """Create what is missing of a home and check the rest.

    Raises:
        HomeError: it is not a directory, or cannot be written to.
    """
    for directory in home.directories:
        if os.path.isdir(directory):  # noqa: PTH112  # a submission comes here, and mostly all are there
            continue
        lasting = directory in (home.root, home.jobs)  # the others are made again
        make = _files.make_lasting_directory if lasting else _files.make_directory
        try:
            make(directory)
        except (FileExistsError, NotADirectoryError):
            raise _no_directory(directory) from None
        except OSError as error:
            raise HomeError(f"{directory} cannot be created: {error.strerror}; choose another home") from None
    if not os.access(home.root, os.W_OK | os.X_OK):
        raise HomeError(f"{home.root} cannot be written to; change its permissions or choose another home")


def check_directory(home: Home) -> None:
    """Raise `HomeError` if something else than a directory is where the home should be."""
    if home.root.exists() and not home.root.is_dir():
        raise _no_directory(home.root)


def _no_directory(path: Path) -> HomeError:
    return HomeError(f"{path} is not a directory; choose another home or move it away")


def check_home(home: Home) -> None:
    """Raise `HomeError` unless the home is there; for those who only read."""
    check_directory(home)
    if not home.root.exists():
        raise HomeError(f"{home.root} does not exist; submit a job or start a runner to create it, or give --home")
    if not home.jobs.is_dir():
        raise HomeError(f"{home.root} is not the home of an Air-Executor installation (it has no directory jobs)")


def submit(home: Home, submission: Submission) -> model.Job:
    """Create one job; after this returns, it survives a power cut.

    Raises:
        InvalidNameError, InvalidJobError: the job is not in order; nothing was written.
        JobExistsError: the name is taken.
        HomeError: the home refused; nothing is left of the job.
    """
    refused = submit_batch(home, [submission])
    for error in refused.values():
        raise error
    return submission.job


def submit_batch(home: Home, submissions: Sequence[Submission]) -> dict[str, AirExecutorError]:
    """Create jobs, paying for durability once.

    Returns:
        The jobs that were refused, by name; the others are in their queues.

    Raises:
        HomeError: the home refused; none of the jobs was created.
    """
    refused: dict[str, AirExecutorError] = {}
    accepted: list[Submission] = []
    for submission in submissions:
        try:
            _prepare(submission)
            accepted.append(submission)
        except AirExecutorError as error:
            refused[str(submission.job.name)] = error
    accepted = _refuse_doubles(accepted, refused)
    created, failure = _create(home, accepted, refused)
    if failure is not None:
        why = f"{failure.filename or home.root}: cannot write the job: {failure.strerror}"
        if not created:
            raise HomeError(f"{why}; nothing was submitted") from failure
        for name in {each.job.name for each in accepted} - {each.job.name for each in created}:
            refused.setdefault(name, HomeError(why))
    return refused


def _refuse_doubles(submissions: list[Submission], refused: dict[str, AirExecutorError]) -> list[Submission]:
    """The answer is by name, and could not say which of two was taken."""
    counts = Counter(submission.job.name for submission in submissions)
    for name in (name for name, count in counts.items() if count > 1):
        refused[name] = JobExistsError(f"the batch has {counts[name]} jobs named {name}; none of them was submitted")
    return [submission for submission in submissions if counts[submission.job.name] == 1]


def _prepare(submission: Submission) -> None:
    job = submission.job
    validation.number_tasks(submission.tasks)
    validation.check_job(job)
    validation.check_tasks(submission.tasks)
    job.created_at = job.updated_at = job.queued_at = model.now()
    for task in submission.tasks:
        task.job_name, task.created_at = job.name, job.created_at


def _create(
    home: Home, submissions: Sequence[Submission], refused: dict[str, AirExecutorError]
) -> tuple[list[Submission], OSError | None]:
    """Those that are submitted now, and why the others are not, should the home have refused some."""
    placed: list[Submission] = []
    try:
        _place_all(home, submissions, placed, refused)
    except OSError as error:
        return [each for each in placed if not _withdraw(home, each.job)], error
    except BaseException:
        for each in placed:
            _withdraw(home, each.job)
        raise
    return _publish(home, placed)


def _place_all(
    home: Home, submissions: Sequence[Submission], placed: list[Submission], refused: dict[str, AirExecutorError]
) -> None:
    """Give the jobs their names, complete and durable; nobody starts one before it has a marker."""
    written = [(submission, temporaries.submission(home.jobs)) for submission in submissions]
    try:
        each = len(submissions) <= SYNC_EACH or not _files.SYNCS_FILESYSTEMS
        for submission, temporary in written:
            _write_directory(temporary, submission, durable=each)
        if not each:
            _files.sync_filesystem(home.jobs)
        for submission, temporary in written:
            if _place(home, temporary, submission.job, refused):
                placed.append(submission)
        if placed:
            _files.sync_directory(home.jobs)
    finally:
        gone = {submission.job.name for submission in placed}
        for submission, temporary in written:
            if submission.job.name not in gone:
                temporaries.remove(temporary)


def _write_directory(directory: Path, submission: Submission, *, durable: bool) -> None:
    job = submission.job
    os.mkdir(directory, _files.PRIVATE_DIRECTORY)  # noqa: PTH102
    os.mkdir(f"{directory}/{LOGS}", _files.PRIVATE_DIRECTORY)  # noqa: PTH102
    event = journal.job_event(job, None, by=submission.by or job.trigger, why="submitted")
    files = {
        STATE: _json.pretty(state_content(job)),
        TASKS: _json.pretty(tasks_content(job, submission.tasks)),
    }
    if submission.workload is not None:
        files[WORKLOAD] = submission.workload
    _files.fill_directory(directory, {EVENTS: _json.line(event)}, durable=False)
    _files.fill_directory(directory, files, durable=durable)


def _place(home: Home, temporary: Path, job: model.Job, refused: dict[str, AirExecutorError]) -> bool:
    """Rename into place; a directory is never renamed over another that holds something."""
    try:
        os.rename(temporary, home.job(job.name).root)  # noqa: PTH104
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        refused[job.name] = JobExistsError(f"there is a job named {job.name} already; choose another name")
        return False
    return True


def _publish(home: Home, submissions: Sequence[Submission]) -> tuple[list[Submission], OSError | None]:
    """Let the runners see jobs that are durable; those that can be shown to none are withdrawn."""
    created, failure = [], None
    for submission in submissions:
        try:
            spool.enqueue(home, submission.job, durable=False)
        except OSError as error:
            failure = error
            if _withdraw(home, submission.job):
                continue
        created.append(submission)
    return created, failure  # a power cut may take the markers; the jobs are durable, and a runner makes them again


def _withdraw(home: Home, job: model.Job) -> bool:
    """Undo a placed job; False if it stays, because somebody has found it, or because the home refuses that, too.

    One that stays is submitted: it waits, and a repair gives it a marker if it has none.
    """
    lock = _files.Lock(home.job(job.name).lock)  # under the lock no repair can give it a marker
    removed = temporaries.removal(home.jobs)
    try:
        if not lock.acquire() or _is_found(home, job):
            return False
        home.job(job.name).root.rename(removed)
    except (OSError, AirExecutorError):
        return False
    finally:
        lock.release()
    temporaries.remove(removed)
    return True


def _is_found(home: Home, job: model.Job) -> bool:
    if spool.marker_of(job).path(home).exists():
        return True
    claimed = any((home.claims(holder) / job.name).exists() for holder in spool.holders(home))  # after the marker
    return claimed or read(home, job.name).state is not model.JobState.WAITING


# --- Reading ---


def state_content(job: model.Job) -> dict[str, Any]:
    """What state.json holds."""
    return {"schema": model.SCHEMA, **model.to_dict(job)}


def tasks_content(job: model.Job, tasks: Sequence[model.Task]) -> dict[str, Any]:
    """What tasks.json holds."""
    return {"schema": model.SCHEMA, "job_name": job.name, "tasks": [model.to_dict(task) for task in tasks]}


def read(home: Home, name: str) -> model.Job:
    """The job as state.json says.

    Raises:
        InvalidNameError: that is not a job name.
        NotFoundError: there is no such job.
        CorruptFileError: state.json is damaged.
    """
    validation.check_name("the job name", name)
    paths = home.job(name)
    content = _read_or_explain(paths, paths.state, name)
    try:
        job = model.from_dict(model.Job, content)
        if job.name != name:
            raise ValueError(f"is of the job {job.name[:80]!r}, not {name!r}")
        job.queued_at = job.queued_at or job.created_at
        validation.check_stored_job(job)
    except ValueError as error:
        raise CorruptFileError(paths.state, str(error)) from None
    return job


def name_of(home: Home, text: str) -> str:
    """The name of the job that is given by its name or its id, which is the name and a number.

    Raises:
        InvalidNameError: it can be neither.
        NotFoundError: it is the id of no job that is there.
    """
    name, _, number = text.rpartition(".") if isinstance(text, str) else ("", "", "")
    if not name or not validation.is_id_number(number):
        return validation.check_name("the job name", text)
    validation.check_name("the job name", name)
    if home.job(text).root.is_dir() or not home.job(name).root.is_dir():
        return text
    if read_or_damaged(home, name).id != text:
        raise NotFoundError(f"there is no job with the id {text} in {home.root}, but another one named {name}")
    return name


def check_exists(home: Home, name: str) -> None:
    """Raise `InvalidNameError` or `NotFoundError` unless there is a job directory of that name."""
    validation.check_name("the job name", name)
    if not home.job(name).root.is_dir():
        raise NotFoundError(f"there is no job named {name} in {home.root}")


def read_tasks(home: Home, name: str) -> list[model.Task]:
    """The tasks as tasks.json says; while the job runs it may lag behind the events by a second.

    Raises:
        NotFoundError, CorruptFileError: as `read`.
    """
    paths = home.job(name)
    content = _read_or_explain(paths, paths.tasks, name)
    entries = content.get("tasks")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CorruptFileError(paths.tasks, "'tasks' should be a list of objects")
    try:
        tasks = [model.from_dict(model.Task, entry) for entry in entries]
        for owner in (content.get("job_name", name), *(task.job_name or name for task in tasks)):
            if owner != name:  # its tasks would run in that job's name, and write into its logs
                raise ValueError(f"is of the job {owner!r:.80}, not {name!r}")
        validation.check_stored_tasks(tasks)
        return tasks
    except ValueError as error:
        raise CorruptFileError(paths.tasks, str(error)) from None


def read_or_damaged(home: Home, name: str) -> model.Job:
    """The job; one with damaged files appears as failed, with the reason, or as working while a process holds it.

    Raises:
        NotFoundError: there is no such job.
    """
    try:
        return read(home, name)
    except CorruptFileError as error:
        job = damaged_job(home, name, str(error))
        if _files.is_locked(home.job(name).lock):  # whoever runs it writes the file anew at its end
            job.state, job.finished_at, job.exit = model.JobState.WORKING, None, None
        return job


def damaged_job(home: Home, name: str, why: str) -> model.Job:
    """What stands for a job whose state.json cannot be read: the same each time it is looked at."""
    moment = model.from_timestamp(home.job(name).root.stat().st_mtime)
    job = model.Job(name=name, state=model.JobState.FAILED, created_at=moment, updated_at=moment, queued_at=moment)
    import hashlib

    job.id = f"{name}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    job.finished_at = moment
    job.exit = model.Exit(model.ExitKind.DAMAGED, f"damaged: {why}")
    return job


def names(home: Home) -> Iterator[str]:
    """The names of all jobs, in no order. What else somebody put there is passed over."""
    try:
        entries = os.scandir(home.jobs)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if validation.is_name(entry.name):
                yield entry.name


def newest_names(home: Home, *, changed_since: float = 0.0) -> list[str]:
    """The names of all jobs, the most recently changed first.

    The time is that of the directory, which changes whenever state.json or tasks.json is replaced: the order costs one
    look at each directory and opens no file.

    Args:
        changed_since: leave out those that were last changed before this (seconds since the epoch).
    """
    return [name for changed, name in sorted(changes(home), reverse=True) if changed >= changed_since]


def changes(home: Home) -> Iterator[tuple[float, str]]:
    """When each job's directory last changed, seconds since the epoch, and the job's name; in no order."""
    try:
        entries = os.scandir(home.jobs)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if validation.is_name(entry.name):
                with contextlib.suppress(FileNotFoundError):
                    yield entry.stat(follow_symlinks=False).st_mtime, entry.name


def _read_or_explain(paths: JobPaths, path: Path, name: str) -> dict[str, Any]:
    for _ in range(2):  # a job that was made after the first look is no damaged one
        try:
            return _files.read_object(path)
        except (FileNotFoundError, NotADirectoryError):
            damage = CorruptFileError(path, "is missing")
        except CorruptFileError as error:
            damage = error
        if not paths.root.is_dir():
            raise NotFoundError(f"there is no job named {name} in {paths.root.parent.parent}")
    raise damage from None
