"""The app: routes put together, refusals as answers, and the document that describes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from air_executor import __version__
from air_executor.errors import AirExecutorError
from air_executor.http import access, ends, logs, places, problems, programs, runs, shapes
from air_executor.http.access import Registry
from air_executor.http.guard import Gate
from air_executor.http.idempotency import Notes
from air_executor.http.problems import Problem
from air_executor.http.service import Service, of
from air_executor.http.views import Answer

PREFIX = "/api/v1"
DOCUMENT = f"{PREFIX}/openapi.json"
_ABOUT = "Runs of an Air-Executor home. A run is a job: a directory that anybody on the host can read."
ROUTERS = (
    runs.submit,
    runs.read,
    runs.cancel,
    logs.read,
    ends.read,
    programs.read,
    places.read,
    places.admin,
    places.free,
)


def build(service: Service) -> FastAPI:
    """The app that serves a home."""

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="Air-Executor",
        version=__version__,
        description=_ABOUT,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=living,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.registry = Registry(service.home)
    app.state.notes = Notes(service.home)
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    _refuse(app)
    app.add_middleware(Gate, service=service)
    _describe(app)
    return app


def _refuse(app: FastAPI) -> None:
    """Let every refusal be a problem."""

    @app.exception_handler(Problem)
    async def refuse(_: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(AirExecutorError)
    async def refuse_as_core(request: Request, error: AirExecutorError) -> Response:
        return problems.of_error(of(request).home, error).response()

    @app.exception_handler(OSError)
    async def refuse_as_system(request: Request, error: OSError) -> Response:
        return problems.of_error(of(request).home, error).response()

    @app.exception_handler(RequestValidationError)
    async def refuse_values(_: Request, error: RequestValidationError) -> Response:
        return problems.of_validation(error).response()

    @app.exception_handler(HTTPException)
    async def refuse_as_framework(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:  # what it says is allowed is of the first route of several at that address
            allowed = ", ".join(sorted(_methods(app, request)))
            error = HTTPException(405, f"only {allowed} is possible here", {"Allow": allowed})
        return problems.of_http(error).response()


def _methods(app: FastAPI, request: Request) -> set[str]:
    """What is possible at an address. Whether the app's own routes are all that there are depends on its version."""
    path = request.scope["path"]
    asked = [(route, path) for route in app.routes]
    asked += [(route, path.removeprefix(PREFIX)) for router in ROUTERS for route in router.routes]
    return {method for route, place in asked for method in _methods_at(route, request.method, place)}


def _methods_at(route: BaseRoute, method: str, path: str) -> set[str]:
    scope = {"type": "http", "method": method, "path": path, "root_path": ""}
    if not isinstance(route, Route) or route.matches(scope)[0] is Match.NONE:
        return set()
    return set(route.methods or ())


def _describe(app: FastAPI) -> None:
    """The document, made once: it has the shape of problems, and the number of those who may ask for it is limited."""

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            made = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = shapes.Problem.model_json_schema()
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]

    @app.get(DOCUMENT, include_in_schema=False)
    async def show_document(request: Request) -> Response:
        access.check_stranger(request)
        return Answer(app.openapi())
