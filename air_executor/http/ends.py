"""Routes of ends: for those who follow what they do not know yet, such as all runs of a pipeline.

A listener hears of each end at least once, also of those that came while nobody asked: it says that it has dealt with
one. Listeners of other programs on the home are out of reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Annotated, Literal

from fastapi import Path
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from air_executor import ends
from air_executor.awaiting import JobWatch
from air_executor.http import shapes
from air_executor.http.documented import NOT_FOUND, router
from air_executor.http.problems import RETRY_AFTER, Problem
from air_executor.http.runs import Wait
from air_executor.http.service import Service, ServiceDep, wake
from air_executor.http.tokens import Scope
from air_executor.http.views import Answer
from air_executor.listeners import Listener

PREFIX = "http-"
"""Of the ids of listeners that are asked for here."""

Kind = Annotated[Literal["job", "pipeline"], Path(description="Whose ends: of runs of a name, or of a pipeline")]
Name = Annotated[shapes.Name, Path(description="Of the run or the pipeline")]
ListenerId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=ends.MAX_ID_BYTES - len(PREFIX),
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Tells it from others that listen to the same; choose one that nobody guesses",
    ),
]
MAX_LISTENERS = 1000
"""Asked for here, in a home: every end of a job looks through their names."""
WHERE = "/ends/{kind}/{name}/{listener}"

read = router(Scope.READ, "ends")


def _listener(service: Service, kind: str, name: str, listener: str) -> Listener:
    return Listener(service.home, kind, name, f"{PREFIX}{listener}")


@read.put(WHERE, status_code=204, response_class=Response, responses=NOT_FOUND)
def listen(service: ServiceDep, kind: Kind, name: Name, listener: ListenerId) -> Response:
    """Begin to listen, or go on; once a week at least, or what was kept is dropped."""
    found = _listener(service, kind, name, listener)
    if not found.directory.is_dir() and _count(service) >= MAX_LISTENERS:
        detail = f"{MAX_LISTENERS} listen already; one must be dropped first: DELETE what is not needed any more"
        raise Problem(503, "busy", detail, headers={"Retry-After": str(RETRY_AFTER)})
    found.open()
    return Response(status_code=204)


def _count(service: Service) -> int:
    try:
        names = os.listdir(service.home.listeners)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return sum(f",{PREFIX}" in name for name in names)


@read.get(WHERE, response_model=shapes.Ends)
async def list_ends(service: ServiceDep, kind: Kind, name: Name, listener: ListenerId, wait: Wait = 0) -> Response:
    """The ends that were not dealt with, the first first; if it is wanted, once there is one."""
    found = _listener(service, kind, name, listener)
    pending = await run_in_threadpool(found.pending)
    if wait and not pending:
        await _until_told(service, found, wait)
        pending = await run_in_threadpool(found.pending)
    return Answer({"ends": [{"run": end.job, "attempt": end.attempt} for end in pending]})


async def _until_told(service: Service, listener: Listener, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def told() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(wake, future)

    watch = JobWatch.shared(service.home)
    watch.listen(listener.directory, told)
    try:
        with service.closing.waking(future):
            await asyncio.wait([future], timeout=seconds)
    finally:
        watch.unlisten(listener.directory, told)


@read.delete(f"{WHERE}/{{run}}/{{attempt}}", status_code=204, response_class=Response)
def deal_with(
    service: ServiceDep,
    kind: Kind,
    name: Name,
    listener: ListenerId,
    run: Annotated[shapes.Name, Path()],
    attempt: Annotated[int, Path(ge=0, le=2**53)],
) -> Response:
    """Say that an end was dealt with: it is not told again."""
    _listener(service, kind, name, listener).done(run, attempt)
    return Response(status_code=204)


@read.delete(WHERE, status_code=204, response_class=Response)
def forget(service: ServiceDep, kind: Kind, name: Name, listener: ListenerId) -> Response:
    """Listen no more, and drop what was not dealt with."""
    _listener(service, kind, name, listener).forget()
    return Response(status_code=204)
