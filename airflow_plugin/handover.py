"""Handing jobs over: one batch, and what to do with those that were refused. Knows nothing of Airflow's queues."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Sequence
from dataclasses import dataclass

from air_executor import held, respool, store
from air_executor.client import AirExecutorClient
from air_executor.errors import (
    AirExecutorError,
    CorruptFileError,
    InvalidInputError,
    JobBusyError,
    JobExistsError,
    NotFoundError,
)
from air_executor.model import JobState

BY = "Airflow"
"""Who asks, in the journal of a job."""


class Verdict(enum.Enum):
    """What became of a submission."""

    TAKEN = "taken"
    LATER = "later"
    """Not now; the same submission is worth another try."""
    REFUSED = "refused"


@dataclass(frozen=True)
class Answer:
    """What became of a submission, and why."""

    verdict: Verdict
    why: str = ""


TAKEN = Answer(Verdict.TAKEN)


def hand_over(client: AirExecutorClient, submissions: Sequence[store.Submission]) -> dict[str, Answer]:
    """Submit a batch; the answers by job name.

    Raises:
        HomeError: the home refused all of them.
    """
    refused = store.submit_batch(client.home, submissions)
    return {each.job.name: _answer(client, each, refused.get(each.job.name)) for each in submissions}


def _answer(client: AirExecutorClient, submission: store.Submission, error: AirExecutorError | None) -> Answer:
    if error is None:
        return TAKEN
    if isinstance(error, InvalidInputError):
        return Answer(Verdict.REFUSED, str(error))
    if not isinstance(error, JobExistsError):
        return Answer(Verdict.LATER, str(error))
    try:
        return _run_again(client, submission)
    except CorruptFileError as damage:
        return _after_damage(client, submission, damage)
    except (JobBusyError, NotFoundError, OSError) as problem:
        return Answer(Verdict.LATER, str(problem))


def _run_again(client: AirExecutorClient, submission: store.Submission) -> Answer:
    """The same try runs again: it was deferred, rescheduled, or stuck in its queue."""
    name = submission.job.name
    job = store.read(client.home, name)
    if job.external_id == submission.job.external_id:
        respool.requeue_lost(client.home, name)  # handed over before, by a call that was cut off, maybe before its end
        return TAKEN
    if job.state is JobState.WAITING:
        client.cancel(name, by=BY, why="its task was queued anew")
    if not store.read(client.home, name).state.terminal:
        return Answer(Verdict.LATER, f"the previous run of the job {name} is not over yet")
    client.resubmit(name, submission, by=BY, why="the same try runs again")
    return TAKEN


def _after_damage(client: AirExecutorClient, submission: store.Submission, damage: CorruptFileError) -> Answer:
    """A damaged state.json is set aside and the job can start anew; with damaged tasks it cannot."""
    name = submission.job.name
    with contextlib.suppress(JobBusyError):
        held.condemn(client.home, name, damage, by=BY)
    try:
        client.resubmit(name, submission, by=BY, why="the same try runs again")
    except CorruptFileError:
        return Answer(Verdict.REFUSED, f"the files of its previous run are damaged: {damage}")
    except (JobBusyError, NotFoundError, OSError) as problem:
        return Answer(Verdict.LATER, str(problem))
    return TAKEN


class Stops:
    """Jobs that must end. One whose end could not be asked for, say because the disk is full, is asked again."""

    def __init__(self) -> None:
        self._pending: dict[str, tuple[str, str | None]] = {}

    def add(self, name: str, why: str, external_id: str | None = None) -> None:
        """Want the end of a job.

        Args:
            external_id: of the run that is meant; another run of that name goes on. None: of any.
        """
        self._pending[name] = (why, external_id)

    def forget(self, name: str) -> None:
        """The job of that name is a new run, which shall go on."""
        self._pending.pop(name, None)

    def ask(self, client: AirExecutorClient) -> None:
        """Ask for all that are wanted.

        Raises:
            AirExecutorError, OSError: one could not be asked for; the others were.
        """
        trouble: Exception | None = None
        for name, (why, external_id) in list(self._pending.items()):
            try:
                stop(client, name, why, external_id)
            except (AirExecutorError, OSError) as error:
                trouble = error
            else:
                self.forget(name)
        if trouble is not None:
            raise trouble


def stop(client: AirExecutorClient, name: str, why: str, external_id: str | None = None) -> bool:
    """Ask for a job's end, if there is one of that name and id that is not over; False if there is none."""
    try:
        job = client.get_job(name)
        if job.state.terminal or external_id not in (None, job.external_id):
            return False
        client.cancel(name, by=BY, why=why)
    except NotFoundError:
        return False
    return True
