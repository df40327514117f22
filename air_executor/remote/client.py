"""The methods of `AirExecutorClient` for a home that is reached over HTTP."""

from __future__ import annotations

import copy
import logging
import math
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

from air_executor import definitions, model, store, validation
from air_executor.errors import HomeError, InvalidInputError, InvalidJobError, UnreachableError, WaitTimeoutError
from air_executor.existing import OnExisting
from air_executor.model import Job, JobState, Task
from air_executor.remote import answers, requests
from air_executor.remote.answers import Standing
from air_executor.remote.patience import AWAY, ONCE, Patience, jittered
from air_executor.remote.transport import Transport, find_access

if TYPE_CHECKING:
    from air_executor.pipelines import Pipeline

log = logging.getLogger(__name__)

LONGEST_WAIT = 30.0
"""Seconds that one request waits for the end of a run; what is between here and there may cut longer ones."""
POLL_INTERVAL = 5.0
JITTER = 0.2
PAGE = 500
MANY = 500
"""Runs that one request asks for."""
MAX_WHY = 500
_MAX_ID = 250


class RemoteClient:
    """Work with the jobs of a home behind an HTTP API. A job is given by its name or by its id.

    Errors are those of `AirExecutorClient`, and `RemoteError` where the API does not answer as it should. What can do
    no harm twice is asked for again when there is no answer, up to a minute; so is a new job, which has an
    Idempotency-Key. Who waits for a job bears it for ten minutes that the API does not answer. Command lines,
    environments and files of jobs do not come over HTTP.

    Args:
        url: the address of the API, such as `https://air.example.org:8470`.
        token: what `air-executor token create` printed; None: `$AIR_EXECUTOR_TOKEN`.
        verify: a file with the certificates that may have signed the server's, or False: its certificate is not
            checked; None: `$AIR_EXECUTOR_CA_FILE`, or those that are trusted anyway.
        allow_plain: whether the token may go to another host without TLS; None: `$AIR_EXECUTOR_ALLOW_PLAIN`.
        poll_interval: seconds between looks at a job that is waited for; None: the server tells of its end.
        jitter: by what part of it that interval is longer or shorter, by chance.
        patience: how often, and for how long, something is asked for that gets no answer.

    Raises:
        SettingsError: the address is none, others could read the token, or there is no token.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        verify: bool | str | None = None,
        allow_plain: bool | None = None,
        poll_interval: float | None = None,
        jitter: float = JITTER,
        patience: Patience | None = None,
    ) -> None:
        self._transport = Transport(find_access(url, token, verify=verify, allow_plain=allow_plain), patience)
        self.poll_interval = poll_interval
        self.jitter = jitter

    def __repr__(self) -> str:
        return f"RemoteClient({self.address!r})"

    if not TYPE_CHECKING:  # else every misspelled name would be one

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"{name!r:.60} is nothing that a client can do over HTTP; see docs/http.md")

    @property
    def address(self) -> str:
        """Where the API is."""
        return self._transport.url

    @property
    def transport(self) -> Transport:
        """How it is asked."""
        return self._transport

    def impatient(self) -> RemoteClient:
        """One that asks only once, for who asks again and again anyway."""
        other = copy.copy(self)
        other._transport = Transport(self._transport.access, ONCE)
        return other

    # --- Creating ---

    def create_job(
        self,
        job_name: str | None = None,
        tasks: Sequence[Mapping[str, Any] | Task] = (),
        *,
        trigger: str = model.Trigger.API.value,
        **options: Any,
    ) -> str:
        """Submit a job; as `AirExecutorClient.create_job`."""
        job = definitions.to_job(job_name, {"trigger": trigger, **options})
        return self.submit(store.Submission(job, definitions.to_tasks(tasks))).id

    def pipeline(
        self,
        name: str,
        *,
        params: Mapping[str, Any] | None = None,
        environment: str | None = None,
        job_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        **options: Any,
    ) -> requests.Order:
        """The job that a pipeline makes of these values, but for its tasks, which are made when it is submitted."""
        from air_executor.pipelines import amend

        given = {"parameters": dict(params or {}), "environment": environment}
        plan = self._transport.ask("POST", f"/pipelines/{_name('the pipeline', name)}/plan", body=given)
        unique = job_name if job_name is not None else f"{name[:100]}-{uuid.uuid4().hex[:12]}"
        job = Job(unique, trigger=model.Trigger.PIPELINE.value, **{key: plan[key] for key in definitions.JOB_SETTINGS})
        job.labels = dict(plan["labels"])
        amend(job, labels or {}, options)
        return requests.Order(
            job, [], pipeline=name, parameters=dict(params or {}), environment=environment, planned=plan["labels"]
        )

    def run_pipeline(self, name: str, **given: Any) -> str:
        """Submit the job that `pipeline` makes; its id."""
        return self.submit(self.pipeline(name, **given)).id

    def pipelines(self) -> list[Pipeline]:
        """The pipelines of the home, by name, without their command lines."""
        return [answers.to_pipeline(each) for each in self._transport.ask("GET", "/pipelines")["pipelines"]]

    def find_pipeline(self, name: str) -> Pipeline:
        """One that can be run; as `AirExecutorClient.find_pipeline`."""
        told = self._transport.ask("GET", f"/pipelines/{_name('the pipeline', name)}")
        found: Pipeline = answers.to_pipeline(told)
        found.check()
        return found

    def submit(self, submission: store.Submission) -> Job:
        """Submit a job that is spelled out; raises as `create_job`."""
        return self._post(submission, on_existing=OnExisting.FAIL.value)[0]

    def ensure(
        self,
        submission: store.Submission,
        on_existing: str = "reuse",
        *,
        same: Collection[str] = (),
        keep_completed: bool = False,
        by: str | None = None,
    ) -> tuple[Job, str]:
        """See that there is a job of this name; as `AirExecutorClient.ensure`. `by` is whoever has the token."""
        if on_existing not in tuple(OnExisting):
            raise InvalidInputError(f"on_existing is one of {', '.join(OnExisting)}, not {on_existing!r:.60}")
        job, how = self._post(submission, on_existing=on_existing, same=same, keep_completed=keep_completed)
        # The answer to a first try was lost: whatever that did, the job is one that is there.
        return job, "attached" if how == "repeated" else how

    def _post(self, submission: store.Submission, **given: Any) -> tuple[Job, str]:
        if not isinstance(submission, requests.Order):
            validation.number_tasks(submission.tasks)
            validation.check_tasks(submission.tasks)
        validation.check_job(submission.job)
        body = requests.body(submission, **given)
        run = self._transport.ask("POST", "/runs", body=body, key=uuid.uuid4().hex)
        return answers.to_job(run), run["how"]

    def add_tasks(self, tasks: Iterable[Mapping[str, Any] | Task], job: str | None = None) -> list[str]:
        """Add tasks to a job while it runs; their ids."""
        if job is None:
            raise InvalidJobError("which job? over HTTP it must be named")
        made = definitions.to_tasks(tasks)
        body = {"tasks": requests.tasks(made)}
        added: list[str] = self._transport.ask("POST", f"{_run(job)}/tasks", body=body, repeatable=False)["ids"]
        return added

    # --- Looking ---

    def get_job(self, name: str) -> Job:
        """The job; one whose files are damaged appears as failed."""
        return answers.to_job(self._transport.ask("GET", _run(name)))

    def get_tasks(self, name: str) -> list[Task]:
        """The tasks of a job, without their command lines."""
        told: list[Mapping[str, Any]] = []
        while True:
            page = self._transport.ask("GET", f"{_run(name)}/tasks", query={"offset": len(told), "limit": 10_000})
            told += page["tasks"]
            if not page["tasks"] or len(told) >= page["total"]:
                return [answers.to_task(name, each) for each in told]

    def get_result(self, name: str) -> dict[str, Any]:
        """What the tasks of a job handed over, by task."""
        result: dict[str, Any] = self._transport.ask("GET", f"{_run(name)}/result")["result"]
        return result

    def list_jobs(
        self,
        *,
        state: JobState | None = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
        trigger: str | None = None,
    ) -> Iterator[Job]:
        """All jobs that match, newest first; as an index has them, which may lag by a second.

        What a list does not tell of a job (limits, usage) is as if it was not set.
        """
        query: dict[str, Any] = {
            "state": state and JobState(state).value,
            "queue": queue,
            "trigger": trigger,
            "label": [f"{name}:{value}" for name, value in (labels or {}).items()],
            "limit": PAGE,
        }
        query = {name: value for name, value in query.items() if value not in (None, [])}
        while True:
            page = self._transport.ask("GET", "/runs", query=query)
            yield from map(answers.to_job, page["runs"])
            if page["cursor"] is None:
                return
            query["cursor"] = page["cursor"]

    def standings(self, names: Sequence[str]) -> dict[str, Standing | None]:
        """How many runs are, by the names or ids that are given; None for one that is not there."""
        found: dict[str, Standing | None] = {}
        for start in range(0, len(names), MANY):
            body = {"runs": list(names[start : start + MANY])}
            told = self._transport.ask("POST", "/runs/states", body=body)["runs"]
            found |= {name: answers.to_standing(each) for name, each in told.items()}
        return found

    def outcome(self, name: str) -> dict[str, Any]:
        """What a job came to: `state`, `job` (its name), `tasks` (statuses by id), `result`, `usage`."""
        found: dict[str, Any] = self._transport.ask("GET", f"{_run(name)}/outcome")
        return found

    def failure(self, name: str, lines: int = 20) -> str:
        """For people: which task of a job failed first, why, and the last lines of its log."""
        text: str = self._transport.ask("GET", f"{_run(name)}/failure", query={"lines": lines})["text"]
        return text

    def logs(self, name: str, task_id: str | None = None) -> str:
        """What a task wrote, or all tasks of a job one after the other. Bytes that are not UTF-8 are replaced."""
        ids = [task.id for task in self.get_tasks(name)] if task_id is None else [task_id]
        texts = []
        for each in ids:
            response = self._transport.send("GET", f"{_run(name)}/logs/{quote(each, safe='')}")
            texts.append(response.content.decode("utf-8", "replace"))
        return "".join(texts)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Who did what with a job, the first first; the last 200, and not what single tasks did."""
        events: list[dict[str, Any]] = self._transport.ask("GET", f"{_run(name)}/events")["events"]
        return events

    # --- Waiting ---

    def wait(self, name: str, timeout: float | None = None) -> Job:
        """Wait until a job is over; as `AirExecutorClient.wait`."""
        job = self.wait_for_attempt(name, None, timeout)
        if not job.state.terminal:
            raise WaitTimeoutError(f"the job {name} is still {job.state} after {timeout or 0.0:g} s; it goes on")
        return job

    def wait_for_attempt(self, name: str, attempt: int | None, timeout: float | None) -> Job:
        """The job once an attempt of it is over, or any if that is None, or as it was last after that many seconds.

        Raises:
            UnreachableError, HomeError: there was no answer in that time, or for too long (`patience.AWAY`).
        """
        from air_executor.awaiting import is_over

        deadline = math.inf if timeout is None else time.monotonic() + timeout
        job, silent, since = None, 0, 0.0
        while True:
            began = time.monotonic()
            asked = 0.0 if self.poll_interval is not None else min(LONGEST_WAIT, max(0.0, deadline - began))
            try:
                job = self._look(name, asked)
                if is_over(job, attempt):
                    return job
                silent = 0
                pause = self._pause(asked, time.monotonic() - began)
            except (UnreachableError, HomeError) as error:  # the job goes on, and nothing is known of it
                silent += 1
                if silent == 1:
                    since = time.monotonic()
                    log.warning("nothing is known of the job %s; asking again: %s", name, error)
                pause = AWAY.pause(silent, getattr(error, "retry_after", None), time.monotonic() - since)
                if pause < 0 or (job is None and time.monotonic() + pause >= deadline):
                    raise
            if job is not None and time.monotonic() >= deadline:
                return job
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))

    def _look(self, name: str, wait: float) -> Job:
        query = {"wait": round(wait, 3)}
        return answers.to_job(self._transport.ask("GET", _run(name), query=query, wait=wait, patience=ONCE))

    def _pause(self, asked: float, took: float) -> float:
        """Seconds between two looks; the server has waited already, unless it was not asked to, or ends just now."""
        if asked and took >= asked:
            return 0.0
        return jittered(self.poll_interval or min(1.0, POLL_INTERVAL), self.jitter)

    def yield_to(self, job: Job) -> None:
        """Nothing: places of runners are not given to each other over HTTP."""

    # --- Changing ---

    def cancel(self, name: str, *, by: str | None = None, why: str = "") -> Job:
        """Ask for a job's cancellation; as `AirExecutorClient.cancel`. May be called in the handler of a signal.

        Args:
            by: for whom it is done; who does it, in the job's history, is whoever has the token.
        """
        said = ": ".join(text for text in (f"for {by}" if by else "", why) if text)
        run = self._transport.ask("POST", f"{_run(name)}/cancel", body={"why": said[:MAX_WHY]}, urgent=True)
        return answers.to_job(run)

    def retry(self, name: str, *, by: str | None = None, why: str = "retried", keep_completed: bool = False) -> Job:
        """Start a job that is over once more; as `AirExecutorClient.retry`."""
        said = f"for {by}: {why}" if by else why
        body = {"why": said[:MAX_WHY], "keep_completed": keep_completed}
        return answers.to_job(self._transport.ask("POST", f"{_run(name)}/retry", body=body, repeatable=False))

    # --- The server ---

    def health(self) -> dict[str, Any]:
        """What the server says of itself, its home, and what the token allows (`scopes`)."""
        found: dict[str, Any] = self._transport.ask("GET", "/health")
        return found

    def queues(self) -> list[dict[str, Any]]:
        """Queues in which something waits, that a runner serves, or that are paused."""
        queues: list[dict[str, Any]] = self._transport.ask("GET", "/queues")["queues"]
        return queues


def _run(name: str) -> str:
    return f"/runs/{_name('the job name', name)}"


def _name(what: str, text: object) -> str:
    """A name or an id as a part of a path; raises `InvalidNameError` if it can be neither."""
    return quote(validation.check_name(what, text, _MAX_ID), safe="")
