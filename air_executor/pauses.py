"""Paused queues: no runner on any host starts a job of them.

::

    paused/<queue>.json     {"schema", "queue", "at", "by", "why"}

That the file is there is the pause, whatever it holds: a damaged one pauses too. It is not in the spool, because nobody
could make it again. Runners look at the names as they start, when they are woken, and every two seconds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from air_executor import _files, audit, model, orders, processes, validation
from air_executor.errors import CorruptFileError
from air_executor.paths import Home, command

LOCK_WAIT = 5.0
"""Seconds that one waits for others; who has been stopped in the middle keeps nobody from pausing for longer."""
_SUFFIX = ".json"


@dataclass(frozen=True)
class Pause:
    """Since when a queue is paused, and by whom."""

    queue: str
    at: str | None
    """None where the file does not say it."""
    by: str
    why: str

    def __str__(self) -> str:
        """`paused since 2026-01-31T10:00:00Z by user ana@host: why`."""
        since = f" since {self.at}" if self.at else ""
        return f"paused{since} by {self.by}" + (f": {self.why}" if self.why else "")


def pause(home: Home, queue: str, *, by: str | None = None, why: str = "") -> bool:
    """Let no runner start jobs of a queue, which need not exist yet; those that run go on.

    Args:
        by: who wants it; who runs this process if it is not given.

    Returns:
        False if it was paused already: that pause stays as it is.

    Raises:
        InvalidInputError: that is no name of a queue, or a text is too long.
        OSError: the home refused.
    """
    _check(queue, by, why)
    _files.make_directory(home.paused)
    with _alone(home):
        if read(home, queue) is not None:
            return False
        made = Pause(queue, model.now(), by or processes.user(), why)
        audit.record_queue(home, queue, "pause", by=made.by, why=why)
        _files.replace_object(home.pause(queue), {"schema": model.SCHEMA, **asdict(made)}, durable=True)
    orders.wake_all(home)
    return True


def resume(home: Home, queue: str, *, by: str | None = None, why: str = "") -> bool:
    """Let runners start jobs of a queue again.

    Returns:
        False if it was not paused.

    Raises:
        InvalidInputError: that is no name of a queue, or a text is too long.
        OSError: the home refused.
    """
    _check(queue, by, why)
    if read(home, queue) is None:
        return False
    with _alone(home):
        if read(home, queue) is None:
            return False
        audit.record_queue(home, queue, "resume", by=by or processes.user(), why=why)
        path = home.pause(queue)
        _files.discard(path)
        if path.is_dir():  # somebody's damage, which would count as a pause for ever
            _files.set_directory_aside(path)
        _files.sync_directory(home.paused)
    orders.wake_all(home)
    return True


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Of several who pause and resume at once each sees what the one before did, and none says that it was he."""
    lock = _files.Lock(home.paused_lock)
    try:
        lock.acquire(wait=LOCK_WAIT)
        yield
    finally:
        lock.release()


def _check(queue: str, by: str | None, why: str) -> None:
    validation.check_name("the queue", queue, validation.MAX_QUEUE_BYTES)
    audit.check_texts(by, why)


def names(home: Home) -> frozenset[str]:
    """The paused queues.

    Raises:
        OSError: it cannot be seen now.
    """
    try:
        found = os.listdir(home.paused)  # noqa: PTH208  # `iterdir` makes a path of each
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    stems = (name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX))
    return frozenset(filter(validation.is_name, stems))


def read(home: Home, queue: str) -> Pause | None:
    """The pause of a queue; None if it has none.

    Raises:
        OSError: it cannot be seen now.
    """
    path = home.pause(queue)
    try:
        content = _files.read_object(path)
        at, by, why = (model.check_value(key, "str", content[key]) for key in ("at", "by", "why"))
        validation.check_time("at", at)
        return Pause(queue, at, by, why)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (CorruptFileError, KeyError, TypeError, ValueError):
        return Pause(queue, None, orders.UNKNOWN, f"{path} is damaged, which counts")


def all_pauses(home: Home) -> dict[str, Pause]:
    """The paused queues and their pauses."""
    found = ((queue, read(home, queue)) for queue in sorted(names(home)))
    return {queue: pause for queue, pause in found if pause is not None}


def describe(home: Home, queue: str) -> str | None:
    """Why a job of that queue waits, in a sentence with what to do; None if the queue is not paused."""
    found = read(home, queue)
    if found is None:
        return None
    return f"the queue {queue} is {found}; resume it with: {command(home, 'queue', 'resume', queue)}"
