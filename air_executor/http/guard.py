"""What every request goes through, before it is looked at and after it was answered.

::

    Gate      how many are answered at once; how long a client may take; one line in the log; refusals of our own
      app     FastAPI finds the route
        Guarded   the token and its scope (`access`), then the body up to its limit, then FastAPI again
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from air_executor.http import access
from air_executor.http.problems import Problem
from air_executor.http.service import Service
from air_executor.http.tokens import Scope
from air_executor.settings import HttpSettings

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
SHOWN_PATH = 300
_TWO_ENDS = frozenset({b"content-length", b"transfer-encoding"})
"""Of a request with both, a proxy may see another end, and so another request after it."""
_SECRET = re.compile(r"(ax_[0-9a-f]{12})_\w+")


class ClientGone(Exception):
    """A client that went away, or takes nothing of its answer: there is nobody to tell."""


class Gate:
    """The outermost part of the app."""

    def __init__(self, app: App, service: Service) -> None:
        self._app, self._settings, self._shares = app, service.settings, service.shares
        self._under_way = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, self._settings.client_timeout)
        self._under_way += 1
        try:
            await self._answer(scope, receive, answer)
        except ClientGone:
            answer.note = "the client is gone"
        except asyncio.CancelledError:
            answer.note = "given up"
            raise
        finally:
            self._under_way -= 1
            if (whose := scope.get("air_executor.share")) is not None:
                self._shares.leave(whose)
            log.info("%s", line(scope, answer))

    async def _answer(self, scope: Message, receive: Receive, answer: _Answer) -> None:
        if self._under_way > self._settings.max_requests:
            refusal = access.busy(f"{self._settings.max_requests} requests are being answered")
            await refusal.response()(scope, receive, answer.send)
            return
        if {name for name, _ in scope["headers"]} >= _TWO_ENDS:
            detail = "a request has either Content-Length or Transfer-Encoding"
            unclear = Problem(400, "bad-request", detail, headers={"Connection": "close"})
            await unclear.response()(scope, receive, answer.send)
            return
        try:
            await self._app(scope, receive, answer.send)
        except ClientGone:
            raise
        except Exception as error:
            log.error("trouble with %s: %s", scope["method"], where(error))
            if not answer.status:
                trouble = Problem(500, "internal", "something went wrong here; the server's log says what")
                await trouble.response()(scope, receive, answer.send)


class _Answer:
    """What is sent, with the headers that all answers have, and what is to be said of it."""

    def __init__(self, send: Send, patience: float) -> None:
        self._send, self._patience = send, patience
        self._began = time.monotonic()
        self.status, self.size, self.note = 0, 0, ""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            there = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(each for each in HEADERS if each[0] not in there)]
        self.size += len(message.get("body", b""))
        try:
            await asyncio.wait_for(self._send(message), self._patience)
        except asyncio.TimeoutError:
            raise ClientGone from None


def line(scope: Message, answer: _Answer) -> str:
    """What the log says of a request: nothing that it sent but the path, and no token in that. Pure."""
    token = scope.get("air_executor.token")
    client = scope.get("client")
    said = (
        f"{client[0] if client else '-'} {token.id if token else '-'} {scope['method']} {shown_path(scope['path'])}"
        f" {answer.status or '-'} {answer.size} bytes {answer.seconds * 1000:.0f} ms"
    )
    return f"{said} ({answer.note})" if answer.note else said


def shown_path(path: str) -> str:
    """A path as one word that a terminal only shows. Pure."""
    masked = _SECRET.sub(r"\1_***", path)
    return quote(masked[:SHOWN_PATH], safe="/._-~:*,", errors="replace")


def where(error: BaseException) -> str:
    """Where something went wrong, without what it says: that may be what somebody sent. Pure."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return f"{type(error).__name__} at " + " < ".join(f"{each.filename}:{each.lineno}" for each in reversed(frames))


# --- One route ---


def guarded(scope: Scope) -> type[APIRoute]:
    """The class of routes that need this scope."""

    class Guarded(APIRoute):
        """Asks for the token before FastAPI reads the body, and reads that itself."""

        needs = scope

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            reads = self.body_field is not None
            known = query_names(self.dependant)

            async def admitted(request: Request) -> Response:
                await access.admit(request, scope)
                check_query(request.query_params, known)
                return await handle(await _with_body(request) if reads else request)

            return admitted

    return Guarded


def query_names(dependant: Dependant) -> set[str]:
    """The names that a route takes in its query. Pure."""
    below = (query_names(each) for each in dependant.dependencies)
    return {field.alias for field in dependant.query_params}.union(*below)


def check_query(given: Iterable[str], known: Collection[str]) -> None:
    """Pure.

    Raises:
        Problem: a name is none of those that are known here: a list that was to be narrowed by it would be of all.
    """
    for name in given:
        if name not in known:
            there = f"known are {', '.join(sorted(known))}" if known else "there is none here"
            wrong = {"where": f"query.{name}"[:60], "why": f"unknown; {there}"}
            detail = f"{wrong['where']}: {wrong['why']}"
            raise Problem(422, "invalid-input", detail, fields={"errors": [wrong]})


async def _with_body(request: Request) -> Request:
    """The request, all of whose body has come.

    Raises:
        Problem: it is said to be no JSON, is too large, or does not come.
    """
    settings: HttpSettings = request.app.state.service.settings
    check_kind(request.headers)
    try:
        body = await asyncio.wait_for(_read(request, settings.max_body_kb * 1024), settings.client_timeout)
    except asyncio.TimeoutError:
        detail = f"the body did not come within {settings.client_timeout:g} s"
        raise Problem(408, "slow-request", detail, headers={"Connection": "close"}) from None

    async def replay() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, replay)


def check_kind(headers: Mapping[str, str]) -> None:
    """Pure.

    Raises:
        Problem: a body is said to be something else than JSON, or nothing is said of it.
    """
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and kind != "application/json":
        raise Problem(415, "no-json", "a body is JSON; say so with the header Content-Type: application/json")


async def _read(request: Request, limit: int) -> bytes:
    """What arrives counts, and what is claimed only if that is too much already."""
    claimed = request.headers.get("content-length", "")
    size = int(claimed) if claimed.isascii() and claimed.isdigit() and len(claimed) < 20 else 0
    body = bytearray()
    if size <= limit:
        try:
            async for chunk in request.stream():
                size = len(body) + len(chunk)
                if size > limit:
                    break
                body += chunk
        except ClientDisconnect:
            raise ClientGone from None
    if size > limit:
        detail = f"a body may have {limit} bytes; see max_body_kb in the table [http] of config.toml"
        raise Problem(413, "too-large", detail, headers={"Connection": "close"})
    return bytes(body)
