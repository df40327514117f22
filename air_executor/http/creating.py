"""Creating a run: once for each Idempotency-Key, and as is wanted where there is one of its name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from air_executor import existing, model, store
from air_executor.errors import CorruptFileError, InvalidInputError, JobExistsError, NotFoundError
from air_executor.existing import OnExisting
from air_executor.http import asked, idempotency
from air_executor.http.idempotency import Key, Note, Notes
from air_executor.http.problems import Problem
from air_executor.http.service import Service
from air_executor.http.shapes import RunRequest
from air_executor.http.tokens import Scope, Token

REPEATED = "repeated"


def create(service: Service, notes: Notes, token: Token, body: RunRequest, given: str | None) -> tuple[model.Job, str]:
    """See that there is a run.

    Args:
        given: the Idempotency-Key, if there is one.

    Returns:
        The job, and how it came to be there: what `existing.ensure` says, or `repeated`.

    Raises:
        Problem: the key was used for something else, or the token does not allow to stop a run.
        AirExecutorError: as `existing.ensure`.
    """
    if body.on_existing == OnExisting.RESTART.value and not token.allows(Scope.CANCEL):
        raise Problem(403, "forbidden", f"on_existing restart may stop a run, which needs the scope {Scope.CANCEL}")
    if given is None:
        return _ensure(service, body, asked.submission(service.home, body, body.name, {}, token.user), token)
    try:
        key = idempotency.key_of(token.id, given, body.model_dump(mode="json"))
    except ValueError:  # `slurm` may hold anything
        raise InvalidInputError("the body is nested too deep") from None
    return _once(service, notes, token, body, key)


def _once(service: Service, notes: Notes, token: Token, body: RunRequest, key: Key) -> tuple[model.Job, str]:
    name = body.name or key.name
    labels = {idempotency.LABEL: key.label}
    submission = asked.submission(service.home, body, name, labels, token.user)  # first: what is wrong uses up no key
    note = notes.begin(key, _before(service, name))
    if note.request != key.request:
        raise _reused()
    if note.run is not None:
        return _made_before(service, note), REPEATED
    with _forgotten_if_taken(notes, key):
        try:
            job, how = _ensure(service, body, submission, token, note.before)
        except JobExistsError:
            job, how = service.client.get_job(name), REPEATED
            if not key.made(job):
                raise
    if how == REPEATED and job.labels[idempotency.LABEL] != key.label:
        raise _reused()
    notes.finish(key, note, job)
    return job, how


@contextlib.contextmanager
def _forgotten_if_taken(notes: Notes, key: Key) -> Iterator[None]:
    """Whoever chooses another name may do so with the same key: it made nothing."""
    try:
        yield
    except JobExistsError:
        notes.forget(key)
        raise


def _before(service: Service, name: str) -> str | None:
    """What is in the place of a run; None if that is damaged, which is told later."""
    try:
        return existing.mark(store.read(service.home, name))
    except NotFoundError:
        return existing.mark(None)
    except CorruptFileError:
        return None


def _ensure(
    service: Service, body: RunRequest, submission: store.Submission, token: Token, first: str | None = None
) -> tuple[model.Job, str]:
    return existing.ensure(
        service.client,
        submission,
        on_existing=body.on_existing,
        same=body.same,
        keep_completed=body.keep_completed,
        by=token.user,
        first=first,
    )


def _made_before(service: Service, note: Note) -> model.Job:
    with contextlib.suppress(NotFoundError):
        job = service.client.get_job(note.run or "")
        if job.id == note.id:
            return job
    raise NotFoundError(f"the run {note.run} that this Idempotency-Key made was removed; use another key for a new one")


def _reused() -> Problem:
    return Problem(422, "key-reused", "this Idempotency-Key was used with another body; use a new key for a new run")
