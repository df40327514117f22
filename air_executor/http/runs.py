"""Routes of runs: create them, look at them, stop them and start them anew."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, Path, Query, Request
from pydantic import AwareDatetime
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from air_executor import additions, journal, model, repair, report, told
from air_executor.errors import InvalidInputError, InvalidNameError, NotFoundError
from air_executor.http import asked, creating, problems, shapes, views
from air_executor.http.access import CallerDep
from air_executor.http.documented import OF_RUN, WITH_BODY, router
from air_executor.http.service import Service, ServiceDep
from air_executor.http.tokens import Scope
from air_executor.http.views import Answer
from air_executor.index import Filter

MAX_WAIT = 60
MAX_LIMIT = 1000
MAX_TASKS = 10_000
MAX_LINES = 500
MAX_KEY = 255

RunId = Annotated[str, Path(alias="run", min_length=1, max_length=250, description="The run's name, or its id")]
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT, description="Seconds to wait for its end")]
Texts = Annotated[list[str], Query(default_factory=list, max_length=50)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY,
        pattern=r"^[!-~]+$",
        description="With the same key and body, the same run is answered and none is created",
    ),
]

read = router(Scope.READ, "runs")
submit = router(Scope.SUBMIT, "runs")
cancel = router(Scope.CANCEL, "runs")


def find(service: Service, text: str) -> model.Job:
    """The run of this name or id; one whose files are damaged appears as failed.

    Raises:
        NotFoundError: there is none, or that can be none's.
    """
    try:
        return service.client.get_job(text)
    except InvalidNameError:
        raise NotFoundError(f"there is no run {text!r:.80}") from None


def told_run(service: Service, job: model.Job) -> dict[str, Any]:
    """What is told of a run."""
    stop = None if job.state.terminal else repair.read_stop_request(service.home, job.name)
    told_of_it: dict[str, Any] = problems.hide(service.home, views.of_run(job, stop))
    return told_of_it


# --- Creating ---


@submit.post(
    "/runs",
    status_code=201,
    response_model=shapes.CreatedRun,
    responses={
        200: {"model": shapes.CreatedRun, "description": "The run was there already"},
        **OF_RUN,
        **WITH_BODY,
    },
)
def create_run(
    request: Request, service: ServiceDep, caller: CallerDep, body: shapes.RunRequest, key: IdempotencyKey = None
) -> Response:
    """Create a run of a pipeline or of tasks."""
    job, how = creating.create(service, request.app.state.notes, caller, body, key)
    status = 201 if how == "created" else 200
    where = {"Location": f"/api/v1/runs/{job.name}"}
    return Answer({**told_run(service, job), "how": how}, status, where)


@submit.post("/runs/{run}/tasks", status_code=201, response_model=shapes.AddedTasks, responses={**OF_RUN, **WITH_BODY})
def add_tasks(service: ServiceDep, run: RunId, body: shapes.TasksRequest) -> Response:
    """Add tasks to a run that is working; they may depend on those that it has."""
    job = find(service, run)
    return Answer({"ids": additions.add(service.home, job.name, asked.to_tasks(body.tasks), "")}, 201)


# --- Looking ---


@read.get("/runs", response_model=shapes.Runs)
def list_runs(
    service: ServiceDep,
    state: Annotated[list[shapes.State], Query(default_factory=list, max_length=50)],
    trigger: Texts,
    queue: Texts,
    label: Annotated[list[str], Query(default_factory=list, max_length=50, description="`name:value`; all of them")],
    since: Annotated[AwareDatetime | None, Query(description="Created then or later")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Created before that")] = None,
    text: Annotated[str, Query(max_length=500, description="In the name, the id or the reason")] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(max_length=500, description="Of the answer before")] = None,
) -> Response:
    """Runs, newest first, from an index that may lag by a second."""
    try:
        wanted = Filter(
            states=state,
            triggers=trigger,
            queues=queue,
            labels=dict(_label(each) for each in label),
            since=since.timestamp() if since else None,
            until=until.timestamp() if until else None,
            text=text,
        )
        page = service.index().page(wanted, limit, cursor)
    except ValueError as error:
        raise InvalidInputError(str(error)) from None
    rows = problems.hide(service.home, [views.of_row(row) for row in page.jobs])
    return Answer({"runs": rows, "cursor": page.next_key, "unread": service.unread})


def _label(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not name or not colon:
        raise ValueError(f"a label is given as name:value, not {text!r:.60}")
    return name, value


@read.get("/runs/{run}", response_model=shapes.Run, responses=OF_RUN)
async def show_run(service: ServiceDep, run: RunId, wait: Wait = 0) -> Response:
    """A run; if it is wanted, once it is over, or after so many seconds as it is then."""
    job = await run_in_threadpool(find, service, run)
    if wait and not job.state.terminal:
        await service.until_over(job.name, wait)
        job = await run_in_threadpool(find, service, run)
    return Answer(await run_in_threadpool(told_run, service, job))


@read.get("/runs/{run}/tasks", response_model=shapes.Tasks, responses=OF_RUN)
def list_tasks(
    service: ServiceDep,
    run: RunId,
    status: shapes.Status | None = None,
    offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_TASKS)] = 1000,
) -> Response:
    """The tasks of a run, in their order."""
    job = find(service, run)
    tasks = told.of_tasks(report.tasks_of(service.home, job), status, offset, limit)
    return Answer(problems.hide(service.home, tasks))


@read.get("/runs/{run}/result", response_model=shapes.Result, responses=OF_RUN)
def show_result(service: ServiceDep, run: RunId) -> Response:
    """What the completed tasks handed over; of a run that is not over, so far."""
    job = find(service, run)
    result = service.client.get_result(job.name)
    return Answer({"state": job.state, "attempt": job.attempt, "result": result})


@read.get("/runs/{run}/outcome", response_model=shapes.Outcome, responses=OF_RUN)
def show_outcome(service: ServiceDep, run: RunId) -> Response:
    """What a run came to, in a few words for programs."""
    return Answer(views.of_outcome(service.client.outcome(find(service, run).name)))


@read.get("/runs/{run}/failure", response_model=shapes.Failure, responses=OF_RUN)
def show_failure(service: ServiceDep, run: RunId, lines: Annotated[int, Query(ge=0, le=MAX_LINES)] = 20) -> Response:
    """What went wrong, and the last lines of the log, for people."""
    text = service.client.failure(find(service, run).name, lines)
    return Answer({"text": problems.without(service.home, told.sentence(text) or "")})


@read.get("/runs/{run}/events", response_model=shapes.Events, responses=OF_RUN)
def list_events(service: ServiceDep, run: RunId) -> Response:
    """Who did what with a run."""
    job = find(service, run)
    events = told.of_events(list(journal.read(service.home.job(job.name).events)))
    return Answer({"events": problems.hide(service.home, events)})


# --- Changing ---


@cancel.post("/runs/{run}/cancel", response_model=shapes.Run, responses={**OF_RUN, **WITH_BODY})
def cancel_run(service: ServiceDep, caller: CallerDep, run: RunId, body: shapes.WhyRequest | None = None) -> Response:
    """Ask for the end of a run. One that waits is cancelled then, one that works soon; one that is over stays so."""
    why = body.why if body else ""
    job = service.client.cancel(find(service, run).id, by=caller.user, why=why)
    return Answer(told_run(service, job))


@submit.post("/runs/{run}/retry", response_model=shapes.Run, responses={**OF_RUN, **WITH_BODY})
def retry_run(service: ServiceDep, caller: CallerDep, run: RunId, body: shapes.RetryRequest | None = None) -> Response:
    """Start a run that is over once more, as a new attempt."""
    given = body or shapes.RetryRequest()
    job = service.client.retry(
        find(service, run).id, by=caller.user, why=given.why or "retried", keep_completed=given.keep_completed
    )
    return Answer(told_run(service, job))
