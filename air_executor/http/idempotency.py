"""One run for one Idempotency-Key, however often and by how many at once it is asked for.

::

    keys/<hash of token and key>.json     {"at", "token", "request", "before", "run", "id"}

    1  note the key and what is asked for (a link: the first counts)      asked for something else: refused
    2  create the run; its name comes from the key, or was chosen         is there, with the key in a label: take it
    3  note which run that was                                            noted already: answer with that one

Of fifty at once all may come to 2, where the rename of the job's directory decides. Who dies between 1 and 3 leaves a
note without a run: who asks next goes through 2, which finds the run by the label if there is one. The label holds the
same as the note, so that a key counts as long as its run is there, also after the notes were removed. Where a run of
that name is started anew instead, the note says which attempt there was before: one that is later is not restarted.

What is asked for is known by a keyed hash: nobody who sees it learns what was in a body.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from air_executor import _files, _json, model, temporaries
from air_executor.errors import CorruptFileError
from air_executor.paths import Home

LABEL = "idempotency_key"
"""Of a job: its key and what was asked for, as hashes."""
KEPT = 7 * 86_400.0
"""Seconds after which a note is removed."""
LOOK_EVERY = 3600.0


@dataclass(frozen=True)
class Note:
    """What is known of a key."""

    request: str
    """A hash of what was asked for."""
    token: str
    at: str = ""
    run: str | None = None
    """The job's name, once it is there."""
    id: str | None = None
    before: str | None = None
    """What was in its place when the key was first used (`existing.mark`): an attempt that began later is the key's."""


@dataclass(frozen=True)
class Key:
    """A key as it was given with a request."""

    digest: str
    request: str
    token: str

    @property
    def label(self) -> str:
        return f"{self.digest}-{self.request}"

    @property
    def name(self) -> str:
        """Of a job that nobody gave another."""
        return f"run-{self.digest[:24]}"

    def made(self, job: model.Job) -> bool:
        """Whether a job was created with this key."""
        return job.labels.get(LABEL, "").startswith(f"{self.digest}-")


def key_of(token_id: str, key: str, body: Mapping[str, Any]) -> Key:
    """The key of a request. Keys of two tokens have nothing to do with each other. Pure."""
    digest = hashlib.sha256(f"{token_id}\0{key}".encode()).hexdigest()[:32]
    content = json.dumps(body, sort_keys=True).encode()
    return Key(digest, hmac.new(key.encode(), content, hashlib.sha256).hexdigest()[:32], token_id)


class Notes:
    """The notes of a home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._looked_at = float("-inf")

    def begin(self, key: Key, before: str | None = None) -> Note:
        """Note a key that is used; what was noted first if that was before.

        Args:
            before: what is in the place of the run.

        Raises:
            OSError: the home refused.
        """
        self._drop_old()
        note = Note(key.request, key.token, model.now(), before=before)
        path = self._home.http_key(key.digest)
        if (first := self._read(key)) is not None:
            return first
        for directory in (self._home.http, self._home.http_keys):
            _files.make_directory(directory)
        temporary = temporaries.replacement(path)
        try:
            _files.write_new(temporary, _json.pretty(asdict(note)))
            os.link(temporary, path)  # complete as it appears, and never over another
        except FileExistsError:
            return self._read(key) or note
        finally:
            temporary.unlink(missing_ok=True)
        return note

    def finish(self, key: Key, note: Note, job: model.Job) -> None:
        """Note which run a key made. Where that cannot be noted, the run's label says it."""
        with contextlib.suppress(OSError):
            _files.replace_object(self._home.http_key(key.digest), asdict(replace(note, run=job.name, id=job.id)))

    def forget(self, key: Key) -> None:
        """A key that made nothing may be used for something else."""
        with contextlib.suppress(OSError):
            self._home.http_key(key.digest).unlink(missing_ok=True)

    def _read(self, key: Key) -> Note | None:
        """What is noted; None if nothing is that can be read."""
        try:
            content = _files.read_object(self._home.http_key(key.digest))
            texts = {name: content.get(name) for name in ("request", "token", "at", "run", "id", "before")}
            return Note(**texts) if isinstance(texts["request"], str) else None  # type: ignore[arg-type]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except CorruptFileError:
            _files.set_aside(self._home.http_key(key.digest))
            return None

    def _drop_old(self) -> None:
        """Once an hour."""
        if time.monotonic() - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = time.monotonic()
        oldest = time.time() - KEPT
        with contextlib.suppress(OSError):
            for entry in os.scandir(self._home.http_keys):
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.path)  # noqa: PTH108
