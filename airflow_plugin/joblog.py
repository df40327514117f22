"""The log of a job of Airflow: what its task logs, as lines for people. Airflow's own log of the task has it as JSON.

Secrets are masked before anything comes here. Pure but for `Echo`.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

HIDDEN = frozenset(
    {
        *("timestamp", "logger", "event", "level", "loc", "error_detail", "filename", "lineno", "category"),
        *("dag_id", "task_id", "run_id", "map_index", "try_number", "ti_id", "ti"),
    }
)
"""What every line would repeat, or what is shown in another way."""

_MARKS = ("::group::", "::endgroup::")
"""What Airflow's UI folds a log by."""


class Echo:
    """Writes log records to a stream, each at once: the process may be killed at any moment."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def write(self, level: str, event: Mapping[str, Any]) -> None:
        """Write one record. A full disk must not raise: it would end the task, whose own log may be elsewhere."""
        stream = self._stream or sys.stdout
        with contextlib.suppress(OSError):
            for line in lines(level, event):
                try:
                    stream.write(f"{line}\n")
                except UnicodeEncodeError:  # a locale that is not UTF-8, or half a character
                    stream.write(f"{ascii(line)[1:-1]}\n")
            stream.flush()


def lines(level: str, event: Mapping[str, Any]) -> Iterator[str]:
    """`2026-11-21 10:09:26 ERROR task: it failed, why='...'`, and the traceback if there is one."""
    text = str(event.get("event", ""))
    if text.startswith(_MARKS):
        return
    source = str(event.get("logger") or event.get("logger_name") or "task")
    moment = event.get("timestamp")
    stamp = moment.strftime("%Y-%m-%d %H:%M:%S ") if isinstance(moment, datetime) else ""
    if source in ("task.stdout", "task.stderr"):
        yield text
        return
    shown = {name: value for name, value in event.items() if name not in HIDDEN and not name.startswith("_")}
    details = "".join(f", {name}={value}" for name, value in shown.items())
    yield f"{stamp}{level.upper():7} {source}: {text}{details}"
    yield from traceback_lines(event.get("error_detail"))


def traceback_lines(detail: Any) -> Iterator[str]:
    """A traceback as Python prints it: the cause first, the exception that was raised last."""
    if not isinstance(detail, Sequence) or isinstance(detail, str):
        return
    for number, exception in enumerate(reversed([item for item in detail if isinstance(item, Mapping)])):
        if number:
            yield "  which led to:"
        for frame in exception.get("frames") or ():
            yield f'  File "{frame.get("filename")}", line {frame.get("lineno")}, in {frame.get("name")}'
        yield f"{exception.get('exc_type')}: {exception.get('exc_value')}"


def is_error(level: str) -> bool:
    """Whether a record tells of something that went wrong."""
    number = logging.getLevelName("ERROR" if level == "exception" else level.upper())
    return isinstance(number, int) and number >= logging.ERROR
