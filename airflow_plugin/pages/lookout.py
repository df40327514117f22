"""What is going on in the home, looked at once for all who ask within half a second. Nothing here knows who asks."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from air_executor import audit, health, model, remedies, runners, spool, status
from air_executor.errors import CorruptFileError
from air_executor.index import Filter, Index
from air_executor.model import Job, JobState
from air_executor.paths import Home
from air_executor.sightings import Sightings
from air_executor.slurm import failing, standing
from airflow_plugin.pages import readings

LOOK_EVERY = 0.5
"""Seconds that a look serves all who ask."""
COUNT_EVERY = 5.0
LATELY = 600.0
BUDGET = 0.25
"""Seconds that one look may spend on reading jobs for the index."""


@dataclass(frozen=True)
class View:
    """Runners and queues."""

    problems: list[str] = field(default_factory=list)
    runners: list[health.RunnerStatus] = field(default_factory=list)
    queues: list[health.QueueStatus] = field(default_factory=list)
    slurm: list[standing.Standing] = field(default_factory=list)
    """How the runners that use Slurm and it get on."""
    ended: dict[str, int] = field(default_factory=dict)
    """How many jobs of a queue ended in the last `LATELY` seconds."""
    steered: list[dict[str, Any]] = field(default_factory=list)
    """Who steered runners and queues lately."""


class Lookout:
    """Looks at one home, from any thread of this process."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.index = Index(home)
        self.seen = Sightings(guess=True)  # kept, so nobody ever waits for the heartbeat of another host
        self.readings = readings.Readings()
        self._lock, self._indexing = threading.Lock(), threading.Lock()
        self._view, self._viewed_at = View(), float("-inf")
        self._unread, self._indexed_at = 0, float("-inf")
        self._ended: dict[str, int] = {}
        self._counted_at = float("-inf")
        self._steered: list[dict[str, Any]] = []
        self._steered_sign = ""

    def view(self) -> View:
        """Runners and queues, as they were half a second ago at most."""
        with self._lock:
            if time.monotonic() - self._viewed_at >= LOOK_EVERY:
                self._view = self._look()
                self._viewed_at = time.monotonic()
            return self._view

    def _look(self) -> View:
        infos = runners.all_runners(self.home)
        alive = [info for info in infos if self.seen.is_alive(info)]
        queues, steered = status.gather_queues(self.home, alive), self._look_who_steered()
        found = health.Status(
            str(self.home.root),
            model.now(),
            exists=self.home.jobs.is_dir(),
            start=runners.start_command(self.home),
            runners=status.gather_runners(self.home, infos, self.seen),
            queues=queues,
            slurm=status.gather_slurm(self.home, alive),
            drained=[remedies.find_drained(info.id, info.queues, steered) for info in alive if info.draining],
            airflow=status.gather_airflow(self.home, queues),
            settings=status.gather_settings(self.home),
            given_up=status.gather_given_up(self.home),
        )
        ended = self._count([queue.name for queue in found.queues])
        return View(found.problems, found.runners, found.queues, found.slurm, ended, steered)

    def _look_who_steered(self) -> list[dict[str, Any]]:
        """Read when there is something new: a log that is full takes a tenth of a second."""
        sign = readings.sign_of(self.home.steering_log_before, self.home.steering_log)
        if sign != self._steered_sign:
            try:
                self._steered = audit.latest(self.home)
            except CorruptFileError:
                self._steered = []
            self._steered_sign = sign
        return self._steered

    def _count(self, queues: list[str]) -> dict[str, int]:
        """What ended lately; counted every few seconds."""
        if time.monotonic() - self._counted_at >= COUNT_EVERY or not self._ended.keys() >= set(queues):
            moment, index = time.time(), self.jobs()
            for queue in queues:
                total = index.history(Filter(queues=[queue]), moment - LATELY, moment, LATELY).total
                self._ended[queue] = total.completed + total.failed + total.cancelled
            self._counted_at = time.monotonic()
        return {queue: self._ended[queue] for queue in queues}

    def notes(self, job: Job) -> list[str]:
        """What keeps a job from starting, or who does not look after it any more, in sentences."""
        if job.state.terminal:
            return []
        view = self.view()
        if there := standing.read_waits(self.home, job):
            return [there]
        if job.state is JobState.WAITING:
            queue = next((each for each in view.queues if each.name == job.queue), None)
            unserved = [] if queue and queue.served_by else [f"no runner serves the queue {job.queue}"]
            paused = [f"the queue {job.queue} is {queue.paused}"] if queue and queue.paused else []
            return [*unserved, *paused] or self._notes_on_pilots(view, job.queue)
        holder = next((each for each in spool.holders(self.home) if self._holds(each, job.name)), None)
        gone = next((runner for runner in view.runners if runner.id == holder and runner.state == "dead"), None)
        if gone is None:
            return []
        return [
            f"the runner {gone.id} is gone; the job goes on if its processes do,"
            f" and the next runner on {gone.host} takes over"
        ]

    def _notes_on_pilots(self, view: View, queue: str) -> list[str]:
        alive = [runner for runner in view.runners if runner.state != "dead"]
        found = failing.find({each.runner: each.failing for each in view.slurm}, alive).get(queue)
        return [] if found is None else [failing.explain(self.home, found)]

    def _holds(self, holder: str, name: str) -> bool:
        return (self.home.claims(holder) / name).exists()

    def jobs(self) -> Index:
        """The index, brought up to date as far as that takes no longer than `BUDGET`."""
        with self._indexing:
            if time.monotonic() - self._indexed_at >= LOOK_EVERY and self.home.jobs.is_dir():
                self._unread = self.index.refresh(BUDGET).unread
                self._indexed_at = time.monotonic()
        return self.index

    @property
    def unread(self) -> int:
        """How many jobs the index does not know yet."""
        return self._unread

    def look_anew(self) -> None:
        """Somebody has changed something, and will look whether it shows."""
        self._viewed_at = self._indexed_at = float("-inf")


_lock = threading.Lock()
_current: Lookout | None = None


def of(home: Home) -> Lookout:
    """The lookout of this process; it has one, because there is one home."""
    global _current
    with _lock:
        if _current is None or _current.home.root != home.root:
            if _current is not None:
                _current.index.close()
            _current = Lookout(home)
        return _current
