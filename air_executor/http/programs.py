"""Routes for programs that follow many runs or hand over a pipeline: what would take many requests, in one."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from air_executor import definitions, model, pipelines
from air_executor.errors import InvalidNameError, NotFoundError
from air_executor.http import shapes
from air_executor.http.documented import CONFLICT, NOT_FOUND, WITH_BODY, router
from air_executor.http.places import PipelineName
from air_executor.http.service import Service, ServiceDep
from air_executor.http.tokens import Scope
from air_executor.http.views import Answer

read = router(Scope.READ, "programs")


@read.post("/runs/states", response_model=shapes.States, responses=WITH_BODY)
def list_states(service: ServiceDep, body: shapes.StatesRequest) -> Response:
    """How these runs are at this moment, by the names or ids that were given; null for one that is not there."""
    return Answer({"runs": {name: _state(service, name) for name in body.runs}})


def _state(service: Service, name: str) -> dict[str, Any] | None:
    try:
        job = service.client.get_job(name)
    except (NotFoundError, InvalidNameError):
        return None
    return {"name": job.name, "state": job.state, "attempt": job.attempt, "damaged": _is_damaged(job)}


def _is_damaged(job: model.Job) -> bool:
    """Whether its files are: which attempt ended is lost then."""
    return job.exit is not None and job.exit.kind is model.ExitKind.DAMAGED


@read.post(
    "/pipelines/{pipeline}/plan",
    response_model=shapes.Plan,
    responses={**NOT_FOUND, **CONFLICT, **WITH_BODY},
)
def plan_run(service: ServiceDep, pipeline: PipelineName, body: shapes.PlanRequest) -> Response:
    """What a run of a pipeline would be with these values; nothing is created."""
    try:
        job = pipelines.submission(service.home, pipeline, params=body.parameters, environment=body.environment).job
    except InvalidNameError:
        raise NotFoundError(f"there is no pipeline {pipeline!r:.80}") from None
    return Answer({"labels": job.labels, **_options(job)})


def _options(job: model.Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in definitions.JOB_SETTINGS}
