"""Every refusal, as one kind of answer: `application/problem+json` (RFC 9457).

`type` is `urn:air-executor:<word>`, by which programs tell problems apart; the words are the keys of `TITLES`. No
`detail` says where the home is, or repeats a body.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from air_executor import sentences
from air_executor.errors import (
    AirExecutorError,
    CorruptFileError,
    HomeError,
    InvalidInputError,
    InvalidJobError,
    InvalidNameError,
    InvalidParameterError,
    InvalidPipelineError,
    JobBusyError,
    JobExistsError,
    NotFoundError,
    RunnerError,
    WaitTimeoutError,
)
from air_executor.paths import Home

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:air-executor:"
MOST_ERRORS = 20
RETRY_AFTER = 5
"""Seconds after which one may try again what may go by itself."""

TITLES: Mapping[str, str] = {
    "bad-request": "The request cannot be read",
    "unauthorized": "A valid token is needed",
    "forbidden": "The token does not allow this",
    "not-found": "There is no such thing",
    "method-not-allowed": "This cannot be done here",
    "slow-request": "The request took too long",
    "too-large": "The request is too large",
    "no-json": "The body is of another kind",
    "range-not-satisfiable": "There is nothing at that place",
    "invalid-input": "A value is wrong",
    "invalid-name": "A name is wrong",
    "invalid-job": "This makes no job",
    "invalid-pipeline": "The pipeline has problems",
    "invalid-parameter": "The pipeline does not take this",
    "key-reused": "The Idempotency-Key was used for something else",
    "too-many-requests": "Too many requests",
    "job-exists": "The name is taken",
    "job-busy": "The state of the run does not allow this",
    "corrupt-file": "A file of the run is damaged",
    "runner": "A runner is in the way",
    "home": "The home cannot be used",
    "wait-timeout": "It took too long",
    "busy": "Too many requests are being answered",
    "internal": "Something went wrong here",
}

_BY_CLASS: tuple[tuple[type[AirExecutorError], int, str], ...] = (
    (InvalidNameError, 422, "invalid-name"),
    (InvalidJobError, 422, "invalid-job"),
    (InvalidPipelineError, 422, "invalid-pipeline"),
    (InvalidParameterError, 422, "invalid-parameter"),
    (InvalidInputError, 422, "invalid-input"),
    (NotFoundError, 404, "not-found"),
    (JobExistsError, 409, "job-exists"),
    (JobBusyError, 409, "job-busy"),
    (CorruptFileError, 409, "corrupt-file"),
    (RunnerError, 409, "runner"),
    (HomeError, 503, "home"),
    (WaitTimeoutError, 503, "wait-timeout"),
)
"""A class stands before those that it is derived from."""
_BY_STATUS: Mapping[int, str] = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    422: "invalid-input",
}


class Problem(Exception):
    """A refusal.

    Args:
        status: of HTTP.
        word: one of `TITLES`.
        detail: what is wrong, where, and what to do.
        fields: what else the answer says.
    """

    def __init__(
        self,
        status: int,
        word: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.word, self.detail = status, word, detail
        self.headers = dict(headers or {})
        self.fields = dict(fields or {})

    def response(self) -> Response:
        """As it is sent."""
        content = {
            "type": f"{PREFIX}{self.word}",
            "title": TITLES[self.word],
            "status": self.status,
            "detail": self.detail,
            **self.fields,
        }
        body = json.dumps(content, separators=(",", ":")).encode()
        return Response(body, self.status, self.headers, MEDIA_TYPE)


def of_error(home: Home, error: AirExecutorError | OSError) -> Problem:
    """What the core refuses, as HTTP does. Pure."""
    if isinstance(error, OSError) and not isinstance(error, AirExecutorError):
        return _for_a_while("home", f"the home cannot be used at this moment: {error.strerror or type(error).__name__}")
    detail = without(home, str(error))
    fields = (
        {"problems": [without(home, each) for each in error.problems]}
        if isinstance(error, InvalidPipelineError)
        else {}
    )
    for kind, status, word in _BY_CLASS:
        if isinstance(error, kind):
            return Problem(status, word, detail, fields=fields) if status != 503 else _for_a_while(word, detail)
    return Problem(500, "internal", detail)


def _for_a_while(word: str, detail: str) -> Problem:
    return Problem(503, word, detail, headers={"Retry-After": str(RETRY_AFTER)})


without = sentences.without_home

_SENTENCES = ("reason", "error", "why")


def hide(home: Home, told: Any) -> Any:
    """What is told, with sentences that do not say where the home is. Pure."""
    if isinstance(told, list):
        return [hide(home, each) for each in told]
    if not isinstance(told, dict):
        return told
    return {
        key: without(home, value) if key in _SENTENCES and isinstance(value, str) else hide(home, value)
        for key, value in told.items()
    }


def of_validation(error: RequestValidationError) -> Problem:
    """What FastAPI found wrong with a request; what was sent is not repeated. Pure."""
    wrong = [_wrong(each) for each in error.errors()[:MOST_ERRORS]]
    first = f"{wrong[0]['where']}: {wrong[0]['why']}" if wrong else "the request is not what it should be"
    return Problem(422, "invalid-input", first, fields={"errors": wrong})


def _wrong(found: Mapping[str, Any]) -> dict[str, str]:
    """One thing that is wrong, in the words of our own checks where those found it."""
    if found["type"] == "json_invalid":
        what, place = found.get("ctx", {}).get("error", "it ends too soon"), found["loc"][-1]
        return {"where": "body", "why": f"it is no JSON, from character {place} on: {what}"[:500]}
    return {"where": _place(found["loc"]), "why": str(found["msg"]).removeprefix("Value error, ")[:500]}


def _place(loc: Sequence[object]) -> str:
    return ".".join(f"{each!s:.60}" for each in loc)[:500]


def of_http(error: HTTPException) -> Problem:
    """What the framework refused. Pure."""
    word = _BY_STATUS.get(error.status_code, "bad-request" if error.status_code < 500 else "internal")
    return Problem(error.status_code, word, str(error.detail), headers=error.headers)
