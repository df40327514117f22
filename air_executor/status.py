"""What is going on in a home: gathered once, judged by pure functions, and the same for the CLI and for programs.

Nothing here prints. The work is bounded: working jobs are found by their claims, of which there are as many as slots;
waiting ones are counted by their markers, whose names say since when they wait; and of the others only the
`LOOK_BACK` most recently changed are read to find the latest failures. So a home with 100,000 jobs costs one look at
each directory, and reads some two hundred files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from air_executor import components, model, pauses, runners, sightings, spool, store
from air_executor.components import Component
from air_executor.errors import AirExecutorError, CorruptFileError
from air_executor.model import Job, JobState
from air_executor.paths import Home, command
from air_executor.sightings import Sightings

LOOK_BACK = 200
"""How many jobs are read at most to find the latest failures."""
LATEST_FAILURES = 5
WORKING_SHOWN = 20
HEALTH_PATH = "/api/v2/monitor/health"
HEALTH_TIMEOUT = 2.0
"""Seconds that the api-server may take to answer."""
_HEALTH_NAMES = {"scheduler": "scheduler", "dag_processor": "dag-processor", "triggerer": "triggerer"}
"""What the api-server's answer calls the components."""


class Verdict(str, enum.Enum):
    """The whole in one word."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    NOT_RUNNING = "not running"

    __str__ = str.__str__

    @property
    def exit_code(self) -> int:
        """What `air-executor status` returns."""
        return {Verdict.HEALTHY: 0, Verdict.DEGRADED: 1, Verdict.NOT_RUNNING: 2}[self]


@dataclass(frozen=True)
class ComponentStatus:
    """A registered part of Airflow, or one that the api-server reports on."""

    name: str
    state: str
    """up, down, unhealthy, or unknown where its process is another host's."""
    pid: int | None = None
    host: str | None = None
    url: str | None = None
    log: str | None = None
    detail: str = ""
    """Why it is not up, or what the api-server says of it."""


@dataclass(frozen=True)
class RunnerStatus:
    """A runner that is alive, or one that died with jobs in its hands."""

    id: str
    state: str
    """alive, draining or dead."""
    host: str
    pid: int
    queues: list[str]
    slots: int
    working: int
    """How many jobs it says it runs; of a dead one, how many claims it left."""
    heartbeat_age: float
    version: str
    launcher: str
    embedded: bool


@dataclass(frozen=True)
class QueueStatus:
    """A queue in which something waits, that a live runner serves, or that is paused."""

    name: str
    waiting: int
    oldest_age: float | None
    """Seconds that the oldest job waits; None if none does."""
    served_by: int
    """How many live runners take jobs from it."""
    paused: pauses.Pause | None = None
    """Nobody takes jobs from it meanwhile."""


@dataclass(frozen=True)
class JobStatus:
    """A job in a few words."""

    name: str
    queue: str
    state: str
    age: float
    """Seconds since it started, or of one that is over since its end."""
    runner: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Status:
    """Everything."""

    home: str
    at: str
    exists: bool
    start: str
    """The command that starts a runner here."""
    components: list[ComponentStatus] = field(default_factory=list)
    runners: list[RunnerStatus] = field(default_factory=list)
    queues: list[QueueStatus] = field(default_factory=list)
    working: list[JobStatus] = field(default_factory=list)
    failures: list[JobStatus] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What keeps it from being healthy, in sentences."""
        return find_problems(self)

    @property
    def verdict(self) -> Verdict:
        """The whole in one word."""
        return judge(self)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the first keys say the result."""
        return {"status": self.verdict.value, "problems": self.problems, **dataclasses.asdict(self)}


# --- Judging: pure ---


def judge(status: Status) -> Verdict:
    """Not running if nothing is up; degraded if there is a problem."""
    running = any(runner.state != "dead" for runner in status.runners)
    if not running and all(component.state == "down" for component in status.components):
        return Verdict.NOT_RUNNING
    return Verdict.DEGRADED if find_problems(status) else Verdict.HEALTHY


def find_problems(status: Status) -> list[str]:
    """What should be otherwise, and what to do, in sentences."""
    return [trouble.sentence for trouble in find_troubles(status)]


@dataclass(frozen=True)
class Trouble:
    """Something that should be otherwise; `status` and `doctor` say it in the same words."""

    about: str
    """home, component, runner or queue."""
    text: str
    advice: str = ""
    """What the command in `fix` does."""
    fix: str = ""
    wanted: bool = False
    """Whether somebody wants it so, and may have forgotten it."""

    @property
    def sentence(self) -> str:
        """All of it."""
        return f"{self.text}; {self.advice}: {self.fix}" if self.fix else self.text


def find_troubles(status: Status) -> list[Trouble]:
    """What should be otherwise. Pure."""
    home = Home(Path(status.home))
    if not status.exists:
        advice = "create it (or submit a job, or give another --home) with"
        return [Trouble("home", f"{home.root} is not there", advice, status.start)]
    return [
        *(
            Trouble("component", f"{each.name} is {each.state}: {each.detail}")
            for each in status.components
            if each.state in _BAD
        ),
        *_runner_troubles(status),
        *_queue_troubles(home, status),
    ]


_START = "start one with"


def _runner_troubles(status: Status) -> Iterator[Trouble]:
    if not any(runner.state == "alive" for runner in status.runners):
        yield Trouble("runner", "no runner takes jobs", _START, status.start)
    for runner in status.runners:
        if runner.state == "dead":
            left = f"the runner {runner.id} is gone and left {_jobs(runner.working)}"
            yield Trouble("runner", f"{left}; the next one on {runner.host} takes over", _START, status.start)


def _queue_troubles(home: Home, status: Status) -> Iterator[Trouble]:
    for queue in status.queues:
        waits = f"{_jobs(queue.waiting)} {'waits' if queue.waiting == 1 else 'wait'} in the queue {queue.name}"
        if queue.waiting and queue.paused:
            resume = command(home, "queue", "resume", queue.name)
            yield Trouble("queue", f"{waits}, which is {queue.paused}", "resume it with", resume, wanted=True)
        elif queue.waiting and not queue.served_by:
            start = status.start if queue.name == "default" else runners.start_command(home, queue.name)
            yield Trouble("queue", f"{waits} and no runner serves it", _START, start)


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


_BAD = frozenset({"down", "unhealthy"})


def with_health(found: Sequence[ComponentStatus], health: dict[str, Any] | str | None) -> list[ComponentStatus]:
    """Add what the api-server says of itself and the others; `health` is its answer, or why there is none.

    Its word on another component comes second: a process that is gone stays down, whatever its last heartbeat says.
    """
    if health is None:
        return list(found)
    if isinstance(health, str):
        return [
            dataclasses.replace(each, state="unhealthy", detail=health)
            if each.name == "api-server" and each.state == "up"
            else each
            for each in found
        ]
    reported = {_HEALTH_NAMES[key]: value for key, value in health.items() if key in _HEALTH_NAMES}
    return [_with_report(each, reported.get(each.name)) for each in found]


def _with_report(component: ComponentStatus, report: Any) -> ComponentStatus:
    said = report.get("status") if isinstance(report, dict) else None
    if said is None or component.state == "down":
        return component
    if said == "healthy":
        return dataclasses.replace(component, state="up")
    return dataclasses.replace(component, state="unhealthy", detail=f"the api-server says that it is {said}")


# --- Gathering ---


def gather(home: Home, start: str | None = None) -> Status:
    """Look at everything once.

    Args:
        start: the command that starts a runner here, if it is not the usual one.

    Raises:
        HomeError: the home is not a directory.
    """
    store.check_directory(home)
    root, moment, start = str(home.root), model.now(), start or runners.start_command(home)
    if not home.jobs.is_dir():
        return Status(root, moment, exists=False, start=start)
    seen = runners.observe(home)
    infos = runners.all_runners(home)
    alive = [info for info in infos if seen.is_alive(info)]
    return Status(
        root,
        moment,
        exists=True,
        start=start,
        components=gather_components(home),
        runners=gather_runners(home, infos, seen),
        queues=gather_queues(home, alive),
        working=gather_working(home),
        failures=gather_failures(home),
    )


def gather_components(home: Home) -> list[ComponentStatus]:
    """The registered components, with the api-server's word on them."""
    found = [_component_status(each) for each in components.read_all(home)]
    server = next((each for each in found if each.name == "api-server" and each.url and each.state != "down"), None)
    return with_health(found, fetch_health(server.url) if server and server.url else None)


def _component_status(component: Component | CorruptFileError) -> ComponentStatus:
    if isinstance(component, CorruptFileError):
        return ComponentStatus(component.path.rsplit("/", 1)[-1].removesuffix(".json"), "down", detail=str(component))
    alive = component.alive
    return ComponentStatus(
        name=component.name,
        state={True: "up", False: "down", None: "unknown"}[alive],
        pid=component.process.pid,
        host=component.process.host,
        url=component.url,
        log=component.log,
        detail="" if alive is not False else f"its process {component.process.pid} is gone" + _see(component.log),
    )


def _see(log: str | None) -> str:
    return f"; see {log}" if log else ""


def fetch_health(url: str) -> dict[str, Any] | str:
    """The api-server's own report; a sentence if it gives none."""
    from http.client import HTTPException
    from urllib import request

    where = url.rstrip("/") + HEALTH_PATH
    if not where.startswith(("http://", "https://")):
        return f"{url} is not an HTTP address"
    # A proxy of the environment is for the world outside: asked for a loopback address it would answer with an error.
    opener = request.build_opener(request.ProxyHandler({}))
    try:
        with opener.open(where, timeout=HEALTH_TIMEOUT) as response:
            answer = json.load(response)
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        return f"{where} does not answer as it should: {getattr(error, 'reason', error)}"
    return answer if isinstance(answer, dict) else f"{where} does not answer with an object"


def gather_runners(home: Home, infos: Iterable[runners.RunnerInfo], seen: Sightings) -> list[RunnerStatus]:
    """Those that are alive, and those that died with claims."""
    found = []
    for info in infos:
        if seen.is_alive(info):
            found.append(runner_status(info, "draining" if info.draining else "alive", info.working))
        elif left := spool.claimed(home, info.id):
            found.append(runner_status(info, "dead", len(left)))
    return found


def runner_status(info: runners.RunnerInfo, state: str, working: int) -> RunnerStatus:
    """A runner as it is shown."""
    return RunnerStatus(
        id=info.id,
        state=state,
        host=info.process.host,
        pid=info.process.pid,
        queues=info.queues,
        slots=info.slots,
        working=working,
        heartbeat_age=max(0.0, sightings.heartbeat_age(info)),
        version=info.version,
        launcher=info.launcher,
        embedded=info.embedded,
    )


def gather_queues(home: Home, alive: Sequence[runners.RunnerInfo]) -> list[QueueStatus]:
    """Queues in which something waits, those that are served, and those that are paused."""
    paused = pauses.all_pauses(home)
    names = {*spool.queues(home), *(queue for info in alive for queue in info.queues), *paused}
    found = []
    for name in sorted(names):
        moments = [marker.queued_at for marker in spool.waiting(home, name)]
        served_by = len(runners.serving(alive, name))
        if moments or served_by or name in paused:
            oldest = max(0.0, time.time() - min(moments)) if moments else None
            found.append(QueueStatus(name, len(moments), oldest, served_by, paused.get(name)))
    return found


def gather_working(home: Home) -> list[JobStatus]:
    """The jobs that run, the longest first."""
    found = []
    for holder in spool.holders(home):
        for name in spool.claimed(home, holder):
            with contextlib.suppress(AirExecutorError):
                job = store.read(home, name)
                if job.state is JobState.WORKING:
                    found.append(JobStatus(name, job.queue, job.state.value, _age(job.started_at), runner=holder))
    return sorted(found, key=lambda job: job.age, reverse=True)


def gather_failures(home: Home) -> list[JobStatus]:
    """The latest jobs that failed."""
    found: list[JobStatus] = []
    for name in store.newest_names(home)[:LOOK_BACK]:
        with contextlib.suppress(AirExecutorError):
            job = store.read_or_damaged(home, name)
            if job.state is JobState.FAILED:
                found.append(_failure(job))
        if len(found) == LATEST_FAILURES:
            break
    return found


def _failure(job: Job) -> JobStatus:
    reason = job.exit.reason if job.exit else "for no known reason"
    return JobStatus(job.name, job.queue, job.state.value, _age(job.finished_at or job.updated_at), reason=reason)


def _age(moment: str | None) -> float:
    try:
        return max(0.0, time.time() - model.parse_time(moment or "").timestamp())
    except ValueError:
        return 0.0
