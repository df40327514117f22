"""The executor: Airflow's interface on one side, the jobs of a home on the other.

Nothing here may raise into the scheduler's loop, for that ends the scheduler: what goes wrong is logged, tasks stay
queued or running, and the next heartbeat tries again. What a job's end means is in `results`, how a workload becomes a
job in `jobs`, who goes on after a scheduler is gone in `adoption`.

::

    queue_workload ─> queued_* ─ heartbeat: trigger_tasks ─> _process_workloads ─ one batch ─> spool/waiting
                                                                                                    │ runners
    event_buffer <── change_state <── results.report <── sync: spool/finished, and some jobs <──────┘
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.executors.base_executor import BaseExecutor

from air_executor import held, load, model, pauses, respool, runners, spool, store
from air_executor.errors import CorruptFileError, HomeError, InvalidInputError, JobBusyError, NotFoundError
from air_executor.model import JobState
from air_executor.paths import Home
from airflow_plugin import adoption, config, handover, jobs, keys, obstacles, patience, results, tasklog, tokens
from airflow_plugin.guard import Guarded
from airflow_plugin.idling import Delivered, Rules, Situation
from airflow_plugin.ledger import Entry, Ledger, Strangers
from airflow_plugin.metrics import Metrics
from airflow_plugin.results import Report, Tell
from airflow_plugin.site import Site
from airflow_plugin.successes import Successes

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

RETRY_HOME = 1.0
"""Seconds between two looks whether the home can be used again."""
CHECK_EACH = 30.0
"""Seconds in which every job is looked at once, in case its announcement was lost."""
CHECKS_AT_ONCE, CHECKS_WHEN_IDLE = 1, 100
"""How many are looked at in a heartbeat, and in each part of one that only waits."""
QUEUE_INTERVAL = 10.0
"""Seconds between two looks for queues that nobody serves, and at the runners; also the time that one has to start."""
DROP_AFTER = 120.0
"""Seconds after which the announcement of a task that no executor knows is removed; adoption needs none."""


class AirExecutor(Guarded, BaseExecutor):
    """Runs Airflow's workloads as jobs of Air-Executor."""

    is_local: bool = True  # also lets `airflow standalone` keep it
    is_production: bool = True
    serve_logs: bool = True
    supports_callbacks: bool = True
    supports_connection_test: bool = True
    supports_multi_team: bool = True
    pre_assigns_external_executor_id: ClassVar[bool] = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ledger = Ledger()
        self._strangers = Strangers()
        self._stops = handover.Stops()
        self._successes = Successes()
        self._metrics = Metrics(self.team_name)
        self._site: Site | None = None
        self._usable = False
        self._next_home = self._next_queues = self._next_runners = 0.0
        self._checked_at = time.monotonic()
        self._check_all = False
        self._told: set[Any] = set()
        self._rules = Rules(0.0)
        self._waited = False
        """Whether the scheduler need not sleep: because this heartbeat waited, or because there may be more to do."""
        self._sent = self._follows = self._came_back = False
        """Whether something was handed over in this heartbeat; whether more followed the last time that the scheduler
        came back with no other news; whether it will come back so."""
        self._woken = False
        """Whether somebody has made work, in which one round of the scheduler finds more."""
        self._news = False
        """Whether something happened, since the scheduler last looked, after which something else may start."""
        self._events: list[Any] = []

    # --- Life ---

    def start(self) -> None:
        """Open the home and start a runner. If the home cannot be used, tasks stay queued until it can."""
        self._rules = Rules.of(self.conf)
        self._site, self._usable, self._next_home = None, False, 0.0  # one that has ended may be started again
        self._next_queues = self._next_runners = time.monotonic() + QUEUE_INTERVAL
        gc.freeze()  # what is loaded stays: to look through it for garbage stops the scheduler for 0.3 s now and then
        site = self._open()
        if site is not None:
            self.log.info("%r works in %s", self, site.home.root)
            self._safely("the runner", site.keeper.tick)

    def end(self) -> None:
        """Running jobs go on, and their ends stay announced for the next scheduler.

        Callbacks that wait are handed over: unlike tasks, Airflow would never queue them again.
        """
        waiting = keys.queued_callbacks(self)
        if waiting:
            self._process_workloads(waiting)
        if self._site is not None:
            self._safely("the runner", self._site.keeper.close)
            self._safely("the watch", self._site.bell.close)

    def terminate(self) -> None:
        """Nothing to end: jobs are no children of the scheduler."""

    def heartbeat(self) -> None:
        """Hand over what waits, report what is over."""
        if not self._task_event_logs:
            self._events.clear()
        self._safely("heartbeat", super().heartbeat)

    def _open(self) -> Site | None:
        """The home, if it can be used now."""
        now = time.monotonic()
        if self._site is not None and self._usable:
            return self._site
        if now < self._next_home:
            return None
        self._next_home = now + RETRY_HOME
        try:
            self._site = self._site or Site.of(self.conf, self.parallelism)
            store.ensure_home(self._site.home)
        except Exception as error:
            self._home_refused(error)
            return None
        self._usable = True
        return self._site

    def _home_refused(self, error: Exception) -> None:
        self._usable = False
        self._safely("metrics", self._metrics.home_refused)
        if self._may_say("home"):
            self.log.error("The home cannot be used, tasks stay queued: %s", error)
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
        site = self._open()
        if site is None:
            return
        built = {each.job.name: (workload, each) for workload in items if (each := self._build(site, workload))}
        try:
            answers = handover.hand_over(site.client, [each for _, each in built.values()])
        except HomeError as error:
            self._home_refused(error)
            return
        self._told.clear()
        for name, answer in answers.items():
            workload, submission = built[name]
            if answer.verdict is handover.Verdict.TAKEN:
                self._taken(workload, submission)
            elif answer.verdict is handover.Verdict.REFUSED:
                self._refuse(keys.key_of(workload), answer.why)
            else:
                self._safely("metrics", self._metrics.postponed)
                self.log.debug("The job %s is handed over later: %s", name, answer.why)
        taken = [
            built[name][1].job.queue for name, answer in answers.items() if answer.verdict is handover.Verdict.TAKEN
        ]
        self._safely("metrics", self._metrics.submitted, taken)

    def _build(self, site: Site, workload: Any) -> store.Submission | None:
        try:
            return jobs.submission(workload, site.options, site.home, site.server)
        except InvalidInputError as error:
            self._refuse(keys.key_of(workload), str(error))
        except Exception as error:  # one workload that cannot be built must not keep all others waiting
            self.log.exception("No job can be made of the workload %s", keys.key_of(workload))
            self._refuse(keys.key_of(workload), f"no job can be made of it: {type(error).__name__}: {error}")
        return None

    def _taken(self, workload: Any, submission: store.Submission) -> None:
        key, job = keys.key_of(workload), submission.job
        keys.take_from_queue(self, key)
        self.running.add(key)
        self._ledger.add(Entry(job.name, key, job.queue, job.external_id))
        self._stops.forget(job.name)
        self._successes.handed_over(key)
        self._sent = True
        if workload.running_state is not None:
            self.running_state(key)

    def _refuse(self, key: Any, why: str) -> None:
        keys.take_from_queue(self, key)
        self._safely("metrics", self._metrics.refused)
        self.log.error("No job was submitted for %s: %s", key, why)
        self._tell(key, "job refused", why)
        self.fail(key, info=why)

    # --- What became of them ---

    def sync(self) -> None:
        """Report what is over; each step for itself, so that trouble with one does not stop the others."""
        self._waited = False
        site = self._open()
        if site is None:
            time.sleep(self._rules.pause if self._rules.takes_over else 0.0)
            return
        now = time.monotonic()
        if not self._sent:
            self._successes.nothing_handed_over()
        self._safely("the runner", site.keeper.tick)
        self._safely("stopping jobs", self._stops.ask, site.client)
        self._listen(site)
        self._safely("collecting results", self._collect, site, now)
        self._safely("checking jobs", self._check_some, site, now, CHECKS_AT_ONCE)
        self._safely("checking queues", self._check_queues, site, now)
        self._safely("metrics", self._count_runners, site, now)
        self._safely("waiting for results", self._wait, site, self._situation())

    def _situation(self) -> Situation:
        """How things are after everything known is done; begins a new heartbeat."""
        sent, self._sent = self._sent, False
        woken, self._woken = self._woken, False
        if self._came_back:
            self._follows = sent
        running = len(self.running)
        return Situation(
            news=self._news,
            to_send=sum(1 for _ in keys.queued(self)),
            sent=sent,
            follows=self._follows,
            woken=woken,
            running=running,
            free_slots=self.parallelism - running,
        )

    def _wait(self, site: Site, now: Situation) -> None:
        """Wait for an end, and take together what comes together."""
        seconds = self._rules.seconds(now)
        deadline = time.monotonic() + seconds
        while not (self._woken or self._news) and (left := deadline - time.monotonic()) > 0:
            site.bell.wait(left)
            self._listen(site)
            self._collect(site, time.monotonic())
            self._check_some(site, time.monotonic(), CHECKS_WHEN_IDLE)
        if self._may_gather(now):
            site.bell.gather(self._served_queues(site), self._rules.sync_wait)
            self._listen(site)
            self._collect(site, time.monotonic())
        self._came_back = now.sent and not (self._woken or self._news)
        waited = bool(self.running) and (now.woken or seconds >= self._rules.sync_wait > 0)
        self._waited = waited or self._news

    def _may_gather(self, now: Situation) -> bool:
        made_work = now.woken or self._woken
        busy = len(self.running) >= load.processors()
        return self._rules.sync_wait > 0 and self._news and busy and not made_work

    def _served_queues(self, site: Site) -> list[str]:
        queues = sorted({entry.queue for entry in self._ledger if entry.queue})
        idle = {*runners.unserved(site.home, queues, site.keeper.seen), *pauses.names(site.home)}
        return [queue for queue in queues if queue not in idle]

    def _listen(self, site: Site) -> None:
        """What follows a task may start before its job is over."""
        work, told = site.bell.mute()
        self._woken |= work
        for entry in filter(None, map(self._ledger.get, told)):
            quiet = len(self.running) <= load.processors()
            self._news |= self._successes.hear(entry, quiet=quiet, may_follow=self._has_free_slots())

    def _has_free_slots(self) -> bool:
        return len(self.running) < self.parallelism

    def get_event_buffer(self, dag_ids: list[str] | None = None) -> dict[Any, Any]:
        """What became of the workloads; emptied."""
        events = super().get_event_buffer(dag_ids)
        self._news = False
        return Delivered(events) if events or self._waited else events

    def _collect(self, site: Site, now: float) -> None:
        names = spool.finished(site.home)
        for name in names:
            entry = self._ledger.get(name)
            if entry is not None:
                self._safely(f"the result of {name}", self._settle, site, entry, announced=True)
            else:
                self._safely(f"the result of {name}", self._look_at_stranger, site, name, now)
        self._strangers.keep_only(set(names))

    def _check_some(self, site: Site, now: float, most: int) -> None:
        """Whose announcement was lost would run for ever in Airflow's eyes."""
        size = len(self._ledger)
        if size == 0:  # what comes next is not due before its time
            self._checked_at = now
            return
        count = size if self._check_all else min(most, int(size * (now - self._checked_at) / CHECK_EACH))
        if count == 0:
            return
        if self._check_all:
            self._checked_at, self._check_all = now, False
        else:  # what is due and not done now is done as soon as there is time
            self._checked_at = max(self._checked_at + count / size * CHECK_EACH, now - CHECK_EACH)
        for entry in self._ledger.next_to_check(count):
            self._safely(f"the job {entry.name}", self._settle, site, entry, announced=False)

    def _settle(self, site: Site, entry: Entry, *, announced: bool) -> None:
        """Report a job if it is over."""
        try:
            job = store.read(site.home, entry.name)
        except NotFoundError:
            store.check_home(site.home)  # a home that is gone for a while says nothing of its jobs
            self._report(entry, results.gone(entry.name))
            return
        except CorruptFileError as error:
            self._settle_damaged(site, entry, error)
            return
        if entry.external_id is not None and job.external_id != entry.external_id:
            self._report(entry, Report(Tell.NOTHING))  # another scheduler runs this try again, and waits for the answer
            return
        if job.state.terminal:
            self._report_job(entry, job)
        elif job.state is JobState.WAITING:
            respool.requeue_lost(site.home, entry.name, job)  # its submitter died just before it was queued
        if job.state.terminal or announced:
            spool.collect_finished(site.home, entry.name)

    def _settle_damaged(self, site: Site, entry: Entry, error: CorruptFileError) -> None:
        try:
            job = held.condemn(site.home, entry.name, error, by=handover.BY)
        except JobBusyError:  # a process runs it, and writes the file anew at its end
            return
        if job.state.terminal:
            self._report_job(entry, job)
            spool.collect_finished(site.home, entry.name)

    def _look_at_stranger(self, site: Site, name: str, now: float) -> None:
        """An answer that nobody here waits for: late, of another scheduler, or of one that is gone."""
        if not name.startswith(jobs.PREFIX):
            return
        age = self._strangers.due(name, now)
        if age is None and not self._ledger.was_ours(name):
            return
        try:
            job = store.read_or_damaged(site.home, name)
        except NotFoundError:  # somebody removed it
            spool.collect_finished(site.home, name)
            return
        if self._ledger.is_done(name, job.external_id):
            spool.collect_finished(site.home, name)
        elif age is None or job.trigger != "executor" or not job.state.terminal:
            return
        elif key := keys.key_of_labels(job.labels):
            if spool.collect_finished(site.home, name):
                self._report_job(Entry(name, key), job)
        elif age >= DROP_AFTER:
            spool.collect_finished(site.home, name)

    def _report_job(self, entry: Entry, job: model.Job) -> None:
        self._report(entry, results.report(job, keys.kind_of(entry.key)))
        self._safely("metrics", self._metrics.ended, job)

    def _report(self, entry: Entry, report: Report) -> None:
        self._close(entry)
        others_run = len(self.running) > 1  # where none does, nothing else would end the wait
        awaited = not (entry.known and report.tell is Tell.SUCCESS and self._has_free_slots() and others_run)
        self._news |= awaited
        if report.reason:
            self.log.info("The job %s: %s", entry.name, report.reason)
            event = "job failed" if report.tell is Tell.FAILED else "job stopped"
            self._tell(entry.key, event, f"{entry.name}: {report.reason}")
        if report.tell is Tell.NOTHING:
            self.running.discard(entry.key)
        elif report.tell is Tell.SUCCESS:
            super().change_state(entry.key, keys.success_state(entry.key))
        else:
            super().change_state(entry.key, keys.failure_state(entry.key), report.reason)

    def _check_queues(self, site: Site, now: float) -> None:
        if now < self._next_queues or site.keeper.starting:
            return
        self._next_queues = now + QUEUE_INTERVAL
        queues = sorted({entry.queue for entry in self._ledger if entry.queue})
        for queue, why in obstacles.find(site.home, queues, site.keeper.seen).items():
            waiting = {marker.job for marker in spool.waiting(site.home, queue)}
            stuck = [entry for entry in self._ledger if entry.queue == queue and entry.name in waiting]
            if stuck and self._may_say(f"queue {queue}"):
                self.log.warning("%d jobs wait, and %s", len(stuck), why)
            for entry in stuck:
                if not entry.warned:
                    entry.warned = True
                    self._tell(entry.key, "job waits", f"{entry.name}: {why}")

    def _count_runners(self, site: Site, now: float) -> None:
        if now >= self._next_runners:
            self._next_runners = now + QUEUE_INTERVAL
            self._metrics.runners(runners.alive_runners(site.home, site.keeper.seen))

    # --- What Airflow asks for ---

    def change_state(self, key: Any, state: Any, info: Any = None, remove_running: bool = True) -> None:
        """Airflow calls this too, when it has given a task up: then its job must end."""
        self._news = True
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
        if self._site is not None:
            self._stops.ask(self._site.client)

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
            site = self._open()
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
            site = self._open()
            if site is not None:
                verdict = adoption.judge(site.home, name, ti.external_executor_id, queued=queued)
                if verdict is adoption.Adoption.STOP:
                    self._stop_job(name, "Airflow does not know this run of the task", None)
        except Exception:
            self.log.exception("Cannot tell whether the job %s is running", name)
        if verdict is not adoption.Adoption.ADOPT:
            return False
        self._ledger.add(Entry(name, key, external_id=ti.external_executor_id))
        self.running.add(key)
        self._safely("metrics", self._metrics.adopted)
        self._check_all = True
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
        self.log.info("executor jobs in %s (%d)\n\t%s", self._site and self._site.home, len(names), "\n\t".join(names))

    def _tell(self, key: Any, event: str, text: str) -> None:
        """Where people look: the task's events in Airflow's UI."""
        self._safely("a task event", self.log_task_event, event=event, extra=text, ti_key=key)

    def log_task_event(self, *, event: str, extra: str, ti_key: Any) -> None:
        """Airflow saves events through weak references: one that nobody else holds is gone before it is written."""
        super().log_task_event(event=event, extra=extra, ti_key=ti_key)
        if self._task_event_logs:
            self._events.append(self._task_event_logs[-1])
