"""How waiting jobs become running ones: when one may start, its claim, and the launcher that brings it to life.

A job that is claimed is launched at once. What the system refuses goes back into its queue: a job is not to blame for
that, and nothing is started for a moment.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable

from air_executor import model, repair, spool, store
from air_executor.errors import CorruptFileError, NotFoundError
from air_executor.settings import RunnerSettings
from air_runner import clock, endings, metrics, taskloop
from air_runner.enforcement import Enforcement
from air_runner.launchers import Event, Launched, Launcher, Refused
from air_runner.launchers.exec import ExecLauncher
from air_runner.launchers.fork import ForkLauncher
from air_runner.pacing import Pacer
from air_runner.work import Work

log = logging.getLogger(__name__)


class Launching:
    """Starts the jobs of a runner.

    Args:
        settings: the slots may change later.
        limits: what running jobs are held to.
        on_events: called with what launchers have to say.
    """

    def __init__(
        self, work: Work, settings: RunnerSettings, limits: Enforcement, on_events: Callable[[list[Event]], None]
    ) -> None:
        self._work, self._limits, self._on_events = work, limits, on_events
        self._preload = settings.preload
        self._pacer = Pacer()
        self.slots = settings.slots
        self.launchers: list[Launcher] = []
        """The first that accepts a job launches it; the last accepts every one."""
        self.forks: ForkLauncher | None = None

    def open(self, launcher: str, rules: taskloop.Rules, selector: selectors.BaseSelector) -> None:
        """Make the launchers ready.

        Args:
            launcher: the name of the first of them.
            selector: where the templates are heard.
        """
        home, runner_id = self._work.home, self._work.runner_id
        self.launchers = [ExecLauncher(home, runner_id, rules)]
        if launcher == "fork":
            self.forks = ForkLauncher(home, runner_id, rules, selector, self._on_events)
            self.launchers.insert(0, self.forks)
            for module in self._preload:
                self.forks.warm(module)

    # --- When ---

    def fill_slots(self) -> None:
        """Start what may start now."""
        queues = self._work.queues
        while self._may_start(time.monotonic()) and (marker := queues.backlog.pop()) is not None:
            self._start(marker)

    def fill_slurm(self) -> None:
        """Take what goes to Slurm, and no slot."""
        cluster = self._work.cluster
        while cluster is not None and self._may_fill_slurm() and (marker := self._work.queues.far.pop()) is not None:
            if not cluster.leaves(marker.queue):  # the next look finds it again
                self._start(marker)

    def _start(self, marker: spool.Marker) -> None:
        try:
            if not self._is_in_hand(marker) and spool.claim(self._work.home, marker, self._work.runner_id):
                self._launch(marker)
        except OSError as error:
            self._start_later(marker, error)

    def _is_in_hand(self, marker: spool.Marker) -> bool:
        """Whether the runner has the job already, and knows now that it waits: again, or its claim was lost."""
        if not self._work.has(marker.job):
            return False
        if self._work.cluster is None or not self._work.has_in_slurm(marker.job):
            self._work.queues.hold(marker)
        elif spool.claim(self._work.home, marker, self._work.runner_id):
            self._launch(marker)  # it was in Slurm: submitted anew by somebody, it may run here now
        return True

    def fill_places(self) -> None:
        """Start jobs that others of this runner wait for, also if all slots are taken, or it drains."""
        if not self._has_places():
            return
        places = self._work.queues.places
        for host, marker in places.candidates(self._work.running.names):
            if self._is_time_to_start(time.monotonic()):
                places.set_aside(marker.job)
                self._start_in_place(marker, host)

    def _start_in_place(self, marker: spool.Marker, host: str) -> None:
        if not self._work.has(marker.job):
            full = not self._has_room()
            if spool.claim(self._work.home, marker, self._work.runner_id):
                if full:
                    self._work.queues.places.take(marker.job, host)
                self._launch(marker)
                if marker.job not in self._work.running:
                    self._work.queues.places.ended(marker.job)

    def due(self) -> list[str]:
        """What of the clock's the next start waits for, if something could start."""
        if not ((len(self._work.queues.backlog) and self._has_room()) or self._has_places() or self._may_fill_slurm()):
            return []
        return [max("start", "pace", key=lambda name: self._work.clock.due.get(name, 0.0))]

    def _may_start(self, moment: float) -> bool:
        return bool(len(self._work.queues.backlog)) and self._has_room() and self._is_time_to_start(moment)

    def _is_time_to_start(self, moment: float) -> bool:
        wait = self._pacer.seconds_to_wait(self._work.running, moment)
        self._work.clock.not_before("pace", moment + wait)
        return wait == 0 and self._work.clock.is_due("start", moment)

    def _may_take(self) -> bool:
        return (
            self._work.queues.paused is not None
            and not self._work.course.draining
            and self._work.clock.is_due("start", time.monotonic())
        )

    def _may_fill_slurm(self) -> bool:
        cluster = self._work.cluster
        return bool(len(self._work.queues.far)) and cluster is not None and cluster.has_room and self._may_take()

    def _has_room(self) -> bool:
        if self._work.queues.paused is None or self._work.course.draining or self._warming():
            return False
        busy = self._work.busy
        return busy < self.slots or busy - self._work.queues.places.guests(self._work.running.names) < self.slots

    def _has_places(self) -> bool:
        """A runner that drains has to; one that ends, or leaves its jobs to the next, starts nothing."""
        queues, course = self._work.queues, self._work.course
        return bool(queues.places) and not (
            queues.paused is None or course.leaving or course.aborting or self._warming()
        )

    def _warming(self) -> bool:
        """A job waits in its queue until it can start: if the runner dies meanwhile, that is no crash of the job."""
        return self.forks is not None and self.forks.warming(self._preload)

    def _start_later(self, marker: spool.Marker, error: OSError) -> None:
        """The system refuses, which is not the job's fault: neither it nor those after it are tried for a while."""
        log.error("cannot start %s: %s; trying again in %.0f s", marker.job, error, clock.START_PAUSE)
        self._work.queues.add(marker)
        self._work.clock.start_later()

    # --- How ---

    def _launch(self, marker: spool.Marker) -> None:
        name = marker.job
        try:
            job = store.read(self._work.home, name)
        except (CorruptFileError, NotFoundError, ValueError):
            self._give_up(name)
            return
        if self._work.pilot and job.slurm is not None:  # it is a job of Slurm itself: who has started this sees to it
            self._work.queues.leave(spool.requeue(self._work.home, job, self._work.runner_id))
            return
        if self._work.cluster is not None and self._work.cluster.wants(job):
            self._work.cluster.take(name)
            return
        running = self._limits.watch(job)
        running.waited = time.time() - marker.queued_at
        self._work.running.add(running)
        self._pacer.begin(name, time.monotonic())
        launcher = next(launcher for launcher in self.launchers if launcher.accepts(job))
        self._launch_with(launcher, job)

    def _give_up(self, name: str) -> None:
        end = endings.End(endings.NOT_OURS, "cannot be read")
        work = self._work
        verdict = repair.resolve(work.home, name, end.why, by=work.by, holder=work.runner_id)
        work.tally.settled(name, end, verdict, None)

    def _launch_with(self, launcher: Launcher, job: model.Job) -> None:
        if running := self._work.running.get(job.name):
            running.launcher = launcher.name
            if isinstance(launcher, ExecLauncher):
                running.output = None  # it is watched there: of two that note a cut, one may come after the job's end
        try:
            events = launcher.launch(job)
        except OSError as error:
            self._work.running.remove(job.name)
            self._work.tally.add(metrics.FAILURES, launcher.name)
            self._start_later(spool.requeue(self._work.home, job, self._work.runner_id), error)
        else:
            self._on_events(events)

    def launched(self, event: Launched) -> None:
        """The ephemeral runner of a job lives."""
        self._work.running.launched(event.job, event.pid)
        if running := self._work.running.get(event.job):
            self._work.tally.started(running)

    def refused(self, event: Refused) -> None:
        """A launcher cannot launch a job: the last one does."""
        if running := self._work.running.get(event.job):
            self._work.tally.add(metrics.FAILURES, running.launcher)
            self._launch_with(self.launchers[-1], running.job)
