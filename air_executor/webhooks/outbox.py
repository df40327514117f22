"""The outbox: events that webhooks have not taken yet, and those that were given up.

::

    webhooks/outbox/<webhook>/<job id>,<attempt>.json
    webhooks/dead/<webhook>/<job id>,<attempt>.json

An entry is written, durably, before the end of the job is: who dies in between leaves an entry of a job that is not
over, which nobody sends, and which the next one who writes that end replaces. So whatever dies when, a job that is over
has had its entry; and as long as state.json says otherwise, the entry says nothing. It goes once the receiver has taken
the event: who dies in between sends the same event again.

Entries of jobs are made by whoever holds the job. From then on they belong to the sender, and to people who send again
or drop: they change one under `webhook_lock`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from air_executor import _files, _json, model, store, temporaries, validation
from air_executor.errors import CorruptFileError, JobBusyError, NotFoundError
from air_executor.paths import Home
from air_executor.webhooks import events, routes

log = logging.getLogger(__name__)

LOCK_WAIT = 5.0
_SUFFIX = ".json"
_DAMAGED = (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)
"""Somebody has put something else in the place of an entry or its directory."""


@dataclass(frozen=True)
class Entry:
    """An event for a webhook, and what became of the tries to deliver it."""

    webhook: str
    stem: str
    """The job's id, a comma, and its attempt."""
    event: dict[str, Any] = field(repr=False)
    at: str
    """When the job ended."""
    tries: int = 0
    tried_at: str | None = None
    next_at: str | None = None
    """Not before this it is tried again."""
    error: str | None = None
    """Why the last try failed."""
    dead: bool = False
    """Whether it was given up."""

    @property
    def id(self) -> str:
        """The id of the event."""
        return events.event_id(self.webhook, self.stem)

    @property
    def job_id(self) -> str:
        """Of the job."""
        return self.stem.rpartition(",")[0]

    @property
    def attempt(self) -> int:
        """Of the job."""
        return int(self.stem.rpartition(",")[2])

    @property
    def is_asked_for(self) -> bool:
        """Whether somebody has it sent again, and it was not tried since: it is as old as that wish, not as the end."""
        return self.tries == 0 and self.event.get("at") not in (None, self.at)

    def to_dict(self) -> dict[str, Any]:
        """What is in the file; where that is says the rest."""
        tries = {"tries": self.tries, "tried_at": self.tried_at, "next_at": self.next_at, "error": self.error}
        return {"schema": model.SCHEMA, "id": self.id, "at": self.at, **tries, "event": self.event}


def path_of(home: Home, webhook: str, stem: str, *, dead: bool = False) -> Path:
    """Where the file of an entry is."""
    return (home.webhook_dead if dead else home.webhook_outbox) / webhook / f"{stem}{_SUFFIX}"


# --- For those who write the end of a job ---


def prepare(home: Home, job: model.Job, state: model.JobState) -> bool:
    """Before a job is given this end: write what webhooks are to be told; whether there is anything.

    Raises:
        OSError: the home refused; the end must not be written now.
    """
    if not job.webhooks and not os.path.lexists(home.config):  # mostly
        return False
    known = routes.of_home(home)
    names = routes.chosen(known, job, state)
    for name in set(routes.concerned(known, job)).difference(names):  # who died here may have left another end to them
        with contextlib.suppress(*_DAMAGED):
            _files.discard(path_of(home, name, events.file_stem(job)))
    for name in names:
        entry = Entry(
            name, events.file_stem(job), events.of_job(home, name, job, state), job.finished_at or model.now()
        )
        try:
            write(home, entry)
        except _DAMAGED as error:  # that would stay, and the job must end
            log.error("the webhook %s will not be told of the end of %s: %s", name, job.name, error)
    return bool(names)


def wake(home: Home) -> None:
    """Let the sender look: a job with entries is over. It looks by itself now and then."""
    with contextlib.suppress(OSError):
        os.close(os.open(home.webhook_wake, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _files.PRIVATE_FILE))


def write(home: Home, entry: Entry) -> None:
    """Put an entry in its place, durably. Its temporary is elsewhere, as there is no room for a longer name."""
    path = path_of(home, entry.webhook, entry.stem, dead=entry.dead)
    temporary = temporaries.replacement(home.webhooks / "entry")
    if not path.parent.is_dir():
        _files.make_lasting_directory(path.parent)
    try:
        _files.write_new(temporary, _json.pretty(entry.to_dict()), durable=True)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _files.sync_directory(path.parent)


# --- Looking ---


def webhooks_of(home: Home, *, dead: bool = False) -> list[str]:
    """The webhooks that have, or had, entries."""
    try:
        names = os.listdir(home.webhook_dead if dead else home.webhook_outbox)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if validation.is_name(name))


def stems(home: Home, webhook: str, *, dead: bool = False) -> list[str]:
    """The entries of a webhook, in no order."""
    return list(inodes(home, webhook, dead=dead))


def inodes(home: Home, webhook: str, *, dead: bool = False) -> dict[str, int]:
    """The entries of a webhook, in no order, each with what is another number once its file was replaced."""
    try:
        with os.scandir(path_of(home, webhook, "", dead=dead).parent) as found:
            files = {file.name.removesuffix(_SUFFIX): file.inode() for file in found if file.name.endswith(_SUFFIX)}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {stem: inode for stem, inode in files.items() if is_stem(stem)}


def is_stem(text: str) -> bool:
    """Whether an entry's file may be called so."""
    job_id, separator, attempt = text.rpartition(",")
    name, _, number = job_id.rpartition(".")
    whole = validation.is_name(name) and validation.is_id_number(number)
    return bool(separator) and whole and attempt.isascii() and attempt.isdecimal() and len(attempt) <= 9


def read(home: Home, webhook: str, stem: str, *, dead: bool = False) -> Entry:
    """An entry.

    Raises:
        NotFoundError: there is none, or no longer.
        CorruptFileError: it cannot be read.
    """
    path = path_of(home, webhook, stem, dead=dead)
    try:
        content = _files.read_object(path)
        texts = {key: _text_or_none(content, key) for key in ("tried_at", "next_at", "error")}
        for key in ("tried_at", "next_at"):
            validation.check_time(key, texts[key])
        at, tries, event = content["at"], content["tries"], content["event"]
        validation.check_time("at", at)
        if not isinstance(event, dict) or type(tries) is not int or tries < 0:
            raise ValueError("it holds no event")
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"there is no event {events.event_id(webhook, stem)} in {path.parent}") from None
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CorruptFileError(path, f"is no event for a webhook: {error}") from None
    return Entry(webhook, stem, event, at, tries, **texts, dead=dead)


def _text_or_none(content: dict[str, Any], key: str) -> str | None:
    value = content.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is no text")
    return value


def read_all(home: Home, *, dead: bool) -> Iterator[Entry | CorruptFileError]:
    """Every entry, and what is wrong with those that cannot be read."""
    for webhook in webhooks_of(home, dead=dead):
        for stem in sorted(stems(home, webhook, dead=dead)):
            try:
                yield read(home, webhook, stem, dead=dead)
            except NotFoundError:  # it was taken meanwhile
                continue
            except CorruptFileError as error:
                yield error


def find(home: Home, event_id: str) -> Entry:
    """The entry of an event, sent or given up; raises as `read`."""
    webhook, _, stem = event_id.partition("/")
    if validation.is_name(webhook) and is_stem(stem):
        for dead in (False, True):
            with contextlib.suppress(NotFoundError):
                return read(home, webhook, stem, dead=dead)
    raise NotFoundError(f"there is no event {event_id:.300} in {home.webhooks}; air-executor webhook list shows all")


def is_over(home: Home, entry: Entry) -> bool:
    """Whether the job has come to the end that its entry tells. Look first, then read what the entry tells.

    Raises:
        OSError: the home refused.
    """
    try:
        job = store.read(home, entry.job_id.rpartition(".")[0])
    except NotFoundError:  # it was over, and was removed
        return True
    except CorruptFileError:  # a repair says what became of it
        return False
    return events.job_id(job) != entry.job_id or job.attempt != entry.attempt or job.state.terminal


# --- For the sender and for people ---


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    lock = _files.Lock(home.webhook_lock)
    try:
        if not lock.acquire(wait=LOCK_WAIT):
            raise JobBusyError("another process changes events of webhooks just now; try again")
        yield
    finally:
        lock.release()


def remove(home: Home, entry: Entry) -> bool:
    """Forget an entry: it was taken, or somebody drops it; False if it was not there any more."""
    with _alone(home):
        try:
            path_of(home, entry.webhook, entry.stem, dead=entry.dead).unlink()
        except FileNotFoundError:
            return False
        return True


def note(home: Home, entry: Entry) -> None:
    """Write what became of a try, unless somebody dropped the entry meanwhile, or has it sent again."""
    with _alone(home):
        if _is_the_same(home, entry):
            write(home, entry)


def give_up(home: Home, entry: Entry) -> None:
    """Move an entry to those that nobody sends any more; raises and spares as `note`."""
    with _alone(home):
        if _is_the_same(home, entry):
            write(home, replace(entry, dead=True, next_at=None))
            path_of(home, entry.webhook, entry.stem).unlink()


def _is_the_same(home: Home, entry: Entry) -> bool:
    """Whether what was tried is what is there: who has an entry sent again makes it another, with tries of its own."""
    try:
        return read(home, entry.webhook, entry.stem).at == entry.at
    except (NotFoundError, CorruptFileError):
        return False


def resend(home: Home, entry: Entry) -> Entry:
    """Have an entry sent as soon as possible, as if it had never been tried.

    Returns:
        The entry as it is now.
    """
    fresh = replace(entry, dead=False, tries=0, next_at=None, at=model.now())
    with _alone(home):
        old = path_of(home, entry.webhook, entry.stem, dead=entry.dead)
        if not old.exists():
            raise NotFoundError(f"the event {entry.id} is not there any more: it was taken, or dropped")
        write(home, fresh)
        if entry.dead:
            old.unlink()
    wake(home)
    return fresh
