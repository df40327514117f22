"""What the document says of refusals, so that every answer that can come is in it; and the routers of each scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Security

from air_executor.http import problems
from air_executor.http.access import SCHEME
from air_executor.http.guard import guarded
from air_executor.http.tokens import Scope

Answers = dict[int | str, dict[str, Any]]

_RETRY_AFTER = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "string"}}}


def refusal(description: str, headers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An answer that refuses."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": description,
        "content": {problems.MEDIA_TYPE: {"schema": schema}},
        **({"headers": headers} if headers else {}),
    }


BY_ALL: Answers = {
    429: refusal("There were too many requests", _RETRY_AFTER),
    503: refusal("The home or the server cannot answer at this moment", _RETRY_AFTER),
}
WITH_TOKEN: Answers = {
    401: refusal("There is no valid token"),
    403: refusal("The token does not allow this"),
    422: refusal("A value is wrong"),
    **BY_ALL,
}
WITH_BODY: Answers = {
    400: refusal("The body cannot be read"),
    408: refusal("The body did not come in time"),
    413: refusal("The body is too large"),
    415: refusal("The body is not said to be JSON"),
}
NOT_FOUND: Answers = {404: refusal("There is no such thing")}
CONFLICT: Answers = {409: refusal("The state, or a file that is damaged, does not allow this")}
OF_RUN: Answers = {**NOT_FOUND, **CONFLICT}


def router(scope: Scope, tag: str) -> APIRouter:
    """For routes that need this scope."""
    return APIRouter(
        route_class=guarded(scope),
        dependencies=[Security(SCHEME, scopes=[scope.value])],
        responses=WITH_TOKEN,
        tags=[tag],
    )
