"""What tasks hand over: JSON that each may write to a file of its own, and result.json, where it is kept together.

A task finds the path of its file in `$AIR_EXECUTOR_OUTPUT`. Only what completed tasks wrote counts. Until the job is
over it is in those files; then result.json has it all, by task.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from typing import Any

from air_executor import _files, _json, model, validation
from air_executor.errors import CorruptFileError
from air_executor.paths import OUTPUT_SUFFIX, Home, JobPaths

MAX_TASK_BYTES = 2**20
"""What one task may write: it is kept in a database when Airflow asks for it, and read whole."""
MAX_DEPTH, MAX_DIGITS = 50, 1000
"""How deep it may be nested, and how many digits a whole number may have: what others read must not fail over it."""
SHOWN_BYTES = 2**16
"""Up to so many, result.json is written for people to read; indented, it may be many times as large."""
MAX_JOB_BYTES = 16 * 2**20
"""What all tasks of a job may write, together."""


def take(paths: JobPaths, task_id: str, room: int = MAX_JOB_BYTES) -> int:
    """Look at what a task wrote.

    Args:
        room: bytes that the job's result may still grow by.

    Returns:
        Its size; 0 if it wrote nothing.

    Raises:
        ValueError: it cannot be taken; the message says why, for people.
    """
    try:
        size = os.stat(paths.output(task_id)).st_size  # noqa: PTH116
        if size > MAX_TASK_BYTES:
            raise ValueError(f"wrote a result of {size} bytes; at most {MAX_TASK_BYTES} are taken")
        if size > room:
            raise ValueError(f"wrote a result of {size} bytes, more than {MAX_JOB_BYTES} with those of its job")
        _parse(paths, task_id)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise ValueError(f"wrote a result that cannot be read: {error.strerror}") from None
    return size


def drop(paths: JobPaths, task_id: str) -> None:
    """Forget what a task wrote that starts again."""
    _files.discard(paths.output(task_id))


def gather(paths: JobPaths, tasks: Iterable[model.Task]) -> dict[str, Any]:
    """What the completed tasks wrote, by task.

    Raises:
        CorruptFileError: result.json is damaged, which what was kept from an attempt before is in.
        OSError: a file cannot be read. Such trouble passes, and what completed tasks wrote must not be lost to it.
    """
    written = _written(paths)
    before = None
    result = {}
    for task in tasks:
        if task.was_kept:
            before = _read(paths) if before is None else before
            if task.id in before:
                result[task.id] = before[task.id]
        elif task.status is model.TaskStatus.COMPLETED and task.id in written:
            try:
                result[task.id] = _parse(paths, task.id)
            except (ValueError, FileNotFoundError):  # nobody has looked at it: its ephemeral runner died
                continue
    return result


def write(paths: JobPaths, tasks: Iterable[model.Task]) -> None:
    """Write result.json, as part of a job's end; safe to repeat."""
    if not _written(paths) and not os.path.lexists(paths.result):
        return
    try:
        result = gather(paths, tasks)
    except CorruptFileError:
        _files.set_aside(paths.result)
        result = gather(paths, tasks)
    if result:
        text = _json.line(result)
        text = _json.pretty(result) if len(text) <= SHOWN_BYTES else text
        _files.replace(paths.result, text, durable=True)
    else:
        _files.discard(paths.result)


def read(home: Home, job: model.Job, tasks: Iterable[model.Task]) -> dict[str, Any]:
    """The result of a job, by task; of one that is not over, what has been written so far.

    Raises:
        CorruptFileError: result.json is damaged.
    """
    paths = home.job(job.name)
    return _read(paths) if job.state.terminal else gather(paths, tasks)


def _read(paths: JobPaths) -> dict[str, Any]:
    try:
        return _files.read_object(paths.result)
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _written(paths: JobPaths) -> set[str]:
    """The tasks that wrote something."""
    try:
        names = os.listdir(paths.logs)  # noqa: PTH208
    except OSError as error:
        if error.errno in _files.TRANSIENT:  # as if nobody had written anything
            raise
        return set()
    return {name[1 : -len(OUTPUT_SUFFIX)] for name in names if name.startswith(".") and name.endswith(OUTPUT_SUFFIX)}


def _parse(paths: JobPaths, task_id: str) -> Any:
    try:
        data = _files.read_bytes(paths.output(task_id))
    except CorruptFileError as error:
        raise ValueError(f"wrote a result that cannot be read: {error}") from None
    if len(data) > MAX_TASK_BYTES:
        raise ValueError(f"wrote a result of more than {MAX_TASK_BYTES} bytes")
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
        validation.check_depth("it", value, MAX_DEPTH)
    except RecursionError:
        raise ValueError(f"wrote a result that is nested more than {MAX_DEPTH} levels deep") from None
    except UnicodeDecodeError:
        raise ValueError("wrote a result that is not UTF-8; write JSON") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"wrote a result that is not JSON ({error.msg} at {where})") from None
    except ValueError as error:
        raise ValueError(f"wrote a result that cannot be taken: {error}") from None
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"it has a number of {len(text)} digits; at most {MAX_DIGITS} are taken")
    return int(text)
