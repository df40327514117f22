"""The daemon: notices markers, claims jobs, launches their ephemeral runners, is told of their ends, recovers.

One loop over descriptors: signals (children that end, requests to stop), the spool's watch, templates, processes taken
over from a runner before. Everything that happens by the clock is in `_tick`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable
from pathlib import Path

from air_executor import audit, model, orders, pauses, places, processes, repair, runners, settings, spool, store
from air_executor.client import AirExecutorClient
from air_executor.errors import AirExecutorError, CorruptFileError, NotFoundError
from air_executor.paths import Home
from air_executor.settings import RetentionSettings, RunnerSettings
from air_executor.sightings import Sightings
from air_executor.watch import Watch
from air_runner import (
    __version__,
    cgroups,
    endings,
    enforcement,
    exporter,
    limits,
    metrics,
    notes,
    orphans,
    pacing,
    pruner,
    recovery,
    scheduling,
    signals,
    tally,
    taskloop,
    upkeep,
)
from air_runner.clock import Clock
from air_runner.endings import Endings
from air_runner.guard import SpoolGuard
from air_runner.jobs import Running, RunningJobs
from air_runner.launchers import Event, Exited, Launched, Launcher, Refused
from air_runner.launchers.exec import ExecLauncher
from air_runner.launchers.fork import ForkLauncher
from air_runner.presence import Presence

log = logging.getLogger(__name__)

LOOK_INTERVAL = 2.0
"""Seconds between looks at the queues although the watch works: an event may have been lost, a host may be remote."""
LOOK_INTERVAL_BLIND = 1.0
"""The same where watching does not work."""
LOOK_INTERVAL_FULL = 30.0
"""The same while more jobs wait than there are slots: a look costs as much as jobs wait."""
LOOK_PAUSE = 0.1
"""Seconds that a look is put off which something new in the spool makes necessary: more may follow."""
RECOVER_INTERVAL = 3.0
RECOVER_TIME = 1.0
"""Seconds of recovery after which the loop does everything else once."""
GONE_INTERVAL = 1.0
"""Seconds between looks at whether processes are still there of whose end nobody told."""


class Runner:
    """A runner on this host.

    Args:
        runner_id: its name in `runners/`, and the holder of its claims.
        embedded: started by an executor.
        ready_fd: where to write one byte when the runner is ready.
        group: the control group that it is in.
        retention: which jobs that are over it keeps; None: all.
    """

    def __init__(
        self,
        home: Home,
        settings: RunnerSettings,
        runner_id: str,
        *,
        embedded: bool = False,
        ready_fd: int | None = None,
        retention: RetentionSettings | None = None,
        group: cgroups.Group | None = None,
    ) -> None:
        self.home, self.settings, self.id = home, settings, runner_id
        self.ready_fd, self.embedded = ready_fd, embedded
        self.limits = enforcement.Enforcement(home, settings.output_mb, self._stop)
        self.rules = taskloop.Rules(settings.grace, settings.output_mb)
        self.by = f"runner {runner_id}"
        self.backlog = scheduling.Backlog()
        self.places = places.Places(home, ())
        self.paused: frozenset[str] | None = None
        """The queues of which no job may start; None until that is known."""
        self.pacer = pacing.Pacer()
        self.running = RunningJobs()
        self.endings = Endings(home, runner_id, self.by)
        self.early: dict[str, spool.Marker] = {}
        """Markers of jobs that wait again although the process of their last attempt has not quite gone."""
        self.forks: ForkLauncher | None = None
        self.clock = Clock()
        self.client = AirExecutorClient(home.root)
        self.seen = Sightings()
        self.upkeep = upkeep.Upkeep(home, self.by, self._repaired)
        self.pruner = pruner.Pruner(home, retention or RetentionSettings(interval=0.0))
        self.guard = SpoolGuard(home, runner_id, settings.queues)
        self.tally = tally.Tally(home, settings.queues)
        self.exporter = exporter.Exporter(home, runner_id, settings)
        self.notes = notes.Notes(home, runner_id)
        self.draining = self.stopping = self.leaving = self.aborting = False
        self.group = group
        self.orphans: orphans.Orphans | None = None
        """Only a runner in a process of its own may take it that all children are its own."""
        self.busy_at = time.monotonic()
        self.started_at = time.time()
        self.process = processes.identify(os.getpid())
        moment = model.now()
        info = runners.RunnerInfo(
            id=runner_id,
            process=self.process,
            queues=list(settings.queues),
            slots=settings.slots,
            launcher=settings.launcher,
            version=__version__,
            started_at=moment,
            heartbeat_at=moment,
            heartbeat=settings.heartbeat,
            embedded=embedded,
        )
        self.presence = Presence(home, info)

    # --- Life ---

    def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        self._set_up()
        try:
            while not self._is_over():
                for key, _ in self.selector.select(self._pause()):
                    self._safely("an event", key.data)
                self._tick()
        finally:
            self._tear_down()
        return 0

    def _is_over(self) -> bool:
        if self.leaving:  # a job that a template was asked for has no process yet that could go on alone
            return all(running.pid is not None for running in self.running)
        return self.stopping and not self.running and not self.endings

    def _set_up(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.pipe = signals.SignalPipe([signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD])
        self.selector.register(self.pipe, selectors.EVENT_READ, self._on_signals)
        self.orphans = orphans.Orphans(adopts=processes.become_subreaper())
        self.presence.begin()  # before all else: one of this name that died shall not be cleaned up
        self._beat()
        self.guard.make()
        self.launchers: list[Launcher] = [ExecLauncher(self.home, self.id, self.rules)]
        if self.settings.launcher == "fork":
            self.forks = ForkLauncher(self.home, self.id, self.rules, self.selector, self._on_events)
            self.launchers.insert(0, self.forks)
            for module in self.settings.preload:
                self.forks.warm(module)
        self.watch = Watch([self.home.spool], self.pipe.wake, recursive=True)
        self.watch.start()
        self._safely("recovery", self._recover)
        self.upkeep.start()
        self.pruner.start()
        self._safely("metrics", self._publish)
        self._safely("metrics", self.exporter.start)
        if self.ready_fd is not None:
            with contextlib.suppress(BrokenPipeError):  # nobody waits for it
                os.write(self.ready_fd, b"1")
            os.close(self.ready_fd)
        log.info("runner %s serves %s", self.id, self._describe())
        facts = {**self._facts(), "embedded": self.embedded, "host": self.process.host, "pid": self.process.pid}
        self.notes.add(audit.STARTED, facts, by=processes.user())

    def _describe(self) -> str:
        return f"{', '.join(self.settings.queues)} with {self.settings.slots} slots"

    def _facts(self) -> dict[str, object]:
        return {"slots": self.settings.slots, "queues": list(self.settings.queues)}

    def _tear_down(self) -> None:
        """Heartbeats stop last: until then nobody may take this runner for dead."""
        if self.leaving:
            log.info("leaving %d running jobs to the next runner", len(self.running))
            self._beat()
        self.exporter.stop()  # first: the next runner may be waiting for the port
        self.watch.stop()
        self.upkeep.stop()
        self.pruner.stop()
        if self.forks is not None:
            self.forks.close()
        self.notes.add(audit.ENDED, by=self.by, why=f"{len(self.running)} jobs go on" if self.leaving else "")
        self.notes.close()
        self.presence.end()
        self.pipe.close()
        self.selector.close()
        log.info("runner %s ended", self.id)

    def _repaired(self) -> None:
        """Called from another thread."""
        self.clock.at_latest("look", time.monotonic() + LOOK_PAUSE)
        self.pipe.wake()

    def _safely(self, what: str, action: Callable[..., object], *args: object) -> None:
        """One job, one file, a system out of descriptors must not end the runner: it has other jobs.

        What was left undone is found again by the clock: markers and requests by a look, ends by recovery.
        """
        try:
            action(*args)
        except Exception:
            log.exception("trouble with %s; going on", what)

    # --- What wakes the loop ---

    def _on_signals(self) -> None:
        seen = self.pipe.read()
        if seen & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            self._safely("a signal", self._on_request_to_end)
        for pid, status in signals.reap().items():
            if self.forks is not None and pid in self.forks.pids:
                self.forks.died(pid)
            else:
                if self.forks is not None and pid not in self.running.pids:
                    self.forks.listen()  # a template that has gone has left it, and its word was not heard yet
                self._safely(f"the end of process {pid}", self._exited, pid, status)
        paths = self.watch.take()
        self.tally.add(metrics.EVENTS, count=len(paths))
        for path in paths:
            self._safely(str(path), self._noticed, path)

    def _on_request_to_end(self) -> None:
        action = "abort" if self.stopping else "stop"
        if self.settings.handover:  # also the second time: a service manager may signal more than once
            action = "handover"
        self.control(orders.Order(action, by="a signal"))

    def _noticed(self, path: Path) -> None:
        """A new file below spool/."""
        with contextlib.suppress(ValueError):
            match path.relative_to(self.home.spool).parts:
                case ("waiting", queue, name):
                    marker = spool.parse_marker(queue, name)
                    if marker and queue in self.settings.queues:
                        self.backlog.add(marker)
                case ("cancel", name):
                    self._stop_if_asked(name)
                case ("control", _) | (self.home.steered.name,):
                    self._look_at_orders()
                case ("yielded", name):
                    self.places.note(name)
                case _:
                    return

    def _look_at_orders(self) -> None:
        """What this runner is asked for, and which queues are paused."""
        for order in orders.take(self.home, self.id, self.process):
            self._safely(f"the order to {order.action}", self.control, order)
        self._heed_pauses()

    def _heed_pauses(self) -> None:
        paused = pauses.names(self.home)
        if paused != self.paused:
            log.info("paused queues: %s", ", ".join(sorted(paused)) or "none")
            self.paused = paused
            self.backlog.pause(paused)
            self._serve_places()

    def _serve_places(self) -> None:
        self.places.serve(frozenset(self.settings.queues) - (self.paused or frozenset()))

    def control(self, order: orders.Order) -> None:
        """Do what somebody asked this runner for."""
        action = order.action
        log.info("asked to %s by %s%s", action, order.by, f": {order.why}" if order.why else "")
        if action == orders.SET:
            self._set(order)
            return
        self.notes.add(action, by=order.by, why=order.why)
        if action == "renew":
            if self.forks is not None:
                self.forks.renew("somebody asked for it")
            return
        self.draining = action != "resume"
        self.stopping = action in ("stop", "handover", "abort") or (self.stopping and action == "drain")
        self.leaving = action == "handover" or (self.leaving and action == "drain")
        self.aborting = self.aborting or action == "abort"
        if action == "abort":
            outcome = model.Exit(model.ExitKind.CANCELLED, f"stopped together with its runner {self.id}")
            for running in self.running:
                self._stop(running, outcome)
        self.clock.soon("beat")

    def _set(self, order: orders.Order) -> None:
        """Other slots, other queues, until this runner ends. What runs goes on."""
        before, queues = self._facts(), self.settings.queues
        self.settings = settings.override(self.settings, order.changes, prefix="")
        log.info("now serving %s", self._describe())
        self.notes.add(order.action, {**self._facts(), "before": before}, by=order.by, why=order.why)
        self.presence.change(slots=self.settings.slots, queues=self.settings.queues)
        self.clock.soon("beat")
        if self.settings.queues != queues:
            self.backlog.keep_only(self.settings.queues)
            self._serve_places()
            self.exporter.change(self.settings)
            self.clock.soon("look")  # also if the directories cannot be made now: the guard makes them later
            self.guard.serve(self.settings.queues)
            self._watch_anew()

    def _watch_anew(self) -> None:
        """A watch stays with the directories that were there when it began."""
        self.watch.stop()
        self.watch.start()

    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            self._safely(str(event), self._on_event, event)

    def _on_event(self, event: Event) -> None:
        match event:
            case Launched(job, pid):
                self.running.launched(job, pid)
                if running := self.running.get(job):
                    self.tally.started(running)
                self.clock.at_latest("limits", time.monotonic() + limits.FIRST_LOOK)
            case Exited(pid, status):
                self._exited(pid, status)
            case Refused(job):
                if running := self.running.get(job):
                    self.tally.add(metrics.FAILURES, running.launcher)
                    self._launch_with(self.launchers[-1], running.job)

    # --- The clock ---

    def _tick(self) -> None:
        moment = time.monotonic()
        if self.clock.every("beat", self.settings.heartbeat, moment):
            self._safely("the heartbeat", self._beat)
            self._safely("metrics", self._publish)
        if self.clock.every("recover", RECOVER_INTERVAL, moment):
            self._safely("the spool", self._guard_spool)
            self._safely("recovery", self._recover)
            self._safely("what jobs left", self._kill_orphans)  # what was about to be a program when it lost its parent
        if self.endings and self.clock.every("retry", self.endings.retry_interval, moment):
            self._retry_endings()
        if self.clock.every("gone", GONE_INTERVAL, moment):
            for running in self.running:
                self._safely(f"the process of {running.job.name}", self._check_gone, running)
        if self.clock.every("limits", limits.LAST_LOOK, moment):
            self._safely("the limits", self._keep_limits, moment)
        if self.clock.every("orders", LOOK_INTERVAL if self.watch.works else LOOK_INTERVAL_BLIND, moment):
            self._safely("what is asked for", self._look_at_orders)
        if self.clock.every("look", self._look_interval(), moment):
            self._safely("the queues", self._look)
        self._safely("starting jobs", self._fill_slots)
        if self._has_places():
            self._safely("jobs that others wait for", self._fill_places)
        self._safely("the idle time", self._linger, moment)

    def _pause(self) -> float:
        """Seconds until something is due."""
        names = [
            "beat",
            "recover",
            "look",
            "orders",
            *([self._when_to_start()] if (len(self.backlog) and self._has_room()) or self._has_places() else []),
            *(["limits", "gone"] if self.running else []),
            *(["retry"] if self.endings else []),
        ]
        return self.clock.seconds_left(names, time.monotonic())

    def _when_to_start(self) -> str:
        return max("start", "pace", key=lambda name: self.clock.due.get(name, 0.0))

    def _look_interval(self) -> float:
        if not self.watch.works:
            return LOOK_INTERVAL_BLIND
        return LOOK_INTERVAL_FULL if self.backlog.known > self.settings.slots else LOOK_INTERVAL

    def _look(self) -> None:
        """Look at the spool itself, for what the watch did not say."""
        self.backlog.replace(marker for queue in self.settings.queues for marker in spool.waiting(self.home, queue))
        for name in spool.cancel_requests(self.home):
            self._safely(f"the request to stop {name}", self._stop_if_asked, name)
        self.places.look()

    def _beat(self) -> None:
        ill = self.forks.ill if self.forks is not None else {}
        self.presence.beat(working=len(self.running), draining=self.draining, ill=ill)
        if self.forks is not None:
            self.forks.check()

    def _publish(self) -> None:
        """Let others know what was counted and how things are; as old as the last heartbeat at most."""
        if not self.exporter.wanted:
            return
        now = metrics.Condition(
            version=__version__,
            started_at=self.started_at,
            at=time.time(),
            slots=self.settings.slots,
            working=len(self.running),
            draining=self.draining,
            unsettled=len(self.endings),
            watches=self.watch.works,
            templates=self.forks.conditions() if self.forks is not None else (),
        )
        self.exporter.publish(self.tally.take(), metrics.describe(now))

    def _linger(self, moment: float) -> None:
        """End when there is nothing to do and nobody who may want something."""
        wanted = self.settings.linger and self.presence.is_wanted(self.settings.linger, moment)
        if self.running or self.backlog.known or not self.settings.linger:
            self.busy_at = moment
        elif moment - self.busy_at > self.settings.linger and not wanted:
            why = f"nothing to do for {self.settings.linger:.0f} s and no submitter is there"
            self.control(orders.Order("stop", by=self.by, why=why))

    # --- Starting ---

    def _fill_slots(self) -> None:
        while self._may_start(time.monotonic()) and (marker := self.backlog.pop()) is not None:
            if marker.job in self.running or marker.job in self.endings:
                self.early[marker.job] = marker
                continue
            try:
                if spool.claim(self.home, marker, self.id):
                    self._launch(marker)
            except OSError as error:
                self._start_later(marker, error)

    def _fill_places(self) -> None:
        """Start jobs that others of this runner wait for, also if all slots are taken, or it drains."""
        for host, marker in self.places.candidates(self.running.names):
            if self._is_time_to_start(time.monotonic()):
                self.places.set_aside(marker.job)
                self._start_in_place(marker, host)

    def _has_places(self) -> bool:
        """A runner that drains has to; one that ends, or leaves its jobs to the next, starts nothing."""
        return bool(self.places) and not (self.paused is None or self.leaving or self.aborting or self._warming())

    def _start_in_place(self, marker: spool.Marker, host: str) -> None:
        if marker.job not in self.running and marker.job not in self.endings:
            full = not self._has_room()
            if spool.claim(self.home, marker, self.id):
                if full:
                    self.places.take(marker.job, host)
                self._launch(marker)

    def _may_start(self, moment: float) -> bool:
        return bool(len(self.backlog)) and self._has_room() and self._is_time_to_start(moment)

    def _is_time_to_start(self, moment: float) -> bool:
        wait = self.pacer.seconds_to_wait(self.running, moment)
        self.clock.not_before("pace", moment + wait)
        return wait == 0 and self.clock.is_due("start", moment)

    def _has_room(self) -> bool:
        if self.paused is None or self.draining or self._warming():
            return False
        busy = len(self.running) + len(self.endings)
        return busy < self.settings.slots or busy - self.places.guests(self.running.names) < self.settings.slots

    def _warming(self) -> bool:
        """A job waits in its queue until it can start: if the runner dies meanwhile, that is no crash of the job."""
        return self.forks is not None and self.forks.warming(self.settings.preload)

    def _start_later(self, marker: spool.Marker, error: OSError) -> None:
        """The system refuses, which is not the job's fault: neither it nor those after it are tried for a while."""
        log.error("cannot start %s: %s; trying again in %.0f s", marker.job, error, LOOK_INTERVAL)
        self.backlog.add(marker)
        self.clock.not_before("start", time.monotonic() + LOOK_INTERVAL)

    def _launch(self, marker: spool.Marker) -> None:
        name = marker.job
        try:
            job = store.read(self.home, name)
        except (CorruptFileError, NotFoundError, ValueError):
            end = endings.End(endings.NOT_OURS, "cannot be read")
            verdict = repair.resolve(self.home, name, end.why, by=self.by, holder=self.id)
            self.tally.settled(name, end, verdict, None)
            return
        running = self.limits.watch(job)
        running.waited = time.time() - marker.queued_at
        self.running.add(running)
        self.pacer.begin(name, time.monotonic())
        launcher = next(launcher for launcher in self.launchers if launcher.accepts(job))
        self._launch_with(launcher, job)

    def _launch_with(self, launcher: Launcher, job: model.Job) -> None:
        if running := self.running.get(job.name):
            running.launcher = launcher.name
            if isinstance(launcher, ExecLauncher):
                running.output = None  # it is watched there: of two that note a cut, one may come after the job's end
        try:
            events = launcher.launch(job)
        except OSError as error:
            self.running.remove(job.name)
            self.tally.add(metrics.FAILURES, launcher.name)
            self._start_later(spool.requeue(self.home, job, self.id), error)
        else:
            self._on_events(events)

    # --- Stopping ---

    def _stop_if_asked(self, name: str) -> None:
        running = self.running.get(name)
        if running is not None and repair.read_stop_request(self.home, name):
            running.stop(self.settings.grace)
        elif running is None:
            self._drop_stale_request(name)

    def _drop_stale_request(self, name: str) -> None:
        with contextlib.suppress(CorruptFileError, NotFoundError, ValueError):
            if not store.read(self.home, name).state.terminal:
                return
        (self.home.cancel_requests / name).unlink(missing_ok=True)

    def _stop(self, running: Running, outcome: model.Exit) -> None:
        """Ask in the job's own files first, so that whoever writes its end knows why."""
        try:
            self.client.stop(running.job.name, by=self.by, outcome=outcome)
        except (OSError, AirExecutorError) as error:
            log.error("cannot note why %s is stopped: %s", running.job.name, error)
        if outcome.kind in limits.AT_ONCE:
            running.end(time.monotonic())
        else:
            running.stop(self.settings.grace)

    def _check_gone(self, running: Running) -> None:
        if running.pid is not None and running.pidfd is None and running.is_gone():
            self._exited(running.pid, None)

    def _keep_limits(self, moment: float) -> None:
        look = self.limits.look(self.running, moment)
        for running in self.running:
            self._safely(f"the limits of {running.job.name}", self.limits.enforce, running, moment, look)
            self.clock.at_latest("limits", running.next_moment(moment))

    # --- Ends ---

    def _exited(self, pid: int, status: int | None) -> None:
        running = self.running.remove_pid(pid)
        if running is None:
            return
        if running.pidfd is not None:
            self.selector.unregister(running.pidfd)
            os.close(running.pidfd)
        self.places.ended(running.job.name)
        end = endings.explain(pid, status)
        if not end.seen_well:
            self._safely("what a job left", self._kill_orphans)
        verdict = self._settle(running.job.name, end, running)
        if end.seen_well and verdict is not None:  # it was not: a body that ended the process gave it this exit code
            self._safely("what a job left", self._kill_orphans)

    def _kill_orphans(self) -> None:
        if self.group is not None:
            self.group.sweep()
        if self.orphans is not None:
            self.orphans.kill({*self.running.pids, *(self.forks.pids if self.forks is not None else ())})

    def _settle(self, name: str, end: endings.End, running: Running | None = None) -> repair.Verdict | None:
        verdict = self.endings.settle(name, end)
        self.tally.settled(name, end, verdict, running)
        if verdict is repair.Verdict.QUEUE:
            self.clock.at_latest("look", time.monotonic() + LOOK_PAUSE)
        if end.blame is model.Blame.HOME:
            self.clock.not_before("start", time.monotonic() + LOOK_INTERVAL)
        if marker := self.early.pop(name, None):
            self.backlog.add(marker)
        self.clock.at_latest("retry", time.monotonic() + self.endings.retry_interval)
        return verdict

    def _retry_endings(self) -> None:
        for name, end in self.endings.take_unresolved().items():
            self._safely(f"the end of {name}", self._settle, name, end)

    # --- The spool ---

    def _guard_spool(self) -> None:
        if self.guard.is_changed():
            log.warning("%s was deleted, or a part of it; making it again from the jobs", self.home.spool)
            self.guard.make()
            self._watch_anew()
            self.upkeep.repair_soon()
        running = {name: pid for pid, name in self.running.pids.items()}
        for name, pid in self.guard.lost_claims(running).items():
            self._safely(f"the claim of {name}", self.guard.claim_again, name, pid)

    # --- Recovery ---

    def _recover(self) -> None:
        deadline = time.monotonic() + RECOVER_TIME
        watched = self.running.names | set(self.endings)
        for found in recovery.recover(self.home, self.id, watched, self.seen):
            if isinstance(found, recovery.Adopted):
                self._safely(f"the takeover of {found.job.name}", self._adopt, found)
            else:
                log.warning("recovered %s", found)
                self.tally.recovered(found)
                self.clock.at_latest("look", time.monotonic() + LOOK_PAUSE)
            if time.monotonic() >= deadline:  # each dead job costs a look at all processes; heartbeats must not wait
                self.clock.soon("recover")
                return

    def _adopt(self, found: recovery.Adopted) -> None:
        """Watch a process that is not ours: by a pidfd, or by looking at it now and then."""
        running = self.limits.watch_adopted(found.job, found.process)
        running.pidfd = processes.open_pidfd(found.process.pid)
        self.running.add(running)
        self.tally.add(metrics.TAKEOVERS)
        if running.pidfd is not None:
            self.selector.register(running.pidfd, selectors.EVENT_READ, self._foreign_ended(found.process.pid))
        log.info("took over %s (pid %d)", found.job.name, found.process.pid)
        self._stop_if_asked(found.job.name)

    def _foreign_ended(self, pid: int) -> Callable[[], None]:
        return lambda: self._exited(pid, None)
