"""A job that shall be there: what is done about one of the same name that there is already.

::

    what is found          reuse          attach    restart               fail
    nothing                create         create    create                create
    somebody else's        refuse         refuse    refuse                refuse
    not over               attach         attach    stop, then restart    refuse
    not over, stopping     its end first, then as for what is over        refuse
    completed              take           take      restart               refuse
    failed, cancelled      restart        take      restart               refuse

Several may want this of one job at the same instant. Creating is decided by the rename of the job's directory; stopping
and restarting is done by one at a time, under a lock. Whoever finds that a job or an attempt began after he was called
joins that, whatever he would have done to one that was there before: so fifty restarts at once make one new attempt.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from air_executor import _files, model, repair, store, validation
from air_executor.errors import (
    CorruptFileError,
    InvalidInputError,
    JobBusyError,
    JobExistsError,
    NotFoundError,
    WaitTimeoutError,
)
from air_executor.paths import Home

STOP_PATIENCE = 60.0
"""Seconds that a job may take to end which was asked to stop; a runner gives its processes ten of them."""
CREATE_TRIES = 5
"""A name that is taken and belongs to no job: what is in its place is none, or jobs come and go."""
_POLL_FIRST, _POLL_LAST = 0.01, 0.5


class OnExisting(str, enum.Enum):
    """What is done about a job of the same name."""

    REUSE = "reuse"
    ATTACH = "attach"
    RESTART = "restart"
    FAIL = "fail"

    __str__ = str.__str__


class Step(enum.Enum):
    """What to do next."""

    CREATE = "created"
    ATTACH = "attached"
    TAKE = "reused"
    RESTART = "restarted"
    STOP = "stop it"
    AWAIT = "wait for its end"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Found:
    """What is known of the job of that name."""

    state: model.JobState
    stopping: bool = False
    """Whether somebody asked for its end."""
    fresh: bool = False
    """Whether this attempt began after the call."""
    foreign: bool = False
    """Whether it is somebody else's."""


class Jobs(Protocol):
    """What is needed of a client."""

    home: Home

    def submit(self, submission: store.Submission) -> model.Job: ...

    def cancel(self, name: str, *, by: str | None = None, why: str = "") -> model.Job: ...

    @property
    def resubmit(self) -> Callable[..., model.Job]: ...


def decide(found: Found | None, policy: OnExisting) -> Step:
    """The table above. Pure."""
    if found is None:
        return Step.CREATE
    if found.foreign or policy is OnExisting.FAIL:
        return Step.REFUSE
    if found.state.terminal:
        good = policy is OnExisting.REUSE and found.state is model.JobState.COMPLETED
        return Step.TAKE if good or found.fresh or policy is OnExisting.ATTACH else Step.RESTART
    if found.stopping:
        return Step.AWAIT
    return Step.STOP if policy is OnExisting.RESTART and not found.fresh else Step.ATTACH


def differences(found: model.Job, wanted: model.Job, same: Collection[str]) -> dict[str, tuple[str | None, str | None]]:
    """By what a job is somebody else's: what it has, and what was wanted. Pure."""
    differ = {} if found.trigger == wanted.trigger else {"trigger": (found.trigger, wanted.trigger)}
    labels = {key: (found.labels.get(key), wanted.labels.get(key)) for key in same}
    return differ | {key: (has, wants) for key, (has, wants) in labels.items() if has != wants}


def ensure(
    jobs: Jobs,
    submission: store.Submission,
    *,
    on_existing: str = OnExisting.REUSE.value,
    same: Collection[str] = (),
    keep_completed: bool = False,
    by: str,
    patience: float = STOP_PATIENCE,
    first: str | None = None,
) -> tuple[model.Job, str]:
    """See that there is a job; `AirExecutorClient.ensure` says how.

    Args:
        first: what `mark` said when this was first wanted, where that may have been in an earlier call; None: now.
    """
    try:
        policy = OnExisting(on_existing)
    except ValueError:
        raise InvalidInputError(f"on_existing is one of {', '.join(OnExisting)}, not {on_existing!r:.60}") from None
    validation.number_tasks(submission.tasks)
    validation.check_job(submission.job)
    validation.check_tasks(submission.tasks)
    return _Call(jobs, submission, policy, same, keep_completed, by, patience, first).run()


def mark(job: model.Job | None) -> str:
    """What tells one attempt of one job from what comes later in its place. Pure."""
    return "" if job is None else f"{job.id},{job.attempt}"


class _Call:
    """One call of `ensure`."""

    def __init__(
        self,
        jobs: Jobs,
        submission: store.Submission,
        policy: OnExisting,
        same: Collection[str],
        keep_completed: bool,
        by: str,
        patience: float,
        first: str | None,
    ) -> None:
        self.jobs, self.home = jobs, jobs.home
        self.submission, self.name = submission, submission.job.name
        self.policy, self.same, self.keep_completed, self.by = policy, same, keep_completed, by
        self.patience = patience
        self.deadline = time.monotonic() + patience
        self.first = mark(self._read()) if first is None else first

    def run(self) -> tuple[model.Job, str]:
        tries = 0
        while True:
            job, step = self._look()
            if step is Step.CREATE:
                try:
                    return self.jobs.submit(self.submission), step.value
                except JobExistsError:  # somebody was quicker
                    tries += 1
                    if tries == CREATE_TRIES:
                        raise
            elif step in (Step.ATTACH, Step.TAKE):
                assert job is not None  # noqa: S101
                return job, step.value
            else:
                with self._alone():
                    if restarted := self._restart():
                        return restarted, Step.RESTART.value

    def _restart(self) -> model.Job | None:
        """Stop the job if that is wanted, and start it anew; None if there is something else to do by now."""
        while True:
            job, step = self._look()
            if job is None or step not in (Step.STOP, Step.AWAIT, Step.RESTART):
                return None
            if step is Step.STOP:
                with contextlib.suppress(NotFoundError):
                    self.jobs.cancel(self.name, by=self.by, why="to be started anew")
            if step is not Step.RESTART:
                self._wait_for_end(job)
            elif new := self._resubmit(job):
                return new

    def _resubmit(self, job: model.Job) -> model.Job | None:
        try:
            return self.jobs.resubmit(self.name, self.submission, by=self.by, keep_completed=self.keep_completed)
        except NotFoundError:  # somebody removed it
            return None
        except JobBusyError:  # somebody holds it: its ephemeral runner that is about to go, or who retries it by hand
            self._wait_for_end(job)
            if time.monotonic() >= self.deadline:
                raise
            return None
        except CorruptFileError as error:
            raise self._damaged(error) from None

    # --- Looking ---

    def _look(self) -> tuple[model.Job | None, Step]:
        job = self._read()
        differ = differences(job, self.submission.job, self.same) if job else {}
        step = decide(self._found(job, bool(differ)), self.policy)
        if job is not None and step is Step.REFUSE:
            raise JobExistsError(self._refusal(job, differ))
        return job, step

    def _read(self) -> model.Job | None:
        try:
            return store.read(self.home, self.name)
        except NotFoundError:
            return None
        except CorruptFileError as error:
            raise self._damaged(error) from None

    def _found(self, job: model.Job | None, foreign: bool) -> Found | None:
        if job is None:
            return None
        stopping = not job.state.terminal and repair.read_stop_request(self.home, self.name) is not None
        return Found(job.state, stopping, mark(job) != self.first, foreign)

    def _damaged(self, error: CorruptFileError) -> CorruptFileError:
        """No new attempt is made: whose the job is, and whether it ran, cannot be known."""
        what = str(error).removeprefix(f"{error.path}: ")
        where = self.home.job(self.name).root
        return CorruptFileError(
            error.path, f"{what}; so the job {self.name} cannot be used: move {where} away, or choose another job name"
        )

    def _refusal(self, job: model.Job, differ: dict[str, tuple[str | None, str | None]]) -> str:
        said = f"there is a job named {self.name} already ({job.state}, attempt {job.attempt})"
        if not differ:
            return f"{said}, and on_existing is fail; choose another job name, or another on_existing"
        has = ", ".join(f"{key} {found or 'none'}" for key, (found, _) in differ.items())
        wants = ", ".join(f"{key} {wanted or 'none'}" for key, (_, wanted) in differ.items())
        lost = (
            "; its files were damaged, so what it had is lost"
            if job.exit and job.exit.kind is model.ExitKind.DAMAGED
            else ""
        )
        return f"{said}, and it is somebody else's: it has {has}, this one {wants}{lost}; choose another job name"

    # --- Waiting ---

    def _wait_for_end(self, job: model.Job) -> None:
        """Until this attempt is over; if it is, or the job is gone, at least for a moment.

        Not for the end of any attempt: the next one may have begun between two looks.
        """
        pause = _POLL_FIRST
        while True:
            time.sleep(pause)
            now = self._read()
            if now is None or now.state.terminal or now.attempt != job.attempt:
                return
            if time.monotonic() >= self.deadline:
                raise WaitTimeoutError(
                    f"the job {self.name} was asked to stop and is still {now.state} after {self.patience:g} s; "
                    "see whether its runner lives, and try again"
                )
            pause = min(_POLL_LAST, pause * 1.3)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else stops or restarts the job meanwhile: none shall stop what another has just started."""
        lock = _files.Lock(self.home.job(self.name).restart_lock)
        there = True
        try:
            locked = lock.acquire(wait=max(0.0, self.deadline - time.monotonic()))
        except FileNotFoundError:  # the job is gone: nothing of it is left to stop
            locked = there = False
        if there and not locked:
            raise WaitTimeoutError(
                f"another process has been starting the job {self.name} anew for {self.patience:g} s; try again"
            )
        try:
            yield
        finally:
            lock.release()
