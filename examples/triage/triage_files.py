"""The files of one day. Whoever runs the day again finds and leaves the same bytes.

::

    <output>/<day>.jsonl            issues that need nobody at once, by number
    <output>/<day>.alerts.jsonl     alerts that were delivered, by number
    <output>/<day>.refused.jsonl    what the source gave and nobody could read, and why
    <output>/.<day>.delivered       alerts that were delivered by a run that has not come to its end
    <output>/.<day>.lock            held while the day is being run

Only a run that came to its end writes the first three, each whole. The fourth is written alert by alert, so that the
next try of a day that failed half way tells nobody twice. Who is killed between the server's answer and this note does:
the server may know the alert by its key.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from triage_errors import BusyError, SettingError

Row = dict[str, Any]


class DayFiles:
    """Use as a context manager: inside it, nobody else runs the day."""

    def __init__(self, output: Path, day: str) -> None:
        self.output, self.day = output, day
        self._journal = output / f".{day}.delivered"
        self._guard = threading.Lock()
        self._alerts: dict[str, Row] = {}

    def __enter__(self) -> DayFiles:
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.output / f".{self.day}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingError(f"the output directory {self.output} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise BusyError(f"another run of {self.day} is at work in {self.output}; wait for it, or end it") from None
        return self.load()

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def load(self) -> DayFiles:
        """Read what was delivered; for who adds to it beside others, without a lock."""
        self._alerts = {row["key"]: row for file in (self.path("alerts"), self._journal) for row in _rows(file)}
        return self

    def path(self, kind: str = "") -> Path:
        return self.output / (f"{self.day}.{kind}.jsonl" if kind else f"{self.day}.jsonl")

    def is_delivered(self, key: str) -> bool:
        with self._guard:
            return key in self._alerts

    def note_delivery(self, row: Row) -> None:
        """Durable when this returns: no later run tells it again."""
        with self._guard:
            descriptor = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                # One write, as others may be at it. It begins with a line end: a killed run may have left half a line.
                os.write(descriptor, b"\n" + _line(row))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._alerts[row["key"]] = row

    def finish(self, archived: Iterable[Row], refused: Iterable[Row]) -> str:
        """Write what the day came to; the hash of its archive."""
        content = b"".join(map(_line, sorted(archived, key=_number)))
        _replace(self.path("refused"), b"".join(sorted(map(_line, refused))))
        _replace(self.path("alerts"), b"".join(map(_line, sorted(self._alerts.values(), key=_number))))
        _replace(self.path(), content)
        self._journal.unlink(missing_ok=True)
        return hashlib.sha256(content).hexdigest()


def summary(day: str, outcomes: Mapping[str, int], digest: str) -> Row:
    """What is said of a day that came to its end; nothing that another run of it would not say."""
    counts = {name: outcomes.get(name, 0) for name in ("alerted", "archived", "refused")}
    return {"day": day, "issues": sum(counts.values()), **counts, "sha256": digest}


def _number(row: Row) -> int:
    return int(row["number"])


def _line(row: Row) -> bytes:
    """One way to write a row, so that the same row is the same bytes."""
    return json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _rows(file: Path) -> Iterable[Row]:
    """The whole lines of a file. Half a line is of a run that was killed before it had noted a delivery."""
    for line in file.read_bytes().splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "key" in row:
            yield row


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
