"""Routes of logs: what a task wrote, in whole, in part, or as it is written. Bytes, as they are."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated, NamedTuple

from fastapi import Header, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from air_executor import logtail, report, validation
from air_executor.errors import InvalidNameError, NotFoundError
from air_executor.http import access
from air_executor.http.documented import OF_RUN, refusal, router
from air_executor.http.problems import Problem
from air_executor.http.runs import RunId, find
from air_executor.http.service import Service, ServiceDep
from air_executor.http.tokens import Scope

PIECE = 256 * 1024
"""Bytes that are read, and sent, at once."""
LOOK_EVERY = 0.5
"""Seconds between looks at a log that is followed."""
MEDIA_TYPE = "text/plain; charset=utf-8"
MAX_OFFSET = 2**62
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})\Z")

TaskId = Annotated[str, Path(min_length=1, max_length=validation.MAX_ID_BYTES, description="The task's id")]

read = router(Scope.READ, "logs")


class Part(NamedTuple):
    """A part of a log: from here, to before there."""

    start: int
    stop: int


def wanted(header: str, size: int) -> Part | None:
    """What a header `Range` asks for of a log of this size; None if it is none of ours, and all is answered. Pure.

    Raises:
        Problem: there is nothing at that place.
    """
    found = _RANGE.match(header.strip())
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        start, stop = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        stop = min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= size:
        headers = {"Content-Range": f"bytes */{size}"}
        raise Problem(416, "range-not-satisfiable", f"the log has {size} bytes", headers=headers)
    return Part(start, stop)


def chosen(offset: int, limit: int | None, size: int) -> Part:
    """What is asked for with `offset` and `limit`; a negative offset counts from the end. Pure."""
    start = min(size, offset) if offset >= 0 else max(0, size + offset)
    return Part(start, size if limit is None else min(size, start + limit))


_CONTENT = {"text/plain": {"schema": {"type": "string", "format": "binary"}}}
_HEADERS = {
    "X-Log-Size": {"description": "bytes that the log has", "schema": {"type": "string"}},
    "X-Log-Start": {"description": "where this begins", "schema": {"type": "string"}},
    "X-Log-Over": {"description": "`true`: the run is over, and no more will come", "schema": {"type": "string"}},
    "X-Run-Attempt": {"description": "whose log it is", "schema": {"type": "string"}},
}


@read.get(
    "/runs/{run}/logs/{task}",
    response_class=Response,
    responses={
        200: {"description": "The log, or what was asked for of it", "content": _CONTENT, "headers": _HEADERS},
        206: {"description": "What the header Range asks for", "content": _CONTENT, "headers": _HEADERS},
        416: refusal("There is nothing at that place"),
        **OF_RUN,
    },
)
async def show_log(
    request: Request,
    service: ServiceDep,
    run: RunId,
    task: TaskId,
    offset: Annotated[int, Query(ge=-MAX_OFFSET, le=MAX_OFFSET, description="Negative: from the end")] = 0,
    limit: Annotated[int | None, Query(ge=1, le=MAX_OFFSET)] = None,
    follow: Annotated[
        bool, Query(description="Go on until the run is over; limit and Range do not matter then")
    ] = False,
    range: Annotated[str | None, Header(max_length=100, description="`bytes=0-99`, `bytes=100-`, `bytes=-100`")] = None,
) -> Response:
    """What a task wrote."""
    job = await run_in_threadpool(find, service, run)
    size = await run_in_threadpool(_size, service, job.name, task)
    headers = {
        "X-Log-Size": str(size),
        "X-Log-Over": "true" if job.state.terminal else "false",
        "X-Run-Attempt": str(job.attempt),
        "Accept-Ranges": "bytes",
    }
    if follow:
        start = chosen(offset, None, size).start
        stream = _follow(service, job.name, job.attempt, task, start, lambda: access.still_counts(request))
        return StreamingResponse(stream, headers={**headers, "X-Log-Start": str(start)}, media_type=MEDIA_TYPE)
    ranged = wanted(range, size) if range is not None else None
    part = ranged or chosen(offset, limit, size)
    headers["X-Log-Start"] = str(part.start)
    if ranged:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    stream = _send(service, job.name, task, part)
    return StreamingResponse(stream, 206 if ranged else 200, headers, MEDIA_TYPE)


def _size(service: Service, name: str, task: str) -> int:
    """How long the log is; 0 if the task has none yet.

    Raises:
        NotFoundError: there is no such task, or what is there is no log.
    """
    missing = NotFoundError(f"the run {name} has no task {task!r:.80}")
    try:
        validation.check_name("the task", task, validation.MAX_ID_BYTES)
        fd = logtail.open_log(service.home.job(name), task)
    except InvalidNameError:
        raise missing from None
    except (FileNotFoundError, NotADirectoryError):
        job = find(service, name)
        if task not in report.tasks_of(service.home, job):
            raise missing from None
        return 0
    except OSError:
        raise NotFoundError(f"what is in the place of the log of {task} is none") from None
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def _piece(service: Service, name: str, task: str, start: int, most: int) -> bytes:
    """Some of a log; nothing where there is none."""
    try:
        fd = logtail.open_log(service.home.job(name), task)
    except OSError:
        return b""
    try:
        return os.pread(fd, min(most, PIECE), start)
    finally:
        os.close(fd)


async def _send(service: Service, name: str, task: str, part: Part) -> AsyncIterator[bytes]:
    """As much as there was when it was asked for; less if the log was cut meanwhile."""
    start = part.start
    while start < part.stop:
        data = await run_in_threadpool(_piece, service, name, task, start, part.stop - start)
        if not data:
            return
        start += len(data)
        yield data


async def _follow(
    service: Service, name: str, attempt: int, task: str, start: int, may_go_on: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """What there is and what comes, until this attempt is over, nobody may see it any more, or the server ends."""
    while not service.closing.now and await run_in_threadpool(may_go_on):
        over = await run_in_threadpool(_is_over, service, name, attempt)  # first: what it wrote by then is read below
        while data := await run_in_threadpool(_piece, service, name, task, start, PIECE):
            start += len(data)
            yield data
        if over:
            return
        await service.until_over(name, LOOK_EVERY)


def _is_over(service: Service, name: str, attempt: int) -> bool:
    try:
        job = find(service, name)
    except NotFoundError:
        return True
    return job.state.terminal or job.attempt != attempt
