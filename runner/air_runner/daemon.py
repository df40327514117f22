"""The daemon: the loop in which everything is noticed, and what it turns to for each thing.

One loop over descriptors: signals (children that end, requests to stop), the spool's watch, templates, processes taken
over from a runner before. Everything that happens by the clock is in `_tick`.

::

    run ─┬─ signals ──── a child ended ─────────────> reaping ──> endings: its job comes to rest
         │               SIGTERM ───────────────────> control ──> course
         ├─ the watch ── a marker ──────────────────> queues ──> launching ──> a launcher
         │               a request to stop ─────────> stops
         │               an order ──────────────────> control
         ├─ a template ─ launched, exited, refused ─> launching, reaping
         └─ the clock ── all of these, for what was missed; limits, heartbeats, takeover, the spool
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import selectors
import signal
import time
from pathlib import Path

from air_executor import audit, model, orders, processes, settings
from air_executor.paths import Home
from air_executor.settings import RetentionSettings, RunnerSettings, Settings
from air_executor.watch import Watch
from air_runner import (
    __version__,
    cgroups,
    enforcement,
    exporter,
    limits,
    metrics,
    notes,
    orphans,
    presence,
    pruner,
    sending,
    signals,
    taskloop,
    upkeep,
)
from air_runner.guard import SpoolGuard
from air_runner.launchers import Event, Exited, Launched, Refused
from air_runner.launching import Launching
from air_runner.reaping import Reaper
from air_runner.slurm import commands
from air_runner.slurm.contact import Contact
from air_runner.stops import Stops
from air_runner.takeover import Takeover
from air_runner.trouble import safely
from air_runner.work import Work

log = logging.getLogger(__name__)

LOOK_INTERVAL = 2.0
"""Seconds between looks at the queues although the watch works: an event may have been lost, a host may be remote."""
LOOK_INTERVAL_BLIND = 1.0
"""The same where watching does not work."""
LOOK_INTERVAL_FULL = 30.0
"""The same while more jobs wait than there are slots, or than may be in Slurm: a look costs as much as jobs wait."""
RECOVER_INTERVAL = 3.0
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
        chosen: what else config.toml says, of queues and of Slurm.
        pilot: it runs the jobs of its queues, and sees to nothing else of the home.
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
        chosen: Settings | None = None,
        pilot: bool = False,
    ) -> None:
        self.chosen = dataclasses.replace(chosen or Settings(), runner=settings)
        self.home, self.settings, self.id = home, settings, runner_id
        self.ready_fd, self.embedded, self.group = ready_fd, embedded, group
        self.orphans: orphans.Orphans | None = None
        """Only a runner in a process of its own may take it that all children are its own."""
        self.selector = selectors.DefaultSelector()
        self.work = Work(home, runner_id, settings.queues, self.chosen, pilot=pilot)
        self.stops = Stops(self.work, settings.grace)
        self.limits = enforcement.Enforcement(home, settings.output_mb, self.stops.stop)
        self.launching = Launching(self.work, settings, self.limits, self._on_events)
        self.reaper = Reaper(self.work, self.selector, self._kill_orphans)
        self.takeover = Takeover(self.work, self.limits, self.reaper, self.stops)
        self.guard = SpoolGuard(home, runner_id, settings.queues)
        self.upkeep = upkeep.Upkeep(home, self.work.by, self._repaired)
        self.sending = sending.Sending(home)
        self.pruner = pruner.Pruner(home, retention or RetentionSettings(interval=0.0))
        self.exporter = exporter.Exporter(home, runner_id, settings)
        self.notes = notes.Notes(home, runner_id)
        self.process = processes.identify(os.getpid())
        introduction = presence.introduce(
            runner_id, self.process, settings, embedded=embedded, slurm=commands.are_here()
        )
        self.presence = presence.Presence(home, introduction)
        self.started_at = time.time()
        self.busy_at = time.monotonic()

    # --- Life ---

    def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        self._set_up()
        try:
            while not self.work.is_over:
                for key, _ in self.selector.select(self._pause()):
                    safely("an event", key.data)
                self._tick()
        finally:
            self._tear_down()
        return 0

    def _set_up(self) -> None:
        self.pipe = signals.SignalPipe([signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD])
        self.selector.register(self.pipe, selectors.EVENT_READ, self._on_signals)
        self.orphans = orphans.Orphans(adopts=processes.become_subreaper())
        self.presence.begin()  # before all else: one of this name that died shall not be cleaned up
        self._beat()
        self.guard.make()
        rules = taskloop.Rules(self.settings.grace, self.settings.output_mb)
        self.launching.open(self.settings.launcher, rules, self.selector)
        if not self.work.pilot:
            self.work.cluster = Contact(self.home, self.id, self.chosen, rules, self.selector, self._left_slurm)
        self.watch = Watch([self.home.spool], self.pipe.wake, recursive=True)
        self.watch.start()
        safely("recovery", self.takeover.recover)
        if not self.work.pilot:
            self.upkeep.start()
            self.pruner.start()
        safely("metrics", self._publish)
        safely("metrics", self.exporter.start)
        if self.ready_fd is not None:
            with contextlib.suppress(BrokenPipeError):  # nobody waits for it
                os.write(self.ready_fd, b"1")
            os.close(self.ready_fd)
        log.info("runner %s serves %s", self.id, self._describe())
        facts = {**self._facts(), "embedded": self.embedded, "host": self.process.host, "pid": self.process.pid}
        self.notes.add(audit.STARTED, facts, by=processes.user())

    def _tear_down(self) -> None:
        """Heartbeats stop last: until then nobody may take this runner for dead."""
        leaving, running = self.work.course.leaving, len(self.work.running)
        if leaving:
            log.info("leaving %d running jobs to the next runner", running)
            self._beat()
        self.exporter.stop()  # first: the next runner may be waiting for the port
        self.watch.stop()
        self.upkeep.stop()
        self.pruner.stop()
        if self.work.cluster is not None:
            safely("Slurm", self.work.cluster.close)
        safely("webhooks", self.sending.close)
        if self.launching.forks is not None:
            self.launching.forks.close()
        self.notes.add(audit.ENDED, by=self.work.by, why=f"{running} jobs go on" if leaving else "")
        self.notes.close()
        self.presence.end()
        self.pipe.close()
        self.selector.close()
        log.info("runner %s ended", self.id)

    def _describe(self) -> str:
        return f"{', '.join(self.settings.queues)} with {self.settings.slots} slots"

    def _facts(self) -> dict[str, object]:
        return {"slots": self.settings.slots, "queues": list(self.settings.queues)}

    # --- What wakes the loop ---

    def _on_signals(self) -> None:
        seen = self.pipe.read()
        if seen & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            safely("a signal", self._on_request_to_end)
        forks, cluster = self.launching.forks, self.work.cluster
        for pid, status in signals.reap().items():
            if cluster is not None and pid in cluster.pids:
                cluster.died(pid)
            elif pid in self.sending.pids:
                self.work.clock.not_before("webhooks", self.sending.died(time.monotonic()))
            elif forks is not None and pid in forks.pids:
                forks.died(pid)
            else:
                if forks is not None and pid not in self.work.running.pids:
                    forks.listen()  # a template that has gone has left it, and its word was not heard yet
                safely(f"the end of process {pid}", self.reaper.exited, pid, status)
        paths = self.watch.take()
        self.work.tally.add(metrics.EVENTS, count=len(paths))
        for path in paths:
            safely(str(path), self._noticed, path)

    def _left_slurm(self, name: str) -> None:
        self.work.queues.release(name)
        self.work.tally.left_slurm(name)

    def _on_request_to_end(self) -> None:
        action = "abort" if self.work.course.stopping else "stop"
        if self.settings.handover:  # also the second time: a service manager may signal more than once
            action = "handover"
        self.control(orders.Order(action, by="a signal"))

    def _noticed(self, path: Path) -> None:
        """A new file below spool/."""
        with contextlib.suppress(ValueError):
            match path.relative_to(self.home.spool).parts:
                case ("waiting", queue, name):
                    self.work.queues.note(queue, name)
                case ("cancel", name):
                    self.stops.stop_if_asked(name)
                case ("control", _) | (self.home.steered.name,):
                    self._look_at_orders()
                case ("yielded", name):
                    self.work.queues.places.note(name)
                case _:
                    return

    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            safely(str(event), self._on_event, event)

    def _on_event(self, event: Event) -> None:
        match event:
            case Launched():
                self.launching.launched(event)
                self.work.clock.at_latest("limits", time.monotonic() + limits.FIRST_LOOK)
            case Exited(pid, status):
                self.reaper.exited(pid, status)
            case Refused():
                self.launching.refused(event)

    def _repaired(self) -> None:
        """Called from another thread."""
        self.work.clock.look_soon()
        self.pipe.wake()

    # --- The clock ---

    def _tick(self) -> None:
        moment, clock = time.monotonic(), self.work.clock
        if clock.every("beat", self.settings.heartbeat, moment):
            safely("the heartbeat", self._beat)
            safely("metrics", self._publish)
        if clock.every("webhooks", self.settings.heartbeat, moment):
            safely("webhooks", self.sending.check)
        if clock.every("recover", RECOVER_INTERVAL, moment):
            safely("the spool", self._guard_spool)
            safely("recovery", self.takeover.recover)
            safely("what jobs left", self._kill_orphans)  # what was about to be a program when it lost its parent
        if self.work.endings and clock.every("retry", self.work.endings.retry_interval, moment):
            self.reaper.retry()
        if clock.every("gone", GONE_INTERVAL, moment):
            self.reaper.check_gone()
        if clock.every("limits", limits.LAST_LOOK, moment):
            safely("the limits", self._keep_limits, moment)
        if clock.every("orders", LOOK_INTERVAL if self.watch.works else LOOK_INTERVAL_BLIND, moment):
            safely("what is asked for", self._look_at_orders)
            safely("the requests to stop", self.stops.look)
        clock.at_latest("look", moment + self._look_interval())  # it may have been put off for a backlog that is gone
        if clock.every("look", self._look_interval(), moment):
            safely("the queues", self.work.queues.look)
        safely("starting jobs", self.launching.fill_slots)
        safely("jobs for Slurm", self.launching.fill_slurm)
        safely("jobs that others wait for", self.launching.fill_places)
        safely("the idle time", self._linger, moment)

    def _pause(self) -> float:
        """Seconds until something is due."""
        names = ["beat", "webhooks", "recover", "look", "orders", *self.launching.due()]
        if self.work.running:
            names += ["limits", "gone"]
        if self.work.endings:
            names += ["retry"]
        return self.work.clock.seconds_left(names, time.monotonic())

    def _look_interval(self) -> float:
        if not self.watch.works:
            return LOOK_INTERVAL_BLIND
        queues = self.work.queues
        many = queues.backlog.known > self.settings.slots or queues.far.known > self.chosen.slurm.max_jobs
        return LOOK_INTERVAL_FULL if many else LOOK_INTERVAL

    def _keep_limits(self, moment: float) -> None:
        look = self.limits.look(self.work.running, moment)
        for running in self.work.running:
            safely(f"the limits of {running.job.name}", self.limits.enforce, running, moment, look)
            self.work.clock.at_latest("limits", running.next_moment(moment))

    def _guard_spool(self) -> None:
        if self.guard.is_changed():
            log.warning("%s was deleted, or a part of it; making it again from the jobs", self.home.spool)
            self.guard.make()
            self._watch_anew()
            self.upkeep.repair_soon()
        running = {name: pid for pid, name in self.work.running.pids.items()}
        for name, pid in self.guard.lost_claims(running).items():
            safely(f"the claim of {name}", self.guard.claim_again, name, pid)

    def _kill_orphans(self) -> None:
        if self.group is not None:
            self.group.sweep()
        if self.orphans is not None:
            forks, cluster = self.launching.forks, self.work.cluster
            helpers = (forks.pids if forks is not None else set()) | (cluster.pids if cluster is not None else set())
            self.orphans.kill({*self.work.running.pids, *helpers, *self.sending.pids})

    def _linger(self, moment: float) -> None:
        """End when there is nothing to do and nobody who may want something."""
        wanted = self.settings.linger and self.presence.is_wanted(self.settings.linger, moment)
        if self.work.has_any or not self.settings.linger:
            self.busy_at = moment
        elif moment - self.busy_at > self.settings.linger and not wanted:
            why = f"nothing to do for {self.settings.linger:.0f} s and no submitter is there"
            self.control(orders.Order("stop", by=self.work.by, why=why))

    # --- What it is asked for ---

    def _look_at_orders(self) -> None:
        """What this runner is asked for, and which queues are paused."""
        for order in orders.take(self.home, self.id, self.process):
            safely(f"the order to {order.action}", self.control, order)
        self.work.queues.heed_pauses()

    def control(self, order: orders.Order) -> None:
        """Do what somebody asked this runner for."""
        action = order.action
        log.info("asked to %s by %s%s", action, order.by, f": {order.why}" if order.why else "")
        if action == orders.SET:
            self._set(order)
            return
        self.notes.add(action, by=order.by, why=order.why)
        if action == "renew":
            if self.launching.forks is not None:
                self.launching.forks.renew("somebody asked for it")
            return
        self.work.course.follow(action)
        if action == "abort":
            self.abort(model.Exit(model.ExitKind.CANCELLED, f"stopped together with its runner {self.id}"))
        self.work.clock.soon("beat")

    def abort(self, outcome: model.Exit) -> None:
        """End, and stop all jobs, for this reason."""
        self.work.course.follow("abort")
        for running in self.work.running:
            self.stops.stop(running, outcome)

    def _set(self, order: orders.Order) -> None:
        """Other slots, other queues, until this runner ends. What runs goes on."""
        before, queues = self._facts(), self.settings.queues
        self.settings = settings.override(self.settings, order.changes, prefix="")
        log.info("now serving %s", self._describe())
        self.notes.add(order.action, {**self._facts(), "before": before}, by=order.by, why=order.why)
        self.presence.change(slots=self.settings.slots, queues=self.settings.queues)
        self.launching.slots = self.settings.slots
        self.work.clock.soon("beat")
        if self.settings.queues != queues:
            self.work.queues.serve(self.settings.queues)
            self.exporter.change(self.settings)
            self.work.clock.soon("look")  # also if the directories cannot be made now: the guard makes them later
            self.guard.serve(self.settings.queues)
            self._watch_anew()

    def _watch_anew(self) -> None:
        """A watch stays with the directories that were there when it began."""
        self.watch.stop()
        self.watch.start()

    # --- What it tells ---

    def _beat(self) -> None:
        forks = self.launching.forks
        ill = forks.ill if forks is not None else {}
        self.presence.beat(working=len(self.work.running), draining=self.work.course.draining, ill=ill)
        if forks is not None:
            forks.check()
        if self.work.cluster is not None:
            self.work.cluster.serve(() if self.work.course.draining else self.settings.queues)
            self.work.cluster.check()

    def _publish(self) -> None:
        """Let others know what was counted and how things are; as old as the last heartbeat at most."""
        if not self.exporter.wanted:
            return
        forks = self.launching.forks
        now = metrics.Condition(
            version=__version__,
            started_at=self.started_at,
            at=time.time(),
            slots=self.settings.slots,
            working=len(self.work.running),
            draining=self.work.course.draining,
            unsettled=len(self.work.endings),
            watches=self.watch.works,
            templates=forks.conditions() if forks is not None else (),
        )
        self.exporter.publish(self.work.tally.take(), metrics.describe(now))
