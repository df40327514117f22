"""Routes of what there is beside runs: pipelines, queues, and how the home is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from air_executor import __version__, pauses, pipelines
from air_executor.errors import InvalidNameError, NotFoundError
from air_executor.http import access, documented, shapes, views
from air_executor.http.access import CallerDep
from air_executor.http.documented import CONFLICT, NOT_FOUND, WITH_BODY, router
from air_executor.http.problems import without
from air_executor.http.service import Service, ServiceDep
from air_executor.http.tokens import Scope
from air_executor.http.views import Answer

PipelineName = Annotated[str, Path(alias="pipeline", min_length=1, max_length=250)]
QueueName = Annotated[shapes.Queue, Path(alias="queue")]

read = router(Scope.READ, "home")
admin = router(Scope.ADMIN, "home")
free = APIRouter(tags=["home"])


@read.get("/pipelines", response_model=shapes.Pipelines)
def list_pipelines(service: ServiceDep) -> Response:
    """The pipelines of the home, also those whose file has problems."""
    return Answer({"pipelines": [_told(service, each) for each in pipelines.find_all(service.home)]})


@read.get("/pipelines/{pipeline}", response_model=shapes.Pipeline, responses=NOT_FOUND)
def show_pipeline(service: ServiceDep, pipeline: PipelineName) -> Response:
    """One pipeline."""
    try:
        return Answer(_told(service, pipelines.find(service.home, pipeline)))
    except InvalidNameError:
        raise NotFoundError(f"there is no pipeline {pipeline!r:.80}") from None


def _told(service: Service, pipeline: pipelines.Pipeline) -> dict[str, Any]:
    return views.of_pipeline(pipeline, [without(service.home, each) for each in pipeline.blueprint.problems])


@read.get("/queues", response_model=shapes.Queues)
def list_queues(service: ServiceDep) -> Response:
    """Queues in which something waits, that a runner serves, or that are paused."""
    return Answer({"queues": [views.of_queue(each) for each in service.status().queues]})


@admin.post("/queues/{queue}/pause", response_model=shapes.Changed, responses={**CONFLICT, **WITH_BODY})
def pause_queue(
    service: ServiceDep, caller: CallerDep, queue: QueueName, body: shapes.WhyRequest | None = None
) -> Response:
    """Let no runner start a run of a queue."""
    return Answer({"changed": pauses.pause(service.home, queue, by=caller.user, why=body.why if body else "")})


@admin.post("/queues/{queue}/resume", response_model=shapes.Changed, responses={**CONFLICT, **WITH_BODY})
def resume_queue(
    service: ServiceDep, caller: CallerDep, queue: QueueName, body: shapes.WhyRequest | None = None
) -> Response:
    """Let runners start the runs of a queue again."""
    return Answer({"changed": pauses.resume(service.home, queue, by=caller.user, why=body.why if body else "")})


@free.get(
    "/health",
    response_model=shapes.Health,
    response_model_exclude_none=True,
    responses={
        401: documented.refusal("A token was given, and is not valid"),
        403: documented.refusal("The token does not allow this"),
        **documented.BY_ALL,
    },
)
async def show_health(request: Request, service: ServiceDep) -> Response:
    """Whether the server is alive; with a token, how the home is."""
    alive: dict[str, Any] = {"status": "alive"}
    if "authorization" not in request.headers:
        access.check_stranger(request)
        return Answer(alive)
    token = await access.admit(request, Scope.READ)
    found = views.of_health(await run_in_threadpool(service.status))
    found["problems"] = [without(service.home, each) for each in found["problems"]]
    return Answer({**alive, "version": __version__, "scopes": list(token.scopes), **found})
