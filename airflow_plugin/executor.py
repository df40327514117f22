"""The executor: Airflow's interface on one side, the jobs of a home on the other.

Nothing here may raise into the scheduler's loop, for that ends the scheduler: what goes wrong is logged, tasks stay
queued or running, and the next heartbeat tries again. How a workload becomes a job is in `jobs`, how ends are found in
`collecting`, what they mean in `results`, who goes on after a scheduler is gone in `adoption`, how long a heartbeat may
wait in `idling`, and why a job waits in `obstacles`.

::

    queue_workload ─> queued_* ─ heartbeat: trigger_tasks ─> _process_workloads ─ one batch ─> spool/waiting
                                                                                                    │ runners
    event_buffer <── change_state <── results.report <── collecting: spool/finished, and some jobs <┘
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.executors.base_executor import BaseExecutor

from air_executor import load, model, runners, store
from air_executor.errors import HomeError, InvalidInputError, SettingsError
from air_executor.paths import Home
from airflow_plugin import (
    adoption,
    config,
    handover,
    jobs,
    keys,
    logserver,
    obstacles,
    patience,
    tasklog,
    tasknotes,
    tokens,
)
from airflow_plugin.collecting import CHECKS_AT_ONCE, CHECKS_WHEN_IDLE, Collector
from airflow_plugin.guard import Guarded
from airflow_plugin.idling import Delivered, Rules, Situation
from airflow_plugin.ledger import Entry, Ledger
from airflow_plugin.metrics import Metrics
from airflow_plugin.results import Report, Tell
from airflow_plugin.rounds import Rounds
from airflow_plugin.site import Door, Site
from airflow_plugin.successes import Successes
from airflow_plugin.tending import Tender

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

QUEUE_INTERVAL = 10.0
"""Seconds between two looks for queues that nobody serves, and at the runners; also the time that one has to start."""


class AirExecutor(Guarded, BaseExecutor):
    """Runs Airflow's workloads as jobs of Air-Executor."""

    is_local: bool = True  # also lets `airflow standalone` keep it
    is_production: bool = True
    serve_logs: bool = False
    """Airflow's own would wait for requests all the time; see `logserver`."""
    supports_callbacks: bool = True
    supports_connection_test: bool = True
    supports_multi_team: bool = True
    pre_assigns_external_executor_id: ClassVar[bool] = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ledger = Ledger()
        self._collector = Collector(self._ledger, self._report, self._safely)
        self._stops = handover.Stops()
        self._tender = Tender(self._ledger, self._drop)
        self._successes = Successes()
        self._metrics = Metrics(self.team_name)
        self._door = Door(lambda: Site.of(self.conf, self.parallelism), self._home_refused)
        self._next_queues = self._next_runners = 0.0
        self._log_server: logserver.LogServer | None = None
        self._told: set[Any] = set()
        self._rules = Rules(0.0)
        self._rounds = Rounds()
        self._events: list[Any] = []

    # --- Life ---

    def start(self) -> None:
        """Open the home and start a runner. If the home cannot be used, tasks stay queued until it can."""
        self._rules = Rules.of(self.conf)
        self._door.forget()  # an executor that has ended may be started again
        self._next_queues = self._next_runners = time.monotonic() + QUEUE_INTERVAL
        gc.freeze()  # what is loaded stays: to look through it for garbage stops the scheduler for 0.3 s now and then
        site = self._door.open()
        if site is not None:
            self.log.info("%r works in %s", self, site.home.root)
            self._safely("the runner", site.keeper.tick)
        self._safely("the log server", self._serve_logs)

    def _serve_logs(self) -> None:
        self._log_server = logserver.start_in_scheduler()

    def end(self) -> None:
        """Running jobs go on, and their ends stay announced for the next scheduler.

        Callbacks that wait are handed over: unlike tasks, Airflow would never queue them again.
        """
        waiting = keys.queued_callbacks(self)
        if waiting:
            self._process_workloads(waiting)
        if (site := self._door.site) is not None:
            self._safely("the runner", site.keeper.close)
            self._safely("the watch", site.bell.close)
        if self._log_server is not None:
            self._safely("the log server", self._log_server.close)
            self._log_server = None

    def terminate(self) -> None:
        """Nothing to end: jobs are no children of the scheduler."""

    def heartbeat(self) -> None:
        """Hand over what waits, report what is over."""
        if not self._task_event_logs:
            self._events.clear()
        self._safely("heartbeat", super().heartbeat)

    def _home_refused(self, error: Exception) -> None:
        self._safely("metrics", self._metrics.home_refused)
        if self._may_say("home"):
            what = "configuration" if isinstance(error, SettingsError) else "home"
            self.log.error("The %s cannot be used, tasks stay queued: %s", what, error)
        for key in keys.queued(self):
            if key not in self._told:
                self._told.add(key)
                self._tell(key, "job not submitted", f"{error}; it is tried again until it works")

    # --- Handing over ---

    @cached_property
    def jwt_generator(self) -> Any:
        """What the scheduler makes the tokens of workloads with."""
        return tokens.patient(super().jwt_generator, self.conf)

    def trigger_tasks(self, open_slots: int) -> None:
        """Hand over as many as there are free slots."""
        self._safely("trigger_tasks", super().trigger_tasks, open_slots)

    def trigger_connection_tests(self) -> None:
        """Hand over connection tests. Airflow's own counts those that wait as occupied slots: it may never begin."""
        waiting = keys.queued_connection_tests(self)[: max(0, self.parallelism - len(self.running))]
        if waiting:
            self._process_workloads(waiting)

    def _process_workloads(self, workload_items: Sequence[Any]) -> None:
        self._safely("handing over", self._hand_over, workload_items)

    def _hand_over(self, items: Iterable[Any]) -> None:
        site = self._door.open()
        if site is None:
            return
        built = {each.job.name: (workload, each) for workload in items if (each := self._build(site, workload))}
        try:
            answers = handover.hand_over(site.client, [each for _, each in built.values()])
        except HomeError as error:
            self._door.shut(error)
            return
        self._told.clear()
        taken = []
        for name, answer in answers.items():
            workload, submission = built[name]
            if answer.verdict is handover.Verdict.TAKEN:
                taken.append(submission.job.queue)
                self._taken(workload, submission)
            elif answer.verdict is handover.Verdict.REFUSED:
                self._refuse(workload, answer.why)
            else:
                self._safely("metrics", self._metrics.postponed)
                self.log.debug("The job %s is handed over later: %s", name, answer.why)
        self._safely("metrics", self._metrics.submitted, taken)

    def _build(self, site: Site, workload: Any) -> store.Submission | None:
        try:
            return jobs.submission(workload, site.options, site.home, site.server)
        except InvalidInputError as error:
            self._refuse(workload, str(error))
        except Exception as error:  # one workload that cannot be built must not keep all others waiting
            self.log.exception("No job can be made of the workload %s", keys.key_of(workload))
            self._refuse(workload, f"no job can be made of it: {type(error).__name__}: {error}")
        return None

    def _taken(self, workload: Any, submission: store.Submission) -> None:
        key, job = keys.key_of(workload), submission.job
        keys.take_from_queue(self, key)
        self.running.add(key)
        moment, subject = time.monotonic(), keys.subject_of(workload)
        log_path = keys.log_path_of(workload)
        entry = Entry(job.name, key, job.queue, job.external_id, subject, log_path, token_since=moment)
        self._ledger.add(entry)
        self._stops.forget(job.name)
        self._successes.handed_over(key)
        self._rounds.sent = True
        if workload.running_state is not None:
            self.running_state(key)

    def _refuse(self, workload: Any, why: str) -> None:
        key = keys.key_of(workload)
        keys.take_from_queue(self, key)
        self._safely("metrics", self._metrics.refused)
        self.log.error("No job was submitted for %s: %s", key, why)
        self._tell(key, "job refused", why)
        self._safely("a task's log", tasknotes.tell_refusal, keys.log_path_of(workload), why)
        self.fail(key, info=why)

    # --- What became of them ---

    def sync(self) -> None:
        """Report what is over; each step for itself, so that trouble with one does not stop the others."""
        self._rounds.waited = False
        site = self._door.open()
        if site is None:
            time.sleep(self._rules.pause if self._rules.takes_over else 0.0)
            return
        now = time.monotonic()
        if not self._rounds.sent:
            self._successes.nothing_handed_over()
        self._safely("the runner", site.keeper.tick)
        self._safely("stopping jobs", self._stops.ask, site.client)
        self._listen(site)
        self._safely("collecting results", self._collector.collect, site.home, now)
        self._safely("checking jobs", self._collector.check_some, site.home, now, CHECKS_AT_ONCE)
        self._safely("checking queues", self._check_queues, site, now)
        self._safely("what waits", self._tend, site)
        self._safely("metrics", self._count_runners, site, now)
        self._safely("waiting for results", self._wait, site)

    def _wait(self, site: Site) -> None:
        """Wait for an end, and take together what comes together."""
        running, to_send = len(self.running), sum(1 for _ in keys.queued(self))
        now = self._rounds.begin_to_wait(to_send=to_send, running=running, free_slots=self.parallelism - running)
        seconds = self._rules.seconds(now)
        deadline = time.monotonic() + seconds
        while not self._rounds.calls and (left := deadline - time.monotonic()) > 0:
            site.bell.wait(left)
            self._listen(site)
            self._collector.collect(site.home, time.monotonic())
            self._collector.check_some(site.home, time.monotonic(), CHECKS_WHEN_IDLE)
        if self._may_gather(now):
            site.bell.gather(obstacles.served(site.home, self._ledger, site.keeper.seen), self._rules.sync_wait)
            self._listen(site)
            self._collector.collect(site.home, time.monotonic())
        waited = now.woken or seconds >= self._rules.sync_wait > 0
        self._rounds.end_to_wait(now, waited=bool(self.running) and waited)

    def _may_gather(self, now: Situation) -> bool:
        made_work = now.woken or self._rounds.woken
        busy = len(self.running) >= load.processors()
        return self._rules.sync_wait > 0 and self._rounds.news and busy and not made_work

    def _listen(self, site: Site) -> None:
        """What follows a task may start before its job is over."""
        work, told = site.bell.mute()
        self._rounds.woken |= work
        for entry in filter(None, map(self._ledger.get, told)):
            quiet = len(self.running) <= load.processors()
            self._rounds.news |= self._successes.hear(entry, quiet=quiet, may_follow=self._has_free_slots())

    def _has_free_slots(self) -> bool:
        return len(self.running) < self.parallelism

    def get_event_buffer(self, dag_ids: list[str] | None = None) -> dict[Any, Any]:
        """What became of the workloads; emptied."""
        events = super().get_event_buffer(dag_ids)
        self._rounds.news = False
        return Delivered(events) if events or self._rounds.waited else events

    def _report(self, entry: Entry, report: Report, job: model.Job | None = None) -> None:
        """Tell Airflow what became of a workload, and its statistics what became of the job."""
        self._close(entry)
        site = self._door.site
        others_run = len(self.running) > 1  # where none does, nothing else would end the wait
        awaited = not (entry.known and report.tell is Tell.SUCCESS and self._has_free_slots() and others_run)
        self._rounds.news |= awaited
        if report.reason:
            self.log.info("The job %s: %s", entry.name, report.reason)
            event = "job failed" if report.tell is Tell.FAILED else "job stopped"
            self._tell(entry.key, event, f"{entry.name}: {report.reason}")
            if job is not None and report.tell is Tell.FAILED and site is not None:
                self._safely("a task's log", tasknotes.tell_end, site.home, entry.log_path, job, report.reason)
        if report.tell is Tell.NOTHING:
            self.running.discard(entry.key)
        elif report.tell is Tell.SUCCESS:
            super().change_state(entry.key, keys.success_state(entry.key))
        else:
            super().change_state(entry.key, keys.failure_state(entry.key), report.reason)
        if job is not None:
            if site is not None:
                self._safely("a task's log", tasknotes.take_back, site.home, entry.log_path, job)
            self._safely("metrics", self._metrics.ended, job)

    def _check_queues(self, site: Site, now: float) -> None:
        if now < self._next_queues or site.keeper.starting:
            return
        self._next_queues = now + QUEUE_INTERVAL
        for stuck in obstacles.find_stuck(site.home, self._ledger, site.keeper.seen):
            if self._may_say(f"queue {stuck.queue}"):
                self.log.warning("%d jobs wait, and %s", len(stuck.entries), stuck.why)
            for entry in stuck.entries:
                if not entry.warned:
                    entry.warned = True
                    self._tell_wait(entry, stuck.why)
        in_slurm = obstacles.find_stuck_in_slurm(site.home, self._ledger)
        without = obstacles.find_without_pilots(site.home, self._ledger, site.keeper.seen)
        for entry, why in (*in_slurm, *without):
            entry.stuck = True
            self._tell_wait(entry, why)
        for entry, why in obstacles.find_unanswered(site.home, self._ledger):
            self._tell_wait(entry, why)

    def _tell_wait(self, entry: Entry, why: str) -> None:
        self._tell(entry.key, "job waits", f"{entry.name}: {why}")
        self._safely("a task's log", tasknotes.tell_wait, entry.log_path, entry.name, why)

    def _tend(self, site: Site) -> None:
        self._tender.tick(site.home, self.jwt_generator)

    def _drop(self, entry: Entry) -> None:
        """Nobody is told: in Airflow's eyes it is over, or another run of it has begun."""
        self.running.discard(entry.key)
        self._stop(entry, "its task was marked, cleared or deleted while it waited")

    def _count_runners(self, site: Site, now: float) -> None:
        if now >= self._next_runners:
            self._next_runners = now + QUEUE_INTERVAL
            self._metrics.runners(runners.alive_runners(site.home, site.keeper.seen))

    # --- What Airflow asks for ---

    def change_state(self, key: Any, state: Any, info: Any = None, remove_running: bool = True) -> None:
        """Airflow calls this too, when it has given a task up: then its job must end."""
        self._rounds.news = True
        self._safely("stopping a job", self._stop_failed, key, state)
        super().change_state(key, state, info, remove_running)

    def _stop_failed(self, key: Any, state: Any) -> None:
        entry = self._ledger.find(key)
        if entry is not None and state == keys.failure_state(key):
            self._stop(entry, "Airflow has given the task up (no heartbeat, or too long in its queue)")

    def fail_connection_test(self, key: Any) -> None:
        """Airflow does not wait for this connection test any more."""
        super().fail_connection_test(key)
        if entry := self._ledger.find(key):
            self._safely("stopping a job", self._stop, entry, "the connection test took too long")

    def _close(self, entry: Entry) -> None:
        self._ledger.close(entry)
        self._successes.forget(entry)

    def _stop(self, entry: Entry, why: str) -> None:
        self._close(entry)
        self._stop_job(entry.name, why, entry.external_id)

    def _stop_job(self, name: str, why: str, external_id: str | None) -> None:
        """If the home refuses now, the next `sync` asks again."""
        self._stops.add(name, why, external_id)
        if (site := self._door.site) is not None:
            self._stops.ask(site.client)

    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Airflow wants to queue this task anew: end its job, say nothing.

        Raises:
            NotImplementedError: it only waits, and Airflow shall leave it as it is; Airflow looks again after a while.
        """
        if self._only_waits(ti):
            raise NotImplementedError(f"{ti} waits for its turn")
        self._safely("revoking a task", self._revoke, ti)

    def _only_waits(self, ti: TaskInstance) -> bool:
        try:
            site = self._door.open()
            if site is None:  # whether it has a job cannot be known now
                return True
            timeout = float(self.conf.get("scheduler", "task_queued_timeout") or 0)
            return patience.let_wait(site.home, ti, self._ledger, timeout, site.keeper.seen)
        except HomeError:
            return True
        except Exception:
            self.log.exception("Cannot tell whether %s only waits", ti)
            return False

    def _revoke(self, ti: TaskInstance) -> None:
        key = keys.key_of_instance(ti)
        keys.take_from_queue(self, key)
        self.running.discard(key)
        name = jobs.task_name(ti)
        if entry := self._ledger.get(name):
            self._close(entry)
        self._stop_job(name, "it was too long in its queue", ti.external_executor_id)

    def try_adopt_task_instances(self, tis: Sequence[TaskInstance]) -> Sequence[TaskInstance]:
        """Go on with what the jobs say is ours; returns the others, which Airflow schedules anew."""
        # Reading a try number may ask the database, and its errors are for Airflow, which repeats the whole call.
        known = [(ti, keys.key_of_instance(ti), jobs.task_name(ti)) for ti in tis]
        return [ti for ti, key, name in known if not self._adopt(ti, key, name)]

    def _adopt(self, ti: TaskInstance, key: Any, name: str) -> bool:
        queued = ti.state == "queued"
        verdict = adoption.Adoption.LEAVE if queued else adoption.Adoption.ADOPT
        try:
            site = self._door.open()
            if site is not None:
                verdict = adoption.judge(site.home, name, ti.external_executor_id, queued=queued)
                if verdict is adoption.Adoption.STOP:
                    self._stop_job(name, "Airflow does not know this run of the task", None)
        except Exception:
            self.log.exception("Cannot tell whether the job %s is running", name)
        if verdict is not adoption.Adoption.ADOPT:
            return False
        log_path = tasknotes.log_path(site.home, name) if site is not None else None
        self._ledger.add(Entry(name, key, external_id=ti.external_executor_id, subject=ti.id, log_path=log_path))
        self.running.add(key)
        self._safely("metrics", self._metrics.adopted)
        self._collector.check_all = True
        return True

    def get_task_log(self, ti: TaskInstance, try_number: int) -> tuple[list[str], list[str]]:
        """The log of a running task, where Airflow cannot reach it. Also called in the API server, without `start`."""
        try:
            return tasklog.read(Home(config.load(self.conf).base_path), ti, try_number)
        except Exception:
            self.log.debug("No log of the job of %s", ti, exc_info=True)
            return [], []

    def debug_dump(self) -> None:
        """Say in the log what is waited for."""
        self._safely("debug_dump", self._dump)

    def _dump(self) -> None:
        super().debug_dump()  # type: ignore[no-untyped-call]
        names = [f"{entry.name} -> {entry.key}" for entry in self._ledger]
        self.log.info(
            "executor jobs in %s (%d)\n\t%s", self._door.site and self._door.site.home, len(names), "\n\t".join(names)
        )

    def _tell(self, key: Any, event: str, text: str) -> None:
        """Where people look: the task's events in Airflow's UI."""
        self._safely("a task event", self.log_task_event, event=event, extra=text, ti_key=key)

    def log_task_event(self, *, event: str, extra: str, ti_key: Any) -> None:
        """Airflow saves events through weak references: one that nobody else holds is gone before it is written."""
        super().log_task_event(event=event, extra=extra, ti_key=ti_key)
        if self._task_event_logs:
            self._events.append(self._task_event_logs[-1])
