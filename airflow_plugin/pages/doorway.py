"""What all requests and answers of the pages have in common: where a request may come from, and what a browser may do
with an answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse

from air_executor.errors import (
    AirExecutorError,
    InvalidInputError,
    InvalidNameError,
    JobBusyError,
    NotFoundError,
    RunnerError,
)
from air_executor.paths import Home

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[..., Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

OWN_HEADER = "X-Air-Executor"
"""A page of another site cannot send a header of this name without being allowed to, and nobody is."""
SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'self'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)
HEADERS = {
    "content-security-policy": SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
NO_STORE = "no-store"
AT_ONCE = 8
"""Of forty threads that an API server has. A home on a file system that hangs holds each that looks at it, and the
others are wanted: running tasks say in them that they are alive."""
PATIENCE = 10.0
"""Seconds that a request waits for its turn."""


class Guarded:
    """Gives each answer the headers that keep a browser careful; nothing is stored unless an answer says otherwise.

    Answers so many at once, and no more.
    """

    def __init__(self, app: App, at_once: int = AT_ONCE, patience: float = PATIENCE) -> None:
        self._app, self._patience = app, patience
        self._turns = asyncio.Semaphore(at_once)

    async def __call__(self, scope: Message, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                wanted = {"cache-control": NO_STORE, **HEADERS}
                added = [(name.encode(), value.encode()) for name, value in wanted.items()]
                message["headers"] = [*message["headers"], *(each for each in added if each[0] not in there)]
            await send(message)

        try:
            await asyncio.wait_for(self._turns.acquire(), self._patience)
        except asyncio.TimeoutError:
            busy = JSONResponse({"detail": "all who look at the home still wait for it"}, 503)
            await busy(scope, receive, guarded)
            return
        try:
            await self._app(scope, receive, guarded)
        finally:
            self._turns.release()


def check_origin(request: Request) -> None:
    """Refuse what a page of another site might have sent in the name of somebody who is logged in."""
    if request.headers.get(OWN_HEADER) != "1":
        raise HTTPException(403, f"the header {OWN_HEADER}: 1 is missing")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the body must be application/json")
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        raise HTTPException(403, "the request comes from another site")
    origin = request.headers.get("origin")
    if site is None and origin is not None and urlsplit(origin).netloc not in _own_addresses(request):
        raise HTTPException(403, "the request comes from another site")


def _own_addresses(request: Request) -> set[str]:
    """A proxy may have changed the one, and nobody may have set the other."""
    from airflow.configuration import conf

    return {request.headers.get("host", ""), urlsplit(conf.get("api", "base_url", fallback="") or "").netloc} - {""}


@contextlib.contextmanager
def refusals(home: Home, what: str = "job") -> Iterator[None]:
    """Answer as HTTP does what the core refuses. No message says where the home is."""
    try:
        yield
    except (InvalidNameError, NotFoundError, FileNotFoundError):
        raise HTTPException(404, f"there is no such {what}") from None
    except (JobBusyError, RunnerError) as error:
        raise HTTPException(409, _without(home, error)) from None
    except (InvalidInputError, ValueError) as error:
        raise HTTPException(422, _without(home, error)) from None
    except (AirExecutorError, OSError) as error:
        raise HTTPException(503, _without(home, error)) from None


def _without(home: Home, error: Exception) -> str:
    return str(error).replace(f"{home.root}/", "").replace(str(home.root), "the home")
