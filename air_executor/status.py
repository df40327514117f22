"""What is going on in a home: gathered once, the same for the CLI and for programs. What it amounts to is in `health`.

Nothing here prints. The work is bounded: working jobs are found by their claims, of which there are as many as slots;
waiting ones are counted by their markers, whose names say since when they wait; and of the others only the
`LOOK_BACK` most recently changed are read to find the latest failures. So a home with 100,000 jobs costs one look at
each directory, and reads some two hundred files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from air_executor import (
    components,
    model,
    pauses,
    queuetables,
    remedies,
    runners,
    sentences,
    settings,
    sightings,
    spool,
    store,
)
from air_executor.components import Component
from air_executor.errors import AirExecutorError, CorruptFileError, SettingsError
from air_executor.health import ComponentStatus, JobStatus, QueueStatus, RunnerStatus, Status
from air_executor.model import Job, JobState
from air_executor.paths import Home
from air_executor.sightings import Sightings
from air_executor.slurm import standing
from air_executor.webhooks import outbox

LOOK_BACK = 200
"""How many jobs are read at most to find the latest failures."""
LATEST_FAILURES = 5
WORKING_SHOWN = 20
HEALTH_PATH = "/api/v2/monitor/health"
HEALTH_TIMEOUT = 2.0
"""Seconds that the api-server may take to answer."""
_HEALTH_NAMES = {"scheduler": "scheduler", "dag_processor": "dag-processor", "triggerer": "triggerer"}
"""What the api-server's answer calls the components."""


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
    queues = gather_queues(home, alive)
    return Status(
        root,
        moment,
        exists=True,
        start=start,
        components=gather_components(home),
        runners=gather_runners(home, infos, seen),
        queues=queues,
        slurm=gather_slurm(home, alive),
        drained=remedies.draining(home, alive),
        airflow=gather_airflow(home, queues),
        settings=gather_settings(home),
        given_up=gather_given_up(home),
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


def gather_runners(home: Home, infos: Iterable[runners.RunnerInfo], seen: Sightings) -> list[RunnerStatus]:
    """Those that are alive, and those that died with claims."""
    found = []
    for info in infos:
        if seen.is_alive(info):
            found.append(runner_status(info, "draining" if info.draining else "alive", info.working))
        elif left := spool.claimed(home, info.id):
            dead = runner_status(info, "dead", len(left))
            found.append(dataclasses.replace(dead, in_slurm=standing.read_left(home, info.id)))
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
        load=info.load,
        slurm=info.slurm,
    )


def gather_queues(home: Home, alive: Sequence[runners.RunnerInfo]) -> list[QueueStatus]:
    """Queues in which something waits, those that are served, and those that are paused."""
    paused = pauses.all_pauses(home)
    names = {*spool.queues(home), *(queue for info in alive for queue in info.queues), *paused}
    of_slurm = slurm_queues(home)
    found = []
    for name in sorted(names):
        moments = [marker.queued_at for marker in spool.waiting(home, name)]
        served_by = len(runners.serving(alive, name))
        if moments or served_by or name in paused:
            oldest = max(0.0, time.time() - min(moments)) if moments else None
            found.append(QueueStatus(name, len(moments), oldest, served_by, paused.get(name), name in of_slurm))
    return found


def slurm_queues(home: Home) -> frozenset[str]:
    """Those whose jobs go to Slurm, as config.toml says; none while that cannot be read, which others tell of."""
    try:
        found = settings.queues(home)
    except SettingsError:
        return frozenset()
    return frozenset(name for name, table in found.items() if table.launcher == queuetables.SLURM)


def gather_settings(home: Home) -> str | None:
    """What is wrong with config.toml, without values but names: pages and the API show it, too."""
    try:
        settings.load(home, {})  # variables are those of other processes
    except SettingsError as error:
        return sentences.without_value(error)
    return None


def gather_given_up(home: Home) -> dict[str, int]:
    """How many events each webhook did not take, until they were given up."""
    counts = {name: len(outbox.stems(home, name, dead=True)) for name in outbox.webhooks_of(home, dead=True)}
    return {name: count for name, count in counts.items() if count}


def gather_slurm(home: Home, alive: Iterable[runners.RunnerInfo]) -> list[standing.Standing]:
    """How the runners that use Slurm and it get on."""
    holding = {holder for holder in spool.holders(home) if spool.claimed(home, holder)}
    return standing.gather(home, {info.id for info in alive}, holding)


def gather_airflow(home: Home, queues: Iterable[QueueStatus]) -> str | None:
    """Whose home it is, as `remedies.find_airflow` says it."""
    return remedies.find_airflow(home, [queue.name for queue in queues if queue.waiting and not queue.served_by])


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
