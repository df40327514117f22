"""Whose a request is, and whether it may be made.

It is asked before anything of a request is read but its head: nobody without a token costs more than a look at a file.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import OrderedDict
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from air_executor.errors import CorruptFileError, NotFoundError
from air_executor.http import tokens
from air_executor.http.problems import RETRY_AFTER, Problem
from air_executor.http.service import Service
from air_executor.http.tokens import Scope, Standing, Token
from air_executor.paths import Home

REMEMBERED_FOR = 0.5
"""Seconds after which a token's file is looked at again: so soon a revocation counts."""
REMEMBERED = 1000
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="air-executor"'}
_BEARER = re.compile(r"bearer +([^ ]+) *\Z", re.IGNORECASE)

SCHEME = HTTPBearer(auto_error=False, scheme_name="token", description="`ax_<id>_<secret>`, see docs/http.md")
"""For the document alone."""


class Registry:
    """The tokens of a home, each read at most every `REMEMBERED_FOR` seconds. Thread-safe."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, Token]] = OrderedDict()
        self._noted: dict[str, float] = {}

    def find(self, token_id: str) -> Token | None:
        """The token of this id; None if there is none that can be read."""
        with self._lock:
            read_at, token = self._known.get(token_id, (float("-inf"), None))
        if token is not None and time.monotonic() - read_at < REMEMBERED_FOR:
            return token
        return self._read(token_id)

    def _read(self, token_id: str) -> Token | None:
        moment = time.monotonic()  # before it is read: what changes meanwhile is seen so much sooner
        try:
            token = tokens.read(self._home, token_id)
        except (NotFoundError, CorruptFileError):
            token = None
        with self._lock:
            self._known.pop(token_id, None)
            if token is not None:
                self._known[token_id] = moment, token
            if len(self._known) > REMEMBERED:
                self._noted.pop(self._known.popitem(last=False)[0], None)
        return token

    def note_use(self, token: Token) -> None:
        """Note that a token is used, at most once a minute."""
        moment = time.monotonic()
        with self._lock:
            if moment - self._noted.get(token.id, float("-inf")) < tokens.USE_NOTED_EVERY:
                return
            self._noted[token.id] = moment
        tokens.note_use(self._home, token.id)


def given(header: str | None) -> tuple[str, str] | None:
    """Id and secret of the token in a header `Authorization`; None if there is none that could be one. Pure."""
    found = _BEARER.match(header or "")
    return tokens.parse(found[1]) if found else None


def why_not(token: Token | None, secret: str, now: float) -> str | None:
    """Why nobody is let in with this; None if that is all right. Who knows no secret is told nothing. Pure."""
    if token is None or not tokens.matches(token, secret):
        return "the token is not known here; create one with: air-executor token create"
    standing = token.standing(now)
    return None if standing is Standing.VALID else f"the token {token.id} {standing.value}; create another one"


def identify(service: Service, registry: Registry, header: str | None) -> Token:
    """Whose a request is.

    Raises:
        Problem: nobody's who may make any.
    """
    parts = given(header)
    if parts is None:
        raise unknown("give a token: Authorization: Bearer ax_<id>_<secret>")
    token = registry.find(parts[0])
    refusal = why_not(token, parts[1], service.clock())
    if token is None or refusal is not None:
        raise unknown(refusal or "")
    registry.note_use(token)
    return token


def unknown(why: str) -> Problem:
    """Nobody's request."""
    return Problem(401, "unauthorized", why, headers=CHALLENGE)


def hurried(seconds: float, whose: str) -> Problem:
    """Somebody asks too often."""
    wait = max(1, math.ceil(seconds))
    return Problem(
        429,
        "too-many-requests",
        f"too many requests {whose}; try again in {wait} s",
        headers={"Retry-After": str(wait)},
    )


def busy(why: str) -> Problem:
    """Too much is being answered."""
    return Problem(503, "busy", f"{why}; try again later", headers={"Retry-After": str(RETRY_AFTER)})


async def admit(request: Request, scope: Scope) -> Token:
    """Let a request in.

    Raises:
        Problem: its token is none, does not allow it, or is used too much.
    """
    service: Service = request.app.state.service
    registry: Registry = request.app.state.registry
    header = request.headers.get("authorization")
    try:
        token = await run_in_threadpool(identify, service, registry, header)
    except Problem:
        check_stranger(request)
        raise
    request.scope["air_executor.token"] = token
    if wait := service.limiter.wait(token.id):
        raise hurried(wait, "of this token")
    if not token.allows(scope):
        raise Problem(
            403, "forbidden", f"this needs the scope {scope}; the token {token.id} has {', '.join(token.scopes)}"
        )
    if scope is not Scope.CANCEL:  # what is to end must not wait for those who wait for its end
        if not service.shares.enter(token.id):
            raise busy(f"{service.shares.most} requests of the token {token.id} are being answered")
        request.scope["air_executor.share"] = token.id
    return token


def check_stranger(request: Request) -> None:
    """Count a request that nobody is known to have made.

    Raises:
        Problem: there are too many from its address.
    """
    service: Service = request.app.state.service
    address = request.client.host if request.client else "unknown"
    if wait := service.strangers.wait(address):
        raise hurried(wait, "without a valid token from this address")


def still_counts(request: Request) -> bool:
    """Whether the token that let a request in has not been revoked since, and has not expired."""
    registry: Registry = request.app.state.registry
    service: Service = request.app.state.service
    token = registry.find(caller(request).id)
    return token is not None and token.standing(service.clock()) is Standing.VALID


def caller(request: Request) -> Token:
    """Who was let in."""
    found: Token = request.scope["air_executor.token"]
    return found


CallerDep = Annotated[Token, Depends(caller)]
