"""The face of Air-Executor for programs: submit jobs, look at them, wait for them, stop them."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from air_executor import held, model, processes, pruning, retention, spool, stopping, store, validation
from air_executor.definitions import to_job, to_tasks
from air_executor.errors import (
    CorruptFileError,
    HomeError,
    InvalidJobError,
    JobBusyError,
    NotFoundError,
    SettingsError,
    WaitTimeoutError,
)
from air_executor.model import ExitKind, Job, JobState, Task
from air_executor.paths import JOB_VARIABLE, TASK_VARIABLE, Home, find_home, is_address

if TYPE_CHECKING:
    from air_executor.pipelines import Pipeline

_RELEASE_TIME = 2.0
"""Seconds to wait for the lock of a job that is over: its ephemeral runner is about to exit, on a busy host slowly."""
_POLL_FIRST, _POLL_LAST = 0.01, 0.5
"""Seconds between looks at a job that somebody waits for: quick at first, then growing."""

OVER_HTTP = ("token", "verify", "allow_plain", "poll_interval", "jitter", "patience")
"""Options for a home behind an HTTP API."""


class AirExecutorClient:
    """Work with the jobs of one home. A job is given by its name or by its id.

    Args:
        home: the directory; found as `paths.find_home` says if it is None. A web address gives a `RemoteClient`, with
            the same methods; so does `air_executor.connect`, whose type says so.
        over_http: for a web address; see `RemoteClient`.

    Raises:
        SettingsError: something was given for a directory that is for a web address, or that cannot be used.
    """

    def __new__(cls, home: str | os.PathLike[str] | None = None, **over_http: Any) -> AirExecutorClient:
        """A client of the kind that the home needs."""
        if is_address(home):
            from air_executor.remote.client import RemoteClient

            given = {name: value for name, value in over_http.items() if value is not None}
            return RemoteClient(str(home), **given)  # type: ignore[return-value]  # it is used like one
        return super().__new__(cls)

    def __init__(self, home: str | os.PathLike[str] | None = None, **over_http: Any) -> None:
        self.home = Home(find_home(home))
        for name, value in over_http.items():
            if name not in OVER_HTTP:
                raise TypeError(f"a client has no {name!r}; it has home, {', '.join(OVER_HTTP)}")
            if value is not None:
                raise SettingsError(f"{name} is for a web address, and {self.home.root} is a directory; leave it out")

    @property
    def address(self) -> str:
        """Where the jobs are, as whoever wants the same gives it."""
        return str(self.home.root)

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
                `env`, `cwd`, `timeout` (seconds), `memory_mb`, `output_mb`, `retries`, `retry_delay` (seconds).
            trigger: who submits.
            options: other fields of `Job`: queue, priority, labels, timeout, memory_mb, output_mb, nice,
                max_parallel, on_failure, slurm (a dictionary, see `slurm.options`), webhooks (names) ...

        Returns:
            The job's id.

        Raises:
            InvalidNameError, InvalidJobError: something given is wrong; nothing was written.
            JobExistsError: the name is taken.
            HomeError: the home refused; nothing was submitted.
        """
        job = to_job(job_name, {"trigger": trigger, **options})
        return self.submit(store.Submission(job, to_tasks(tasks))).id

    def pipeline(
        self,
        name: str,
        *,
        params: Mapping[str, Any] | None = None,
        environment: str | None = None,
        job_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        **options: Any,
    ) -> store.Submission:
        """The job that a pipeline makes of these values; nothing is written.

        Args:
            name: of `<home>/pipelines/<name>.toml`.
            params: values for its parameters, of the declared types.
            environment: one of those that it declares; None: its default one, if it has any.
            job_name: made up if it is None.
            labels: beside those that it has, and `pipeline` and `environment`.
            options: other fields of `Job`, in place of what the pipeline says unless they are None; of `slurm`
                what is given goes before what the pipeline says, option by option.

        Raises:
            NotFoundError: there is no such pipeline.
            InvalidPipelineError: its file has problems.
            InvalidParameterError: a value or the environment is not what the pipeline takes.
            InvalidNameError, InvalidJobError: something else that was given is wrong.
        """
        from air_executor import pipelines

        return pipelines.submission(
            self.home, name, params=params, environment=environment, job_name=job_name, labels=labels, **options
        )

    def run_pipeline(self, name: str, **given: Any) -> str:
        """Submit the job that `pipeline` makes, with the same arguments and errors, and those of `submit`.

        Returns:
            The job's id.
        """
        return self.submit(self.pipeline(name, **given)).id

    def pipelines(self) -> list[Pipeline]:
        """The pipelines of this home, by name, also those whose file has problems (`blueprint.problems`)."""
        from air_executor import pipelines

        return pipelines.find_all(self.home)

    def find_pipeline(self, name: str) -> Pipeline:
        """One that can be run.

        Raises:
            InvalidNameError, NotFoundError: there is no such pipeline.
            InvalidPipelineError: its file has problems.
        """
        from air_executor import pipelines

        return pipelines.load(self.home, name)

    def submit(self, submission: store.Submission) -> Job:
        """Submit a job that is spelled out; raises as `create_job`."""
        self._check_webhooks(submission.job)
        store.ensure_home(self.home)
        return store.submit(self.home, submission)

    def _check_webhooks(self, job: Job) -> None:
        """A misspelled one would be told nothing, and nobody would know."""
        if job.webhooks:
            from air_executor.webhooks import routes

            validation.check_job(job)
            routes.check_known(self.home, job.webhooks)

    def get_job(self, name: str) -> Job:
        """The job; one whose files are damaged appears as failed.

        Raises:
            InvalidNameError, NotFoundError: there is no such job.
        """
        return store.read_or_damaged(self.home, self._name(name))

    def _name(self, text: str) -> str:
        """Jobs are given by name or by id."""
        return store.name_of(self.home, text)

    def get_tasks(self, name: str) -> list[Task]:
        """The tasks of a job, up to date to the last event.

        Raises:
            NotFoundError: there is no such job.
            CorruptFileError: tasks.json is damaged.
        """
        from air_executor import journal

        job = store.read(self.home, self._name(name))
        tasks = store.read_tasks(self.home, job.name)
        if not job.state.terminal:
            journal.replay(tasks, journal.read(self.home.job(job.name).events), job.attempt)
        return tasks

    def get_result(self, name: str) -> dict[str, Any]:
        """What the tasks of a job wrote to `$AIR_EXECUTOR_OUTPUT`, by task; of a running job, what is there so far.

        Raises:
            NotFoundError: there is no such job.
            CorruptFileError: a file of the job is damaged.
        """
        from air_executor import results

        job = store.read(self.home, self._name(name))
        return results.read(self.home, job, [] if job.state.terminal else self.get_tasks(job.name))

    def add_tasks(self, tasks: Iterable[Mapping[str, Any] | Task], job: str | None = None) -> list[str]:
        """Add tasks to a job while it runs; dependencies may be tasks that it has already.

        Args:
            job: the job; None: the one whose task this process belongs to.

        Returns:
            Their ids; those that were given none get ids that no other has.

        Raises:
            InvalidJobError: the tasks are not in order; none was added.
            JobBusyError: the job does not run, or takes no tasks.
            NotFoundError: there is no such job.
        """
        from air_executor import additions

        own = os.environ.get(JOB_VARIABLE)
        if job is None and not own:
            raise InvalidJobError(f"which job? {JOB_VARIABLE} is not set; name one, or call this from a task of it")
        name = self._name(job or own or "")
        by = os.environ.get(TASK_VARIABLE, "") if name == own else ""
        return additions.add(self.home, name, to_tasks(tasks), by)

    def list_jobs(
        self,
        *,
        state: JobState | None = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
        trigger: str | None = None,
    ) -> Iterator[Job]:
        """All jobs that match, newest first.

        Args:
            labels: those of Airflow's operators have `dag_id`, `task_id`, `run_id`, among others.
            trigger: who submitted them: one of `model.Trigger`.
        """
        jobs = [job for name in store.names(self.home) if (job := self._read_listed(name))]
        wanted = (labels or {}).items()
        for job in sorted(jobs, key=lambda job: job.created_at, reverse=True):
            labelled = all(job.labels.get(key) == value for key, value in wanted)
            asked = ((state, job.state), (queue, job.queue), (trigger, job.trigger))
            if labelled and all(wants in (None, has) for wants, has in asked):
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
            self.yield_to(job)
            if deadline is not None and time.monotonic() >= deadline:
                waited = round(timeout or 0.0, 2)
                raise WaitTimeoutError(f"the job {name} is still {job.state} after {waited:g} s; it goes on")
            time.sleep(pause)
            pause = min(_POLL_LAST, pause * 1.3)
        return job

    def yield_to(self, job: Job) -> None:
        """Let a job that waits start in the place of the one that this process belongs to, which waits for it.

        `wait` does so. Without it, jobs that wait for others can keep all slots of a runner from them.
        """
        from air_executor import places

        if job.state is JobState.WAITING:
            places.yield_to(self.home, job.name)

    def cancel(self, name: str, *, by: str | None = None, why: str = "") -> Job:
        """Ask for a job's cancellation. A waiting job is cancelled when this returns, a working one a moment later.

        Returns:
            The job as it is now.
        """
        by = by or processes.user()
        reason = f"cancelled by {by}" + (f": {why}" if why else "")
        return self.stop(name, by=by, outcome=model.Exit(ExitKind.CANCELLED, reason))

    def stop(self, name: str, *, by: str, outcome: model.Exit) -> Job:
        """Ask for a job's end with the outcome that it shall have; the first who asks is the one who counts."""
        return stopping.stop(self.home, self.get_job(name), by=by, outcome=outcome)

    def retry(self, name: str, *, by: str | None = None, why: str = "retried", keep_completed: bool = False) -> Job:
        """Start a job that is over once more, as a new attempt.

        Args:
            keep_completed: leave tasks as they are that completed, unless one that they depend on runs again.

        Raises:
            JobBusyError: it is not over.
            NotFoundError: there is no such job.
            CorruptFileError: its files are damaged.
        """
        return self.resubmit(name, None, by=by, why=why, keep_completed=keep_completed)

    def resubmit(
        self,
        name: str,
        submission: store.Submission | None,
        *,
        by: str | None = None,
        why: str = "submitted again",
        keep_completed: bool = False,
    ) -> Job:
        """Start a job that is over once more with new tasks, keeping its directory and history; raises as `retry`."""
        if submission is not None:
            validation.number_tasks(submission.tasks)
            validation.check_job(submission.job)
            validation.check_tasks(submission.tasks)
            self._check_webhooks(submission.job)
        name = self._name(name)
        held.check_over(store.read(self.home, name))  # before the lock: a working job keeps it for long
        with held.HeldJob.acquire(self.home, name, wait=_RELEASE_TIME) as job:
            if submission is None and job.job.trigger == model.Trigger.EXECUTOR:
                raise JobBusyError(f"the job {name} belongs to Airflow; clear its task in Airflow to run it again")
            job.new_attempt(submission, by=by or processes.user(), why=why, keep_completed=keep_completed)
            current = job.job
        try:
            spool.enqueue(self.home, current)
        except OSError as error:
            where = f"{error.filename or self.home.spool}: {error.strerror}"
            raise HomeError(f"the job {name} waits, and cannot be put in its queue until a repair: {where}") from error
        return current

    def ensure(
        self,
        submission: store.Submission,
        on_existing: str = "reuse",
        *,
        same: Collection[str] = (),
        keep_completed: bool = False,
        by: str | None = None,
    ) -> tuple[Job, str]:
        """See that there is a job of this name, whoever asks for it at the same instant.

        Args:
            on_existing: what is done about a job of that name. `reuse`: one that is not over is joined, the result of
                one that completed is taken, one that failed or was cancelled is started anew, as a new attempt with
                what is submitted now. `attach`: it is joined or taken as it is. `restart`: it is stopped if it is not
                over, and started anew. `fail`: it is an error. One that is just being stopped is waited for first.
            same: labels; a job that has other values of these, or another trigger, is somebody else's.
            keep_completed: whether a new attempt begins with what is completed; see `resubmit`.

        Returns:
            The job, and `created`, `attached`, `reused` or `restarted`.

        Raises:
            JobExistsError: the name is somebody else's job's, or there is a job and it should not be.
            WaitTimeoutError: a job that is to be stopped is not over after a minute.
            CorruptFileError: the files of that job are damaged: it is for a person to say what it was.
            InvalidInputError, HomeError: as `create_job`.
        """
        from air_executor import existing

        return existing.ensure(
            self,
            submission,
            on_existing=on_existing,
            same=same,
            keep_completed=keep_completed,
            by=by or processes.user(),
        )

    def outcome(self, name: str) -> dict[str, Any]:
        """What a job came to, as plain JSON: `state`, `job` (its name), `tasks` (statuses by id), `result`, `usage`.

        Raises:
            NotFoundError: there is no such job.
            CorruptFileError: its result is damaged.
        """
        from air_executor import report

        return report.outcome(self.home, name)

    def failure(self, name: str, lines: int = 20) -> str:
        """For people: which task of a job failed first, why, and the last lines of its log.

        Raises:
            NotFoundError: there is no such job.
        """
        from air_executor import report

        return report.failure(self.home, name, lines)

    def logs(self, name: str, task_id: str | None = None) -> str:
        """What a task wrote, or all tasks of a job one after the other. Bytes that are not UTF-8 are replaced.

        Raises:
            NotFoundError: there is no such job or task.
        """
        return "".join(path.read_text("utf-8", "replace") for path in self.log_paths(name, task_id))

    def events(self, name: str) -> list[dict[str, Any]]:
        """Who did what with a job, the first first.

        Raises:
            NotFoundError: there is no such job.
        """
        from air_executor import journal

        name = self._name(name)
        store.check_exists(self.home, name)
        return [event for event in journal.read(self.home.job(name).events) if event.get("event") != "task"]

    def log_paths(self, name: str, task_id: str | None = None) -> list[Path]:
        """The log files that are there, in the order of the tasks."""
        name = self._name(name)
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
