"""A job that this process holds: the only way to change state.json and tasks.json after a job was created.

Whoever wants to write takes the job's lock first. The ephemeral runner holds it for its whole life, so the lock is also
the proof of that life. Every step is safe to repeat, in the order written here, so that a holder may die anywhere:
what webhooks are to be told, the state, then the answer to those who wait, then the claim, and the lock last.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from air_executor import _files, _json, attempts, cuts, ends, journal, model, results, spool, store, temporaries, usage
from air_executor.errors import CorruptFileError, JobBusyError, NotFoundError
from air_executor.model import JobState, TaskStatus
from air_executor.paths import Home, JobPaths
from air_executor.webhooks import outbox

MENDING_WAIT = 5.0
"""Seconds to wait for others who are just moving away what is in the place of a lock."""


Sign = tuple[int, int, int] | None
"""Inode, time and size of a file; None if there is none."""


@dataclass(frozen=True)
class Look:
    """What the files of a job said at a moment at which it was not locked."""

    job: model.Job
    tasks: list[model.Task]
    signs: list[Sign]
    """Of the files, from before they were read."""

    @classmethod
    def at(cls, home: Home, name: str) -> Look:
        """Read a job, for somebody who takes it a moment later; raises as `store.read`."""
        signs = _signs(home.job(name))
        job = store.read(home, name)
        return cls(job, _read_tasks(home, job), signs)

    def holds(self, paths: JobPaths) -> bool:
        """Whether the files are still these: each change makes another file, or a longer one."""
        return self.signs == _signs(paths) and not temporaries.within(paths.root)


class HeldJob:
    """A job and its tasks, locked by this process. Use `acquire`, and as a context manager."""

    def __init__(self, home: Home, lock: _files.Lock, job: model.Job, tasks: list[model.Task]) -> None:
        self.home = home
        self.job = job
        self.tasks = tasks
        self.paths = home.job(job.name)
        self._lock = lock

    @classmethod
    def acquire(cls, home: Home, name: str, *, wait: float = 0.0, look: Look | None = None) -> HeldJob:
        """Lock a job and read it.

        Args:
            wait: seconds, if somebody else holds it.
            look: what was read a moment ago, which need not be read again if it still holds.

        Raises:
            NotFoundError: there is no such job.
            JobBusyError: somebody else holds it.
            CorruptFileError: its files are damaged; see `condemn`.
        """
        store.check_exists(home, name)  # before the lock file is created: an unknown job must stay unknown
        lock = lock_job(home, name, wait)
        try:
            if look is not None and look.holds(home.job(name)):
                return cls(home, lock, look.job, look.tasks)
            job = store.read(home, name)
            _finish_writing(home.job(name), job)
            tasks = _read_tasks(home, job)
        except BaseException:
            lock.release()
            raise
        return cls(home, lock, job, tasks)

    def __enter__(self) -> HeldJob:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others have the job."""
        self._lock.release()

    # --- the job ---

    def start(self, process: model.Process, *, by: str) -> None:
        """waiting -> working. Durable: after a power cut nobody may take a job that may have run for a fresh one."""
        self.job.runner = process
        self.job.started_at = model.now()
        self._transition(JobState.WORKING, by=by, why="started")

    def finish(self, state: JobState, outcome: model.Exit, *, by: str, used: dict[str, Any] | None = None) -> None:
        """To a terminal state. Tasks that are not over become skipped or cancelled.

        Args:
            used: what the ephemeral runner measured; None if it did not come to that.
        """
        model.check_job_transition(self.job.state, state)  # before its tasks are touched
        cuts.carry_out(self.paths)
        self._close_tasks(state, outcome)
        results.write(self.paths, self.tasks)
        self.job.exit, self.job.usage = outcome, usage.complete(self.job, self.paths, used)
        self.job.finished_at = model.now()
        tells = outbox.prepare(self.home, self.job, state)
        self._transition(state, by=by, why=outcome.reason)
        self.settle()
        if tells:
            outbox.wake(self.home)

    def settle(self) -> None:
        """What follows from a terminal state; safe to repeat. A workload that is there says that it was not done."""
        if self.job.notify:
            spool.announce_finished(self.home, self.job.name)
        ends.announce(self.home, self.job)
        _files.discard(self.home.cancel_requests / self.job.name)
        _files.discard(self.paths.workload)
        if self.job.runner and self.job.runner.runner:
            spool.drop_claim(self.home, self.job.runner.runner, self.job.name)

    def back_to_queue(self, *, by: str, why: str, blame: model.Blame = model.Blame.JOB) -> None:
        """working -> waiting, for a job of which nothing ran."""
        _files.discard(self.paths.slurm)  # first: an agent that starts late finds that it is not wanted
        self.job.crashes += blame is model.Blame.JOB
        self.job.losses += blame is model.Blame.RUNNER
        self.job.runner = self.job.started_at = None
        for task in self.tasks:
            attempts.reset(task, task if task.was_kept else None)
        if self.job.state is JobState.WORKING:
            self._transition(JobState.WAITING, by=by, why=why)
        else:
            self._write_state()

    def new_attempt(
        self, submission: store.Submission | None = None, *, by: str, why: str, keep_completed: bool = False
    ) -> None:
        """terminal -> waiting, with the old tasks or those of `submission`.

        It begins when state.json says so. What else is new lies beside the old files until then, so that a holder who
        dies before leaves the job as it was, and what one who dies after left is finished by the next.
        """
        check_over(self.job)
        new = None if submission is None else submission.tasks
        self.tasks = attempts.next_tasks(self.tasks, new, keep_completed=keep_completed)
        if submission is not None:
            self._adopt(submission)
        job = self.job
        job.attempt, job.crashes, job.losses = job.attempt + 1, 0, 0
        job.queued_at = model.now()
        job.runner = job.exit = job.usage = job.started_at = job.finished_at = None
        for path in (self.paths.cancel, self.paths.cuts, self.paths.peak, self.paths.slurm):
            _files.discard(path)
        temporaries.remove(self.paths.added)
        self._write_beside(self.paths.tasks, _json.pretty(store.tasks_content(job, self.tasks)))
        if submission is not None and submission.workload is not None:
            self._write_beside(self.paths.workload, submission.workload)
        self._transition(JobState.WAITING, by=by, why=why)
        _finish_writing(self.paths, job)
        spool.collect_finished(self.home, job.name)

    def _write_beside(self, path: Path, data: bytes) -> None:
        _files.write_new(temporaries.of_attempt(path, self.job.attempt), data, durable=True)

    def _adopt(self, submission: store.Submission) -> None:
        """Keep identity and history, take everything else from the new submission."""
        new, old = submission.job, self.job
        new.id, new.created_at, new.attempt = old.id, old.created_at, old.attempt
        new.state, new.extra = old.state, {**old.extra, **new.extra}
        for task in submission.tasks:
            task.job_name, task.created_at = new.name, model.now()
        self.job = new

    def _transition(self, state: JobState, *, by: str, why: str) -> None:
        old = self.job.state
        model.check_job_transition(old, state)
        self.job.state = state
        self.job.updated_at = model.now()
        try:
            # First: who sees the state finds the event. But an end is written also where it cannot be noted.
            noted = self._note(old, by, why, must=not state.terminal)
            self._write_state()
        except BaseException:
            self.job.state = old
            raise
        if not noted:
            self._note(old, by, why, must=False)

    def _note(self, old: JobState, by: str, why: str, *, must: bool) -> bool:
        try:
            journal.record_job(self.paths.events, self.job, old, by=by, why=why)
        except OSError:
            if must:
                raise
            return False
        return True

    def _write_state(self) -> None:
        self.job.updated_at = model.now()
        _files.replace_object(self.paths.state, store.state_content(self.job), durable=True)

    # --- its tasks ---

    def set_task(self, task: model.Task, status: TaskStatus, **changes: Any) -> None:
        """Change a task; the journal has it at once, tasks.json when it is next written."""
        old, before = task.status, dict(vars(task))
        model.check_task_transition(old, status)
        moment = model.now()
        task.status = status
        if status is TaskStatus.RUNNING:
            journal.forget_try(task)
            task.started_at, task.tries = moment, task.tries + 1
        elif status.terminal:
            task.completed_at = moment
        for name, value in changes.items():
            setattr(task, name, value)
        try:
            journal.record_task(self.paths.events, self.job, task, old, moment)
        except OSError:  # tasks.json will say how it ended; but what started must be known, or it might start again
            if not status.terminal:
                vars(task).update(before)
                raise

    def add_tasks(self, tasks: list[model.Task], by: str) -> None:
        """Take more tasks into the job that runs; the journal has them at once.

        Args:
            by: the task that adds them, or empty.
        """
        for task in tasks:
            task.job_name, task.created_at, task.added_by = self.job.name, model.now(), by
        journal.record_added(self.paths.events, self.job, tasks, by)
        self.tasks.extend(tasks)

    def write_tasks(self) -> None:
        """Bring tasks.json up to date."""
        _files.replace_object(self.paths.tasks, store.tasks_content(self.job, self.tasks))

    def show_tasks(self) -> None:
        """Bring tasks.json up to date if that is possible now; the journal has it all."""
        with contextlib.suppress(OSError):
            self.write_tasks()

    def _close_tasks(self, state: JobState, outcome: model.Exit) -> None:
        for task in self.tasks:
            if task.status.terminal:
                continue
            ran = TaskStatus.FAILED if task.has_started else TaskStatus.SKIPPED  # running, or waiting for another try
            self.set_task(task, TaskStatus.CANCELLED if state is JobState.CANCELLED else ran, error=outcome.reason)
        self.write_tasks()


def check_over(job: model.Job) -> None:
    """Raise `JobBusyError` unless the job is over."""
    if not job.state.terminal:
        raise JobBusyError(f"the job {job.name} is {job.state}; only one that is over can start anew")


def _finish_writing(paths: JobPaths, job: model.Job) -> None:
    """Bring what an attempt that has begun needs into its place, and remove what other holders left that died.

    Only a holder writes these files, so under the lock nobody needs what is left; a runner may be writing others.
    """
    left = temporaries.within(paths.root)
    if not left:
        return
    for path in (paths.tasks, paths.workload):
        new = temporaries.of_attempt(path, job.attempt)
        if new in left and job.state is JobState.WAITING:
            new.replace(path)
            left.remove(new)
    written = tuple(f".{path.name}." for path in (paths.state, paths.tasks, paths.workload))
    for path in left:
        if path.name.startswith(written) or temporaries.is_of_the_dead(path.name):
            temporaries.remove(path)


def _signs(paths: JobPaths) -> list[Sign]:
    signs: list[Sign] = []
    for path in (paths.state, paths.tasks, paths.events):
        try:
            status = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            signs.append(None)
        else:
            signs.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return signs


def _read_tasks(home: Home, job: model.Job) -> list[model.Task]:
    tasks = store.read_tasks(home, job.name)
    journal.replay(tasks, journal.read(home.job(job.name).events), job.attempt)
    return tasks


def _is_sound(home: Home, job: model.Job) -> bool:
    try:
        _read_tasks(home, job)
    except CorruptFileError:
        return False
    return True


def condemn(home: Home, name: str, why: CorruptFileError, *, by: str) -> model.Job:
    """Make a job with damaged files failed, and keep the files aside for inspection.

    Returns:
        The job; as it is if nothing is damaged any more: somebody else may have seen to it, and it has begun anew.

    Raises:
        JobBusyError: somebody holds it.
    """
    lock = lock_job(home, name, 0.0)
    try:
        try:
            job = store.read(home, name)  # state.json may be sound and tasks.json damaged
        except CorruptFileError:
            job = store.damaged_job(home, name, str(why))
            job.notify = True  # whether somebody waits is lost; an answer that nobody wants does no harm
            _files.set_aside(home.job(name).state)
        else:
            if job.state.terminal or _is_sound(home, job):
                return job
        old, job.state = job.state, JobState.FAILED
        job.finished_at = job.updated_at = model.now()
        job.exit = model.Exit(model.ExitKind.DAMAGED, f"damaged: {why}")
        tells = outbox.prepare(home, job, job.state)
        _files.replace_object(home.job(name).state, store.state_content(job), durable=True)
        events = home.job(name).events
        if os.path.lexists(events) and not events.is_file():  # nothing can be appended to it
            _files.set_aside(events)
        journal.record_job(home.job(name).events, job, old, by=by, why=job.exit.reason)
        _finish_writing(home.job(name), job)
        HeldJob(home, lock, job, []).settle()
        if tells:
            outbox.wake(home)
        return job
    finally:
        lock.release()


def lock_job(home: Home, name: str, wait: float = 0.0) -> _files.Lock:
    """Take the lock of a job.

    Raises:
        NotFoundError: there is no such job.
        JobBusyError: somebody else holds it.
    """
    path = home.job(name).lock
    lock = _files.Lock(path)
    try:
        try:
            locked = lock.acquire(wait=wait)
        except CorruptFileError:
            _set_lock_aside(home, path)
            locked = lock.acquire(wait=wait)
    except FileNotFoundError:
        raise NotFoundError(f"there is no job named {name} in {home.root}") from None
    if not locked:
        raise JobBusyError(f"the job {name} is held by a process that may still be running it; try again later")
    return lock


def _set_lock_aside(home: Home, path: Path) -> None:
    """Move away what is no file. One at a time: a lock that somebody else made meanwhile, and may hold, must stay."""
    guard = _files.Lock(home.mending_lock)
    guard.acquire(wait=MENDING_WAIT)
    try:
        if guard.held and (path.is_symlink() or not path.is_file()):
            _files.set_aside(path)
    finally:
        guard.release()
