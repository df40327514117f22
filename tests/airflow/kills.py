"""kill -9 at random moments: of the scheduler, of the runner, of both. What must hold afterwards is in `flow`.

A scheduler that was killed is started again, as a service manager does; a runner comes back by itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from tests.airflow import flow, processes, stack, waiting

WHAT = ("scheduler", "runner", "both")

SOON = {
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "8",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
}
"""What a dead scheduler left is adopted after seconds; with Airflow's defaults it takes up to five minutes."""

SECOND = "scheduler-2"

UP_SECONDS = 120
"""For a scheduler or runner to be back, on a machine that has other things to do."""


@dataclass(frozen=True)
class Kill:
    """What one kill hit."""

    what: str
    early: bool
    """While the victim was still starting."""
    waiting: int
    """Jobs in a queue."""
    claimed: int
    """Jobs that a runner had."""
    bodies: int
    """Bodies that had started and not ended."""
    runners: int


@dataclass
class Killer:
    """Kills, and sees to it that there is something to kill and something to do.

    Args:
        reserve: a further run is triggered when fewer tasks than this have not started.
        pause: the longest time between a victim's being up and its being killed.
    """

    airflow: stack.Stack
    flow: flow.Flow
    random: random.Random
    reserve: int
    pause: float
    settings: dict[str, str] = field(default_factory=dict)
    kills: list[Kill] = field(default_factory=list)

    def kill(self, what: str) -> Kill:
        """Wait for a good moment, kill, and start the scheduler again if it was hit."""
        early = self.random.random() < 0.25
        self.flow.keep_going(self.reserve)
        if not early:
            self._until(self._at_work, "Airflow to be at work")
        self._until(self.living_runners if what != "scheduler" else self._scheduler_lives, f"a {what} to kill")
        let_pass(self.random.uniform(0, self.pause))
        seen = Kill(what, early, *self._seen())
        for victim in self._victims(what):
            victim()
        if what != "runner":
            self.airflow.start_component("scheduler", **self.settings)
        self.kills.append(seen)
        return seen

    def _victims(self, what: str) -> list[Callable[[], None]]:
        # A runner that was told to stop may have ended by now.
        runners = waiting.until(self.living_runners, "a runner to kill", UP_SECONDS) if what != "scheduler" else []
        if what == "runner":
            return [lambda: kill_all([self.random.choice(runners)])]
        if what == "scheduler":
            return [self.airflow.kill_scheduler]
        victims = [self.airflow.kill_scheduler, lambda: kill_all(runners)]
        self.random.shuffle(victims)
        return victims

    def living_runners(self) -> list[int]:
        pids = [int(info["process"]["pid"]) for info in self.airflow.home.runners()]
        return [pid for pid in pids if processes.exists(pid)]

    def _scheduler_lives(self) -> bool:
        return self.airflow.running("scheduler")

    def _at_work(self) -> bool:
        """The scheduler of now has told the database that it is there, a runner serves, and a body is running."""
        serving = [info for info in self.airflow.home.runners() if not info["draining"]]
        alive = any(processes.exists(info["process"]["pid"]) for info in serving)
        return alive and self._scheduler_is_known() and self._seen()[2] > 0

    def _scheduler_is_known(self) -> bool:
        started = self.airflow.component("scheduler").create_time()
        latest = "select extract(epoch from max(start_date)) from job where job_type = 'SchedulerJob'"
        return float(self.airflow.sql(latest)[0][0]) >= started

    def _seen(self) -> tuple[int, int, int, int]:
        spool = self.airflow.home.path / "spool"
        started, ended = self.flow.counts()
        waiting_jobs, claimed = (len(list(spool.glob(f"{where}/*/*"))) for where in ("waiting", "claimed"))
        return waiting_jobs, claimed, started - ended, len(self.living_runners())

    def _until(self, condition: Callable[[], object], what: str) -> None:
        def met() -> object:
            self.flow.keep_going(self.reserve)
            return condition()

        waiting.until(met, what, UP_SECONDS)


def let_pass(seconds: float) -> None:
    """Until the moment to kill."""
    end = time.monotonic() + seconds
    waiting.until(lambda: time.monotonic() >= end, "the moment to kill", seconds + 10, 0.02)


@contextlib.contextmanager
def second_scheduler(airflow: stack.Stack, settings: Mapping[str, str]) -> Iterator[None]:
    """One more scheduler of this Airflow, of the same home."""
    before = _scheduler_starts(airflow)
    port = str(stack.free_ports(1)[0])
    command = [str(stack.BIN / "airflow"), "scheduler"]
    airflow.spawn(SECOND, command, LOGGING__WORKER_LOG_SERVER_PORT=port, **settings)
    try:
        waiting.until(lambda: _scheduler_starts(airflow) > before, "the second scheduler to start", UP_SECONDS)
        yield
    finally:
        if airflow.running(SECOND):
            airflow.end_component(SECOND)


def _scheduler_starts(airflow: stack.Stack) -> int:
    return int(airflow.sql("select count(*) from job where job_type = 'SchedulerJob'")[0][0])


def kill_one_of_two(tasks: flow.Flow, chosen: random.Random) -> str:
    """Kill one of two schedulers when half of the bodies have ended; which one, and what it left to the other."""
    waiting.until(lambda: tasks.counts()[1] >= tasks.tasks / 2, "half of the bodies to end", 600)
    victim = chosen.choice(["scheduler", SECOND])
    tasks.airflow.kill_scheduler(victim)
    return victim


def queued_by(tasks: flow.Flow) -> dict[int | None, int]:
    """How many of the task instances each scheduler had in the end."""
    runs = ", ".join(f"'{run.run_id}'" for run in tasks.runs)
    statement = f"select queued_by_job_id, count(*) from task_instance where run_id in ({runs}) group by 1 order by 1"
    return dict(tasks.airflow.sql(statement))


def kill_all(pids: Iterable[int]) -> None:
    """kill -9, in this order."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def summary(kills: list[Kill]) -> dict[str, int]:
    """How many kills hit what."""
    return {
        "kills": len(kills),
        "while jobs were with a runner": sum(kill.claimed > 0 for kill in kills),
        "while jobs were waiting": sum(kill.waiting > 0 for kill in kills),
        "while bodies were running": sum(kill.bodies > 0 for kill in kills),
        "while the victim was starting": sum(kill.early for kill in kills),
        "most runners at once": max((kill.runners for kill in kills), default=0),
    }


def rows(kills: list[Kill]) -> Iterator[dict[str, object]]:
    yield from map(asdict, kills)
