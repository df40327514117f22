"""The routes of the pages, each with the right that it demands. A mounted app has no authentication but its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from air_executor import (
    __version__,
    journal,
    logtail,
    pauses,
    repair,
    report,
    runners,
    steering,
    store,
    told,
    validation,
)
from air_executor.client import AirExecutorClient
from air_executor.errors import CorruptFileError, JobBusyError, SettingsError
from air_executor.index import Filter, Page
from air_executor.model import Job, Trigger
from air_executor.paths import Home
from air_executor.slurm import standing
from airflow_plugin import hook
from airflow_plugin.pages import access, documents, doorway, facts, lookout, readings
from airflow_plugin.pages.access import Owner, Visitor, VisitorDep

PAGE = 50
MAX_PAGE = 200
MAX_TASKS = 500
"""How many tasks of a job are told at once."""
SHOWN = 10
LOOK_BACK = 200
"""How many of the newest jobs that failed are looked at to find those that failed last."""
"""How many jobs that run, and that failed, the first page shows."""
MAX_WHY = 500


class Answer(JSONResponse):
    """JSON for what files may hold, such as half a character."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def configured_lookout() -> lookout.Lookout:
    """Of the home that Airflow is configured with."""
    try:
        return lookout.of(Home(hook.configured_home()))
    except SettingsError as error:
        raise HTTPException(503, str(error)) from None


LookoutDep = Annotated[lookout.Lookout, Depends(configured_lookout)]

LOGGED_IN = [Depends(access.visitor)]
read = APIRouter(dependencies=LOGGED_IN)
change = APIRouter(dependencies=[*LOGGED_IN, Depends(doorway.check_origin)])


# --- Documents ---


@read.get("/")
@read.get("/jobs")
@read.get("/job/{name}")
@read.get("/history")
@read.get("/task")
def show_document(request: Request) -> Response:
    """A page for people; what it shows it asks for."""
    return documents.document(request)


@read.get("/static/{version}/{name}")
def load_asset(version: str, name: str) -> Response:
    """What a document loads."""
    return documents.asset(version, name)


@read.get("/jobs/{name}")
def show_moved(request: Request, name: str) -> Response:
    """Where the button on a task's page led before there were pages for people."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}/job/{quote(name, safe='')}")


# --- Looking ---


def demand_home(visitor: VisitorDep) -> None:
    """Runners and queues are not for everybody."""
    if not visitor.sees_home:
        raise HTTPException(403, "to see runners and queues one needs the right to see Airflow's jobs (the view Jobs)")


@read.get("/api/overview", dependencies=[Depends(demand_home)])
def overview(visitor: VisitorDep, watch: LookoutDep) -> Response:
    """Runners, queues, what is wrong, what runs, and what failed."""
    with doorway.refusals(watch.home):
        view, index = watch.view(), watch.jobs()
        running = index.page(_seen_by(visitor, states=["working"]), SHOWN)
        failed = index.page(_seen_by(visitor, states=["failed"]), LOOK_BACK)
    return Answer(
        {
            "version": __version__,
            "problems": view.problems,
            "runners": [facts.of_runner(runner) for runner in view.runners],
            "slurm": [facts.of_standing(each) for each in view.slurm],
            "queues": [facts.of_queue(queue, view.ended.get(queue.name, 0)) for queue in view.queues],
            "working": _rows(running),
            "failed": [facts.of_row(row) for row in facts.latest_ends(failed.jobs)[:SHOWN]],
            "unread": watch.unread,
            "steered": facts.of_steering(view.steered),
            "can": {"steer": visitor.operates},
        }
    )


def _seen_by(visitor: Visitor, **given: Any) -> Filter:
    """What somebody asks for, of what he may see."""
    return Filter(**given, dags=visitor.listed, without_dag=visitor.sees_home, of_nobody=visitor.operates)


def _rows(page: Page) -> list[dict[str, Any]]:
    """What is told of jobs that were asked for by what their reader may see."""
    return [facts.of_row(row) for row in page.jobs]


Texts = Annotated[list[str], Query(default_factory=list)]


def chosen(
    visitor: VisitorDep,
    watch: LookoutDep,
    state: Texts,
    queue: Texts,
    trigger: Texts,
    label: Texts,
    text: str = "",
    since: float | None = None,
    until: float | None = None,
) -> Filter:
    """The jobs that somebody wants to see, of those that he may see."""
    with doorway.refusals(watch.home):
        labels = dict(_label(each) for each in label)
        return _seen_by(
            visitor, states=state, queues=queue, triggers=trigger, labels=labels, text=text, since=since, until=until
        )


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"a label is given as NAME=VALUE, not {text!r:.60}")
    return name, value


ChosenDep = Annotated[Filter, Depends(chosen)]


@read.get("/api/jobs")
def list_jobs(
    watch: LookoutDep,
    wanted: ChosenDep,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = PAGE,
    before: str | None = None,
) -> Response:
    """Jobs, newest first."""
    with doorway.refusals(watch.home):
        page = watch.jobs().page(wanted, limit, before)
    return Answer({"jobs": _rows(page), "next": page.next_key, "unread": watch.unread})


@read.get("/api/counts")
def count_jobs(visitor: VisitorDep, watch: LookoutDep, wanted: ChosenDep) -> Response:
    """How many jobs there are of each state, and what there is to choose from."""
    with doorway.refusals(watch.home):
        index = watch.jobs()
        counts, facets = index.count(wanted), index.facets(_seen_by(visitor))
    return Answer({"counts": counts, **asdict(facets), "unread": watch.unread})


@read.get("/api/task")
def list_tries(
    visitor: VisitorDep,
    watch: LookoutDep,
    dag_id: Annotated[str, Query(min_length=1)],  # no id would be asked for as any DAG
    run_id: str,
    task_id: str,
    map_index: str = "-1",
) -> Response:
    """The jobs of the tries of a task instance."""
    if not visitor.reads(Owner(dag_id)):
        raise HTTPException(403, "to see this one needs the right to read the task instances of the DAG")
    labels = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
    with doorway.refusals(watch.home):
        page = watch.jobs().page(Filter(labels=labels, dags=[dag_id]), MAX_PAGE)
    return Answer({"jobs": _rows(page), "unread": watch.unread})


@read.get("/api/history")
def show_history(
    watch: LookoutDep,
    wanted: ChosenDep,
    begin: float,
    end: float,
    step: Annotated[float, Query(ge=1)] = 60.0,
) -> Response:
    """What ended when, how long it took, and why it failed."""
    with doorway.refusals(watch.home):
        history = watch.jobs().history(wanted, begin, end, step)
    return Answer({**facts.of_history(history), "unread": watch.unread})


# --- One job ---


def _find(watch: lookout.Lookout, visitor: Visitor, text: str) -> tuple[Job, Owner]:
    """A job that somebody may see; one that he may not see is as one that is not there."""
    name = store.name_of(watch.home, text)
    try:
        job, sound = store.read(watch.home, name), True
    except CorruptFileError:
        job, sound = store.read_or_damaged(watch.home, name), False
    owner = access.owner_of(job.labels, job.exit.kind if job.exit else None, sound=sound)
    if not visitor.reads(owner):
        raise HTTPException(404, "there is no such job")
    return job, owner


@read.get("/api/job/{name}")
def show_job(
    visitor: VisitorDep,
    watch: LookoutDep,
    name: str,
    status: str | None = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_TASKS)] = MAX_TASKS,
    known: str = "",
) -> Response:
    """A job, some of its tasks, and who did what with it; nothing if all is as `known` says."""
    with doorway.refusals(watch.home):
        paths = watch.home.job(store.name_of(watch.home, name))
        state = readings.sign_of(
            paths.state, paths.cancel, paths.slurm
        )  # first: what changes later is told the next time
        job, owner = _find(watch, visitor, name)
        notes = watch.notes(job)
        reading = watch.readings.get(
            (job.name, status, offset, limit),
            (job.id, job.attempt, job.state),
            lambda: readings.sign_of(paths.tasks, paths.events),
            lambda: _contents(watch.home, job, status, offset, limit),
        )
        stamp = _stamp(state, reading.sign, notes, status, offset, limit)
        if known == stamp:
            return Response(status_code=204)
        answer = {
            **facts.of_job(job),
            "slurm": facts.of_slurm(job, standing.read_job(watch.home, job)),
            **reading.told,
            "stop": told.of_stop(None if job.state.terminal else repair.read_stop_request(watch.home, job.name)),
            "notes": notes,
            "known": stamp,
            "can": {"edit": visitor.edits(owner), "logs": visitor.reads_logs(owner)},
        }
    return Answer(answer)


def _contents(home: Home, job: Job, status: str | None, offset: int, limit: int) -> dict[str, Any]:
    """What takes long to read."""
    tasks = told.of_tasks(report.tasks_of(home, job), status, offset, limit)
    return {**tasks, "events": _events(home, job.name)}


def _stamp(*said: Any) -> str:
    """Changes whenever something does that is said of a job, and with what was asked."""
    return hashlib.blake2b(repr(said).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _events(home: Home, name: str) -> list[dict[str, Any]]:
    try:
        return told.of_events(list(journal.read(home.job(name).events)))
    except CorruptFileError:
        return []


@read.get("/api/job/{name}/log/{task}")
def show_log(
    visitor: VisitorDep,
    watch: LookoutDep,
    name: str,
    task: str,
    offset: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> Response:
    """A piece of what a task wrote."""
    with doorway.refusals(watch.home):
        job, owner = _find(watch, visitor, name)
    if not visitor.reads_logs(owner):
        raise HTTPException(403, "to see this one needs the right to read the task logs of the DAG")
    with doorway.refusals(watch.home, "log"):
        validation.check_name("the task", task)
        piece = logtail.read(watch.home.job(job.name), task, offset, final=job.state.terminal)
    return Answer({**asdict(piece), "over": job.state.terminal, "attempt": job.attempt})


# --- Changing: by POST alone, and never for a page of another site (`doorway`) ---


class Why(BaseModel):
    """What somebody says when he changes something."""

    why: str = Field("", max_length=MAX_WHY)


class Retry(Why):
    """Which tasks run again."""

    keep_completed: bool = False


class Changes(Why):
    """What a runner shall work with from now on."""

    slots: int | None = None
    queues: list[str] | None = None


def _change(watch: lookout.Lookout, visitor: Visitor, name: str) -> tuple[AirExecutorClient, Job]:
    job, owner = _find(watch, visitor, name)
    if not visitor.edits(owner):
        raise HTTPException(403, "to do this one needs the right to edit what the job belongs to")
    return AirExecutorClient(watch.home.root), job


def _done(watch: lookout.Lookout) -> Response:
    watch.look_anew()
    return Answer({"done": True})


@change.post("/api/job/{name}/cancel")
def cancel_job(visitor: VisitorDep, watch: LookoutDep, name: str, given: Why) -> Response:
    """Ask for a job's cancellation."""
    with doorway.refusals(watch.home):
        client, job = _change(watch, visitor, name)
        if job.state.terminal:
            raise JobBusyError(f"the job is over already: it is {job.state}")
        client.cancel(job.id, by=visitor.name, why=given.why)
    return _done(watch)


@change.post("/api/job/{name}/retry")
def retry_job(visitor: VisitorDep, watch: LookoutDep, name: str, given: Retry) -> Response:
    """Start a job that is over once more."""
    with doorway.refusals(watch.home):
        client, job = _change(watch, visitor, name)
        if job.trigger == Trigger.EXECUTOR:
            raise JobBusyError("this job is a try of an Airflow task: clear the task in Airflow to run it again")
        client.retry(job.id, by=visitor.name, why=given.why or "retried", keep_completed=given.keep_completed)
    return _done(watch)


def demand_operator(visitor: VisitorDep) -> None:
    """Who steers runners and queues changes how much runs at once, as who edits Airflow's pools does."""
    if not visitor.operates:
        raise HTTPException(403, "to steer runners and queues one needs the right to edit pools")


OPERATOR = [Depends(demand_operator)]


@change.post("/api/runner/{runner}/drain", dependencies=OPERATOR)
def drain_runner(visitor: VisitorDep, watch: LookoutDep, runner: str, given: Why) -> Response:
    """Let a runner start nothing more."""
    return _tell(visitor, watch, runner, "drain", given)


@change.post("/api/runner/{runner}/resume", dependencies=OPERATOR)
def resume_runner(visitor: VisitorDep, watch: LookoutDep, runner: str, given: Why) -> Response:
    """Let a runner start jobs again."""
    return _tell(visitor, watch, runner, "resume", given)


def _tell(visitor: Visitor, watch: lookout.Lookout, runner: str, action: str, given: Why) -> Response:
    with doorway.refusals(watch.home, "runner"):
        runners.tell(watch.home, runner, action, watch.seen, by=visitor.name, why=given.why)
    return _done(watch)


@change.post("/api/runner/{runner}/set", dependencies=OPERATOR)
def set_runner(visitor: VisitorDep, watch: LookoutDep, runner: str, given: Changes) -> Response:
    """Let a runner work with other slots, or serve other queues."""
    with doorway.refusals(watch.home, "runner"):
        changes: dict[str, Any] = {"slots": given.slots, "queues": given.queues}
        steering.set_runner(watch.home, runner, **changes, by=visitor.name, why=given.why, seen=watch.seen)
    return _done(watch)


@change.post("/api/queue/{queue}/pause", dependencies=OPERATOR)
def pause_queue(visitor: VisitorDep, watch: LookoutDep, queue: str, given: Why) -> Response:
    """Let no runner start jobs of a queue."""
    with doorway.refusals(watch.home, "queue"):
        pauses.pause(watch.home, queue, by=visitor.name, why=given.why)
    return _done(watch)


@change.post("/api/queue/{queue}/resume", dependencies=OPERATOR)
def resume_queue(visitor: VisitorDep, watch: LookoutDep, queue: str, given: Why) -> Response:
    """Let runners start jobs of a queue again."""
    with doorway.refusals(watch.home, "queue"):
        pauses.resume(watch.home, queue, by=visitor.name, why=given.why)
    return _done(watch)


# --- The app ---


def _build() -> FastAPI:
    built = FastAPI(title="Air-Executor", docs_url=None, redoc_url=None, openapi_url=None)
    built.include_router(read)
    built.include_router(change)
    built.add_middleware(doorway.Guarded)

    @built.exception_handler(StarletteHTTPException)
    async def refuse(request: Request, error: StarletteHTTPException) -> Response:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if error.status_code == 401 and not path.startswith(("/api/", "/static/")):
            return documents.please_log_in(request)
        return await http_exception_handler(request, error)

    @built.exception_handler(RequestValidationError)
    async def refuse_values(_: Request, error: RequestValidationError) -> Response:
        """FastAPI's own answer repeats what was sent, and fails where that is half a character."""
        return Answer({"detail": [{key: each[key] for key in ("loc", "msg")} for each in error.errors()]}, 422)

    return built


app = _build()
