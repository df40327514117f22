"""The face of Air-Executor for programs: submit jobs, look at them, wait for them, stop them."""

from __future__ import annotations

import getpass
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from air_executor import _files, held, model, pruning, repair, retention, spool, store, temporaries, validation
from air_executor.errors import (
    CorruptFileError,
    HomeError,
    InvalidJobError,
    JobBusyError,
    NotFoundError,
    WaitTimeoutError,
)
from air_executor.model import ExitKind, Job, JobState, Task
from air_executor.paths import Home, find_home

_TASK_KEYS = frozenset({"id", "command", "args", "dependencies", "env", "cwd", "timeout", "memory_mb", "output_mb"})
_RELEASE_TIME = 2.0
"""Seconds to wait for the lock of a job that is over: its ephemeral runner is about to exit, on a busy host slowly."""
_POLL_FIRST, _POLL_LAST = 0.01, 0.5
"""Seconds between looks at a job that somebody waits for: quick at first, then growing."""


class AirExecutorClient:
    """Work with the jobs of one home.

    Args:
        home: the directory; found as `paths.find_home` says if it is None.
    """

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self.home = Home(find_home(home))

    def create_job(
        self,
        job_name: str | None = None,
        tasks: Sequence[Mapping[str, Any] | Task] = (),
        *,
        trigger: str = model.Trigger.API.value,
        **options: Any,
    ) -> str:
        """Submit a job; after this returns it survives a power cut.

        Args:
            job_name: unique in the home; made up if it is None.
            tasks: `Task` objects, or dictionaries with `command` and optionally `args`, `dependencies` (ids), `id`,
                `env`, `cwd`, `timeout` (seconds), `memory_mb`, `output_mb`.
            trigger: who submits.
            options: other fields of `Job`: queue, priority, labels, timeout, memory_mb, output_mb, nice,
                max_parallel ...

        Returns:
            The job's id.

        Raises:
            InvalidNameError, InvalidJobError: something given is wrong; nothing was written.
            JobExistsError: the name is taken.
            HomeError: the home refused; nothing was submitted.
        """
        try:
            job = Job(
                name=job_name if job_name is not None else f"job-{uuid.uuid4().hex[:12]}", trigger=trigger, **options
            )
        except TypeError as error:
            raise InvalidJobError(f"unknown option: {str(error).split('argument ')[-1]}") from None
        return self.submit(store.Submission(job, [to_task(task) for task in tasks])).id

    def submit(self, submission: store.Submission) -> Job:
        """Submit a job that is spelled out; raises as `create_job`."""
        store.ensure_home(self.home)
        return store.submit(self.home, submission)

    def get_job(self, name: str) -> Job:
        """The job; one whose files are damaged appears as failed.

        Raises:
            InvalidNameError, NotFoundError: there is no such job.
        """
        return store.read_or_damaged(self.home, name)

    def get_tasks(self, name: str) -> list[Task]:
        """The tasks of a job, up to date to the last event.

        Raises:
            NotFoundError: there is no such job.
            CorruptFileError: tasks.json is damaged.
        """
        from air_executor import journal

        job = store.read(self.home, name)
        tasks = store.read_tasks(self.home, name)
        if not job.state.terminal:
            journal.replay(tasks, journal.read(self.home.job(name).events), job.attempt)
        return tasks

    def list_jobs(
        self, *, state: JobState | None = None, queue: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Job]:
        """All jobs that match, newest first."""
        jobs = [job for name in store.names(self.home) if (job := self._read_listed(name))]
        wanted = (labels or {}).items()
        for job in sorted(jobs, key=lambda job: job.created_at, reverse=True):
            labelled = all(job.labels.get(key) == value for key, value in wanted)
            if labelled and state in (None, job.state) and queue in (None, job.queue):
                yield job

    def _read_listed(self, name: str) -> Job | None:
        try:
            return store.read_or_damaged(self.home, name)
        except (NotFoundError, ValueError):
            return None

    def wait(self, name: str, timeout: float | None = None) -> Job:
        """Wait until a job is over.

        Raises:
            WaitTimeoutError: it is not after `timeout` seconds; it goes on.
            NotFoundError: there is no such job.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _POLL_FIRST
        while not (job := self.get_job(name)).state.terminal:
            if deadline is not None and time.monotonic() >= deadline:
                waited = round(timeout or 0.0, 2)
                raise WaitTimeoutError(f"the job {name} is still {job.state} after {waited:g} s; it goes on")
            time.sleep(pause)
            pause = min(_POLL_LAST, pause * 1.3)
        return job

    def cancel(self, name: str, *, by: str | None = None, why: str = "") -> Job:
        """Ask for a job's cancellation. A waiting job is cancelled when this returns, a working one a moment later.

        Returns:
            The job as it is now.
        """
        by = by or _user()
        reason = f"cancelled by {by}" + (f": {why}" if why else "")
        return self.stop(name, by=by, outcome=model.Exit(ExitKind.CANCELLED, reason))

    def stop(self, name: str, *, by: str, outcome: model.Exit) -> Job:
        """Ask for a job's end with the outcome that it shall have; the first who asks is the one who counts."""
        job = self.get_job(name)
        if job.state.terminal:
            return job
        repair.note_stop(self.home, name, by=by, outcome=outcome)
        if job.state is JobState.WAITING:
            self._cancel_waiting(job, by)
        job = self.get_job(name)
        if not job.state.terminal:
            spool.request_cancel(self.home, name)
        return job

    def _cancel_waiting(self, job: Job, by: str) -> None:
        """Claim it as a runner would: whoever wins the rename decides, and only the holder of the claim writes.

        A job without a marker, whose submitter died or whose spool was deleted, gets one: else nobody could end it.
        """
        holder = f"client-{temporaries.writer()}"
        _files.make_directory(self.home.claims(holder))
        try:
            marker = spool.marker_of(job)
            found = spool.claim(self.home, marker, holder)
            if found or (repair.requeue_lost(self.home, job.name) and spool.claim(self.home, marker, holder)):
                repair.resolve(self.home, job.name, "cancelled", by=by, holder=holder)
        finally:
            spool.remove_holder(self.home, holder)

    def retry(self, name: str, *, by: str | None = None, why: str = "retried") -> Job:
        """Start a job that is over once more, as a new attempt.

        Raises:
            JobBusyError: it is not over.
            NotFoundError: there is no such job.
            CorruptFileError: its files are damaged.
        """
        return self.resubmit(name, None, by=by, why=why)

    def resubmit(
        self, name: str, submission: store.Submission | None, *, by: str | None = None, why: str = "submitted again"
    ) -> Job:
        """Start a job that is over once more with new tasks, keeping its directory and history; raises as `retry`."""
        if submission is not None:
            validation.number_tasks(submission.tasks)
            validation.check_job(submission.job)
            validation.check_tasks(submission.tasks)
        held.check_over(store.read(self.home, name))  # before the lock: a working job keeps it for long
        with held.HeldJob.acquire(self.home, name, wait=_RELEASE_TIME) as job:
            if submission is None and job.job.trigger == model.Trigger.EXECUTOR:
                raise JobBusyError(f"the job {name} belongs to Airflow; clear its task in Airflow to run it again")
            job.new_attempt(submission, by=by or _user(), why=why)
            current = job.job
        try:
            spool.enqueue(self.home, current)
        except OSError as error:
            where = f"{error.filename or self.home.spool}: {error.strerror}"
            raise HomeError(f"the job {name} waits, and cannot be put in its queue until a repair: {where}") from error
        return current

    def logs(self, name: str, task_id: str | None = None) -> str:
        """What a task wrote, or all tasks of a job one after the other. Bytes that are not UTF-8 are replaced.

        Raises:
            NotFoundError: there is no such job or task.
        """
        return "".join(path.read_text("utf-8", "replace") for path in self.log_paths(name, task_id))

    def log_paths(self, name: str, task_id: str | None = None) -> list[Path]:
        """The log files that are there, in the order of the tasks."""
        store.check_exists(self.home, name)
        paths = self.home.job(name)
        try:
            ids = [task.id for task in store.read_tasks(self.home, name)]
        except CorruptFileError:
            ids = sorted(path.stem for path in paths.logs.glob("*.log"))
        if task_id is not None and task_id not in ids:
            raise NotFoundError(f"the job {name} has no task {task_id!r}; it has {', '.join(ids[:10])}")
        wanted = ids if task_id is None else [task_id]
        return [path for task in wanted if (path := paths.log(task)).is_file()]

    def prune(
        self,
        *,
        older_than: float | None = None,
        failed_older_than: float | None = None,
        keep: int | None = None,
        max_bytes: int | None = None,
        dry_run: bool = False,
    ) -> list[str]:
        """Remove jobs that are over, never one that is not, nor one whose result somebody may still collect.

        Args:
            older_than: those that ended so many seconds ago.
            failed_older_than: the same for failed and cancelled ones; None: as `older_than`.
            keep: all but so many.
            max_bytes: until their directories hold no more.
            dry_run: only say which.

        Returns:
            Their names. Of `keep` and `max_bytes`, completed ones go before others, and then those that ended first.
        """
        failed_age = older_than if failed_older_than is None else failed_older_than
        policy = retention.Policy(older_than, failed_age, keep, max_bytes)
        if dry_run:
            return [job.name for job in pruning.choose(self.home, policy)]
        return list(pruning.prune(self.home, policy))


def to_task(task: Mapping[str, Any] | Task) -> Task:
    """A task from what people write.

    Raises:
        InvalidJobError: a key is unknown, missing, or has the wrong type.
    """
    if isinstance(task, Task):
        return task
    if not isinstance(task, Mapping):
        raise InvalidJobError(f"a task is a dictionary or a Task, not a {type(task).__name__}")
    unknown = sorted(map(str, task.keys() - _TASK_KEYS))
    if unknown:
        raise InvalidJobError(f"a task has no {unknown[0]!r}; it has {', '.join(sorted(_TASK_KEYS))}")
    try:
        return model.from_dict(Task, task)
    except ValueError as error:
        raise InvalidJobError(f"task {str(task.get('id', task.get('command', '')))[:60]!r}: {error}") from None


def to_tasks(tasks: Iterable[Mapping[str, Any] | Task]) -> list[Task]:
    """`to_task` for each."""
    return [to_task(task) for task in tasks]


def _user() -> str:
    """Who asks; by number where the user has no name, as in some containers."""
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError, ImportError):
        return f"user {os.getuid()}"
