"""Who steered runners and queues, when and why: `logs/steering.jsonl`, one JSON object a line.

A runner also notes there that it came and went. What was asked of a job is in the job's own events.jsonl.

The file is put aside when it is full, in the place of the one before: it never holds more than twice `MAX_BYTES`. All
processes write to the same one, so each takes a lock, also because appending does not keep two hosts apart.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from air_executor import _files, journal, model
from air_executor.errors import InvalidInputError
from air_executor.paths import Home

MAX_BYTES = 2**20
"""Of one file."""
MAX_TEXT = 1000
"""Characters of who asked, and of why."""
LOCK_WAIT = 1.0
"""Seconds that one waits for others who write; then one appends all the same, which only another host may spoil."""
LATEST = 20
"""How many events are shown."""

STARTED, ENDED = "started", "ended"
"""What a runner notes of itself; all else are the words of what was asked."""


def check_texts(by: str | None, why: str) -> None:
    """Raise `InvalidInputError` unless that can be noted."""
    for what, text in (("who asks", by or ""), ("why", why)):
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise InvalidInputError(f"{what} must be a text of at most {MAX_TEXT} characters")


def record_runner(home: Home, runner_id: str, what: str, *, by: str, why: str = "", **facts: Any) -> None:
    """Note what became of a runner; raises `OSError` if the home refuses."""
    _record(
        home, {"at": model.now(), "event": "runner", "runner": runner_id, "what": what, "by": by, "why": why, **facts}
    )


def record_queue(home: Home, queue: str, what: str, *, by: str, why: str = "") -> None:
    """Note what became of a queue; raises `OSError` if the home refuses."""
    _record(home, {"at": model.now(), "event": "queue", "queue": queue, "what": what, "by": by, "why": why})


def _record(home: Home, event: dict[str, Any]) -> None:
    try:
        _append(home, event)
    except FileNotFoundError:  # somebody deleted the directory
        _files.make_directory(home.logs)
        _append(home, event)


def _append(home: Home, event: dict[str, Any]) -> None:
    with _locked(home) as locked:
        if locked:
            _put_aside_if_full(home)
        _files.append_line(home.steering_log, event)


def _put_aside_if_full(home: Home) -> None:
    with contextlib.suppress(FileNotFoundError):
        if home.steering_log.stat().st_size >= MAX_BYTES:
            os.replace(home.steering_log, home.steering_log_before)  # noqa: PTH105


@contextlib.contextmanager
def _locked(home: Home) -> Iterator[bool]:
    lock = _files.Lock(home.steering_lock)
    try:
        yield lock.acquire(wait=LOCK_WAIT)
    finally:
        lock.release()


def latest(
    home: Home, *, runner: str | None = None, queue: str | None = None, most: int = LATEST
) -> list[dict[str, Any]]:
    """The latest events, in their order: of a runner, of a queue, or of all.

    Raises:
        CorruptFileError: something else than a file is in the place of one.
    """
    wanted = {key: value for key, value in (("runner", runner), ("queue", queue)) if value is not None}
    found = [event for event in _read(home) if all(event.get(key) == value for key, value in wanted.items())]
    return found[-most:]


def _read(home: Home) -> list[dict[str, Any]]:
    if not home.logs.is_dir():
        return []
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # where a lock cannot be taken nothing is written, either
            stack.enter_context(_locked(home))  # else what is put aside meanwhile would be seen in neither
        return [event for path in (home.steering_log_before, home.steering_log) for event in journal.read(path)]
