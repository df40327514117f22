"""How a home is at a moment, as plain data, and what should be otherwise. Pure; how it is found out is in `status`."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from air_executor import pauses, remedies, runners
from air_executor.paths import Home, command
from air_executor.slurm import failing, standing

_BAD = frozenset({"down", "unhealthy"})
_START = "start one with"


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
    load: float | None = None
    """The load average of its host over a minute."""
    in_slurm: int = 0
    """How many of the claims that a dead one left are jobs that Slurm has, which go on."""
    slurm: bool = False
    """Whether it has Slurm's commands."""

    @property
    def draining(self) -> bool:
        """Whether it takes no jobs."""
        return self.state == "draining"


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
    slurm: bool = False
    """Whether its jobs go to Slurm."""


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
    slurm: list[standing.Standing] = field(default_factory=list)
    """How the runners that use Slurm and it get on."""
    drained: list[remedies.Drained] = field(default_factory=list)
    """The runners that live and take no jobs, and who wanted it."""
    airflow: str | None = None
    """The AIRFLOW_HOME of the Airflow whose home it is, empty if that is not known; None if it is no Airflow's."""
    settings: str | None = None
    """What is wrong with config.toml."""
    given_up: Mapping[str, int] = field(default_factory=dict)
    """How many events each webhook did not take, until they were given up."""

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
    """home, settings, component, runner, queue, slurm or webhooks."""
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
        *_settings_troubles(home, status),
        *(
            Trouble("component", f"{each.name} is {each.state}: {each.detail}")
            for each in status.components
            if each.state in _BAD
        ),
        *_runner_troubles(home, status),
        *_queue_troubles(home, status),
        *(Trouble("slurm", each.text, each.advice, each.fix) for each in standing.problems(status.slurm)),
        *_pilot_troubles(home, status),
        *_command_troubles(home, status),
        *webhook_troubles(home, status.given_up),
    ]


def _settings_troubles(home: Home, status: Status) -> Iterator[Trouble]:
    if status.settings is not None:
        text = (
            "no runner can start, and webhooks and runners that run go by what was valid before, as there is a mistake"
        )
        yield Trouble("settings", f"{text}: {status.settings}", "mend it, then look with", command(home, "doctor"))


def webhook_troubles(home: Home, given_up: Mapping[str, int]) -> Iterator[Trouble]:
    """Events that no receiver took are kept for a person to see to."""
    for webhook, count in given_up.items():
        text = f"given up for the webhook {webhook}: {count} of its events"
        fix = command(home, "webhook", "list", "--dead", "--webhook", webhook)
        yield Trouble("webhooks", text, "look at them, and resend or drop them, with", fix)


def _runner_troubles(home: Home, status: Status) -> Iterator[Trouble]:
    if not any(runner.state == "alive" for runner in status.runners):
        remedy = remedies.for_queue(home, None, status.drained, status.airflow, status.start)
        yield Trouble("runner", f"no runner takes jobs{remedy.why}", remedy.advice, remedy.fix)
    for runner in status.runners:
        if runner.state == "dead":
            yield Trouble("runner", f"the runner {runner.id} is gone and {_left(runner)}", _START, status.start)


def _left(runner: RunnerStatus) -> str:
    here, there = runner.working - runner.in_slurm, runner.in_slurm
    in_slurm = f"{_jobs(there)} in Slurm, which {'goes' if there == 1 else 'go'} on"
    if not here:
        return f"left {in_slurm}; the next one takes over"
    left = f"left {_jobs(here)}; the next one on {runner.host} takes over"
    return f"{left}. It also left {in_slurm}" if there else left


def _queue_troubles(home: Home, status: Status) -> Iterator[Trouble]:
    for queue in status.queues:
        waits = f"{_jobs(queue.waiting)} {'waits' if queue.waiting == 1 else 'wait'} in the queue {queue.name}"
        if queue.waiting and queue.paused:
            resume = command(home, "queue", "resume", queue.name)
            yield Trouble("queue", f"{waits}, which is {queue.paused}", "resume it with", resume, wanted=True)
        elif queue.waiting and not queue.served_by:
            remedy = remedies.for_queue(home, queue.name, status.drained, status.airflow, status.start)
            yield Trouble("queue", f"{waits} and no runner serves it{remedy.why}", remedy.advice, remedy.fix)


def _pilot_troubles(home: Home, status: Status) -> Iterator[Trouble]:
    waiting = {queue.name: queue.waiting for queue in status.queues if not queue.paused}
    alive = [runner for runner in status.runners if runner.state != "dead"]
    found = failing.find({each.runner: each.failing for each in status.slurm}, alive)
    for queue, each in found.items():
        if jobs := waiting.get(queue, 0):
            waits = f"{_jobs(jobs)} {'waits' if jobs == 1 else 'wait'} in the queue {queue}"
            yield Trouble("slurm", f"{waits}, and {failing.describe(each)}", *failing.advise(home, each))


def _command_troubles(home: Home, status: Status) -> Iterator[Trouble]:
    """Runners without Slurm's commands that have to serve a queue of Slurm, as there are none that have them."""
    for queue in status.queues:
        serving = [each for each in status.runners if each.state == "alive" and queue.name in each.queues]
        if queue.slurm and serving and not any(each.slurm for each in serving):
            who = ", ".join(each.id for each in serving)
            text = f"no runner that serves the queue {queue.name} ({who}) found Slurm's commands when it started"
            start = runners.start_command(home, queue.name)
            advice = "start one that has them (sbatch, squeue, scancel; Debian: slurm-client) with"
            yield Trouble("slurm", f"{text}: nobody can submit its jobs", advice, start)


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"
