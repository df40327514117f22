"""What Airflow's scheduler makes of what the executor tells it: its own code, on a real database."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.callback import Callback
from airflow.models.dagbag import DBDagBag
from airflow.models.log import Log
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import DAG, BaseOperator
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select, text, update
from sqlalchemy.exc import OperationalError

from air_executor import model, store
from air_executor.paths import Home
from airflow_plugin import patience, wanted
from airflow_plugin.executor import AirExecutor
from airflow_plugin.workload import ExitCode
from tests.plugin import fleet

State = TaskInstanceState
TASKS = ("plain", "retries")

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def dag(database: Any) -> Any:
    """A DAG with a task that is not repeated and one that is, in the database."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    with warnings.catch_warnings(), create_session() as session:
        warnings.simplefilter("ignore")
        DagBundlesManager().sync_bundles_to_db(session=session)
        session.flush()
        bundle = session.scalars(select(DagBundleModel)).first()
        with DAG("orders") as dag:
            BaseOperator(task_id="plain", retries=0)
            BaseOperator(task_id="retries", retries=3)
        session.add(DagModel(dag_id="orders", bundle_name=bundle.name, is_paused=False, relative_fileloc="orders.py"))
        session.flush()
        SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle.name, session=session)
        session.flush()
        return SerializedDagModel.get_dag("orders", session=session)


class Scheduler:
    """One that has queued the tasks of a run."""

    def __init__(self, dag: Any, executor: AirExecutor, home: Home, number: int) -> None:
        self.executor, self.home, self.run_id = executor, home, f"run-{number}"
        moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
        with create_session() as session:
            job = Job(state="running")
            session.add(job)
            session.flush()
            self.job_id = job.id
            run = dag.create_dagrun(
                run_id=self.run_id,
                logical_date=None,
                run_after=moment,
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
                state=DagRunState.RUNNING,
                session=session,
            )
            for ti in run.get_task_instances(session=session):
                ti.try_number, ti.state, ti.queued_by_job_id = 1, State.QUEUED, self.job_id
                ti.external_executor_id = str(ti.id)
        executor.callback_sink = Sink()  # type: ignore[assignment]

    def instance(self, task_id: str) -> Any:
        with create_session() as session:
            where = (TaskInstance.run_id == self.run_id, TaskInstance.task_id == task_id)
            ti = session.scalars(select(TaskInstance).where(*where)).one()
            ti.key, ti.max_tries  # noqa: B018  # loaded while there is a session
            session.expunge(ti)
            return ti

    def set(self, task_id: str, **values: Any) -> None:
        with create_session() as session:
            where = (TaskInstance.run_id == self.run_id, TaskInstance.task_id == task_id)
            session.execute(update(TaskInstance).where(*where).values(**values))

    def hand_over(self, task_id: str) -> str:
        ti = self.instance(task_id)
        names = ("id", "dag_id", "task_id", "run_id", "map_index", "try_number", "queue", "external_executor_id")
        task = fleet.make_task(**{name: getattr(ti, name) for name in names})
        fleet.hand_over(self.executor, task)
        return fleet.name_of(task)

    def process(self) -> None:
        """One round of the scheduler's loop after the heartbeat."""
        self.executor.sync()
        with create_session() as session:
            SchedulerJobRunner.process_executor_events(
                executor=self.executor, job_id=self.job_id, scheduler_dag_bag=DBDagBag(), session=session
            )
        with create_session() as session:
            SchedulerJobRunner._process_task_event_logs(self.executor._task_event_logs, session)

    def queue_since(self, task_id: str, seconds: float) -> None:
        """As if it had been queued so long ago."""
        self.set(task_id, queued_dttm=datetime.now(timezone.utc) - timedelta(seconds=seconds))

    def handle_stuck(self) -> None:
        """One round of the scheduler's care for tasks that are stuck in their queues."""
        runner = SchedulerJobRunner(Job(), executors=[self.executor])
        runner.job.id = self.job_id
        runner._handle_tasks_stuck_in_queued()

    def queued_for(self, task_id: str) -> float:
        return (datetime.now(timezone.utc) - self.instance(task_id).queued_dttm).total_seconds()

    def events(self) -> list[tuple[str, str]]:
        with create_session() as session:
            rows = session.execute(select(Log.event, Log.extra).where(Log.run_id == self.run_id).order_by(Log.id))
            return [(event, extra) for event, extra in rows]


class Sink:
    """Takes what goes to the DAG processor."""

    def send(self, _request: object) -> None:
        """Nothing runs there."""


_numbers = iter(range(1, 1000))


@pytest.fixture
def scheduler(dag: Any, executor: AirExecutor, home: Home) -> Iterator[Scheduler]:
    yield Scheduler(dag, executor, home, next(_numbers))


@pytest.mark.parametrize(
    ("outcome", "before", "after"),
    [
        # Airflow has the outcome: nothing changes.
        (fleet.done(), State.SUCCESS, State.SUCCESS),
        (fleet.done("skipped"), State.SKIPPED, State.SKIPPED),
        (fleet.done("deferred"), State.DEFERRED, State.DEFERRED),
        (fleet.done("up_for_reschedule"), State.UP_FOR_RESCHEDULE, State.UP_FOR_RESCHEDULE),
        (fleet.ended(ExitCode.TASK_FAILED), State.FAILED, State.FAILED),
        (fleet.ended(ExitCode.TASK_FAILED), State.UP_FOR_RETRY, State.UP_FOR_RETRY),
        # It was scheduled again before the end was reported.
        (fleet.done("up_for_reschedule"), State.SCHEDULED, State.SCHEDULED),
        (fleet.done("deferred"), State.SCHEDULED, State.SCHEDULED),
        # Cleared while it ran: scheduled again at once.
        (fleet.ended(ExitCode.STOPPED_BY_AIRFLOW), State.RESTARTING, None),
        # Marked by somebody.
        (fleet.ended(ExitCode.STOPPED_BY_AIRFLOW), State.SUCCESS, State.SUCCESS),
        (fleet.ended(ExitCode.STOPPED_BY_AIRFLOW), State.FAILED, State.FAILED),
        (fleet.ended(ExitCode.START_REFUSED), State.FAILED, State.FAILED),
        # It lives in another process.
        (fleet.ended(ExitCode.ALREADY_RUNNING), State.RUNNING, State.RUNNING),
        # Airflow does not know yet.
        (model.Exit(model.ExitKind.RUNNER_LOST, "the runner is gone"), State.RUNNING, State.UP_FOR_RETRY),
        (model.Exit(model.ExitKind.MEMORY, "too much memory"), State.RUNNING, State.UP_FOR_RETRY),
        (model.Exit(model.ExitKind.START_FAILED, "no such file"), State.QUEUED, State.UP_FOR_RETRY),
        (fleet.ended(ExitCode.NOT_STARTED), State.QUEUED, State.UP_FOR_RETRY),
        (fleet.ended(ExitCode.NOT_DELIVERED), State.RUNNING, State.UP_FOR_RETRY),
    ],
)
def test_the_state_of_a_task(scheduler: Scheduler, outcome: model.Exit, before: State, after: State | None) -> None:
    name = scheduler.hand_over("retries")
    scheduler.set("retries", state=before)
    fleet.finish(scheduler.home, name, outcome)
    scheduler.process()
    assert scheduler.instance("retries").state == after
    assert not scheduler.executor.running


def test_without_retries_a_lost_task_has_failed(scheduler: Scheduler) -> None:
    name = scheduler.hand_over("plain")
    scheduler.set("plain", state=State.RUNNING)
    fleet.finish(scheduler.home, name, model.Exit(model.ExitKind.RUNNER_LOST, "the runner is gone"))
    scheduler.process()
    assert scheduler.instance("plain").state == State.FAILED
    assert ("job failed", f"{name}: the runner is gone") in scheduler.events()
    mismatch = next(extra for event, extra in scheduler.events() if event == "state mismatch")
    assert "Extra info: the runner is gone" in mismatch


def test_a_cleared_task_has_all_its_retries_again(scheduler: Scheduler) -> None:
    name = scheduler.hand_over("retries")
    scheduler.set("retries", state=State.RESTARTING, try_number=1, max_tries=1)
    fleet.finish(scheduler.home, name, fleet.ended(ExitCode.STOPPED_BY_AIRFLOW, "stopped by Airflow"))
    scheduler.process()
    ti = scheduler.instance("retries")
    assert (ti.state, ti.max_tries) == (None, 4)
    assert ("job stopped", f"{name}: stopped by Airflow") in scheduler.events()


def test_a_task_that_cannot_become_a_job_fails_in_airflow(scheduler: Scheduler) -> None:
    ti = scheduler.instance("plain")
    names = ("id", "dag_id", "task_id", "run_id", "map_index", "try_number", "external_executor_id")
    values = {name: getattr(ti, name) for name in names}
    fleet.hand_over(scheduler.executor, fleet.make_task(**values, executor_config={"cpu": 1}))
    scheduler.process()
    assert scheduler.instance("plain").state == State.FAILED
    assert any(event == "job refused" and "unknown option 'cpu'" in extra for event, extra in scheduler.events())


def test_many_events_are_saved_together(scheduler: Scheduler) -> None:
    for task_id in TASKS:
        name = scheduler.hand_over(task_id)
        fleet.finish(scheduler.home, name, fleet.ended(ExitCode.TASK_FAILED))
        scheduler.set(task_id, state=State.FAILED)
    scheduler.process()
    assert [event for event, _ in scheduler.events()] == ["job failed", "job failed"]


def test_a_task_without_heartbeat_is_given_up_and_stopped(scheduler: Scheduler) -> None:
    name = scheduler.hand_over("retries")
    scheduler.set("retries", state=State.RUNNING)
    with fleet.begin(scheduler.home, name):
        scheduler.executor.change_state(scheduler.instance("retries").key, State.FAILED, remove_running=True)
        scheduler.process()
        assert scheduler.home.job(name).cancel.exists()
    assert scheduler.instance("retries").state == State.UP_FOR_RETRY


def test_a_queued_task_is_adopted_from_the_database(scheduler: Scheduler, home: Home) -> None:
    name = scheduler.hand_over("retries")
    successor = fleet.start_executor()
    ti = scheduler.instance("retries")
    assert successor.try_adopt_task_instances([ti]) == []
    fleet.finish(home, name)
    successor.sync()
    assert successor.get_event_buffer() == {ti.key: (State.SUCCESS, None)}
    assert successor.try_adopt_task_instances([scheduler.instance("plain")]) != []


def test_a_callback_is_known_to_the_database(scheduler: Scheduler, home: Home) -> None:
    callback = fleet.make_callback()
    [name] = [name for name in fleet.hand_over(scheduler.executor, callback) if "callback" in name]
    fleet.finish(home, name, fleet.ended(ExitCode.TASK_FAILED, "RuntimeError: no"))
    scheduler.executor.sync()
    assert scheduler.executor.event_buffer == {callback.key: (fleet.CALLBACK_FAILED, "RuntimeError: no")}
    scheduler.process()  # the database has no such callback, which must not matter
    with create_session() as session:
        assert session.scalars(select(Callback)).all() == []


# --- Tasks that are queued for long ---

LONG = 3600.0
"""Seconds, well beyond `[scheduler] task_queued_timeout`."""


def test_a_task_that_waits_in_a_served_queue_is_left_alone(scheduler: Scheduler) -> None:
    fleet.serve(scheduler.home, "default")
    name = scheduler.hand_over("plain")
    for _ in range(4):  # the third time, Airflow would fail it
        scheduler.queue_since("plain", LONG)
        scheduler.handle_stuck()
        assert scheduler.instance("plain").state == State.QUEUED
        assert scheduler.queued_for("plain") < LONG / 2
    assert store.read(scheduler.home, name).state is model.JobState.WAITING
    assert scheduler.executor.running and scheduler.events() == []


def test_one_that_only_waits_does_not_keep_a_stuck_one(scheduler: Scheduler) -> None:
    fleet.serve(scheduler.home, "default")
    scheduler.hand_over("plain")
    waiting = scheduler.instance("plain")
    scheduler.set("retries", queue="unserved")
    stuck = scheduler.hand_over("retries")
    for task_id in TASKS:
        scheduler.queue_since(task_id, LONG)
    for _ in range(2):  # whichever Airflow takes first
        scheduler.handle_stuck()
    assert scheduler.instance("retries").state == State.SCHEDULED
    assert store.read(scheduler.home, stuck).state is model.JobState.CANCELLED
    assert scheduler.instance("plain").state == State.QUEUED
    assert scheduler.executor.running == {waiting.key}
    assert [event for event, _ in scheduler.events()] == ["stuck in queued reschedule"]


def test_all_that_wait_are_told_to_airflow_at_once(scheduler: Scheduler) -> None:
    fleet.serve(scheduler.home, "default")
    for task_id in TASKS:
        scheduler.hand_over(task_id)
        scheduler.queue_since(task_id, LONG)
    scheduler.handle_stuck()
    assert max(map(scheduler.queued_for, TASKS)) < LONG / 2


def test_only_the_clocks_of_queued_tasks_start_anew(scheduler: Scheduler) -> None:
    fleet.serve(scheduler.home, "default")
    for task_id in TASKS:
        scheduler.hand_over(task_id)
        scheduler.queue_since(task_id, LONG)
    scheduler.set("plain", state=State.RUNNING)
    scheduler.handle_stuck()
    assert scheduler.queued_for("plain") > LONG / 2
    assert scheduler.queued_for("retries") < LONG / 2


@pytest.mark.parametrize("draining", [True, False])
def test_a_task_in_a_queue_that_nobody_serves_is_queued_anew_and_failed_at_last(
    scheduler: Scheduler, draining: bool
) -> None:
    if draining:
        fleet.serve(scheduler.home, "default", draining=True)
    for state in (State.SCHEDULED, State.SCHEDULED, State.FAILED):
        scheduler.set("plain", state=State.QUEUED, queued_by_job_id=scheduler.job_id)
        name = scheduler.hand_over("plain")
        scheduler.queue_since("plain", LONG)
        scheduler.handle_stuck()
        assert scheduler.instance("plain").state == state
        assert store.read(scheduler.home, name).state is model.JobState.CANCELLED
    assert scheduler.events()[-1][0] == "stuck in queued tries exceeded"


def test_a_task_whose_start_was_refused_for_its_old_token_is_queued_anew(scheduler: Scheduler) -> None:
    fleet.serve(scheduler.home, "default")
    name = scheduler.hand_over("plain")
    fleet.finish(scheduler.home, name, fleet.ended(ExitCode.TOKEN_OUT_OF_DATE, "its token is too old"))
    scheduler.process()
    assert scheduler.instance("plain").state == State.QUEUED
    assert not scheduler.executor.running
    scheduler.queue_since("plain", LONG)
    scheduler.handle_stuck()
    assert scheduler.instance("plain").state == State.SCHEDULED
    scheduler.set("plain", state=State.QUEUED, external_executor_id="another")
    scheduler.hand_over("plain")
    assert store.read(scheduler.home, name).attempt == 2


def test_while_the_home_is_away_no_task_is_called_stuck(scheduler: Scheduler, tmp_path: Path) -> None:
    scheduler.hand_over("plain")
    scheduler.queue_since("plain", LONG)
    scheduler.home.root.rename(tmp_path / "elsewhere")
    scheduler.handle_stuck()
    assert scheduler.instance("plain").state == State.QUEUED
    (tmp_path / "elsewhere").rename(scheduler.home.root)
    scheduler.handle_stuck()
    assert scheduler.instance("plain").state == State.SCHEDULED


def test_a_database_that_refuses_takes_no_task_back(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.serve(scheduler.home, "default")
    scheduler.hand_over("plain")
    scheduler.queue_since("plain", LONG)
    monkeypatch.setattr(patience, "_updates", lambda *_: [text("update no_such_table set x = 1")])
    scheduler.handle_stuck()
    assert scheduler.instance("plain").state == State.QUEUED
    monkeypatch.undo()
    scheduler.handle_stuck()
    assert scheduler.queued_for("plain") < LONG / 2


# --- Tasks of which Airflow tells nothing ---


def look_at_what_waits(executor: AirExecutor) -> None:
    """As if everything had waited for some seconds."""
    executor._tender._next = 0.0
    for entry in executor._ledger:
        entry.since -= LONG
    executor.sync()


@pytest.mark.parametrize(
    "values",
    [{"state": State.FAILED}, {"state": State.SUCCESS}, {"state": None}, {"external_executor_id": "of the next run"}],
)
def test_a_task_that_was_marked_or_cleared_while_it_waited_does_not_start(
    scheduler: Scheduler, values: dict[str, Any]
) -> None:
    gone, waiting = scheduler.hand_over("plain"), scheduler.hand_over("retries")
    scheduler.set("plain", **values)
    look_at_what_waits(scheduler.executor)
    ended = store.read(scheduler.home, gone)
    assert (ended.state, ended.exit and ended.exit.reason) == (
        model.JobState.CANCELLED,
        "cancelled by Airflow: its task was marked, cleared or deleted while it waited",
    )
    assert store.read(scheduler.home, waiting).state is model.JobState.WAITING
    assert scheduler.executor.running == {scheduler.instance("retries").key}
    scheduler.process()
    assert scheduler.executor.event_buffer == {} and scheduler.events() == []


def test_a_task_that_was_deleted_while_it_waited_does_not_start(scheduler: Scheduler) -> None:
    task = fleet.make_task()  # the database has no such task instance
    fleet.hand_over(scheduler.executor, task)
    look_at_what_waits(scheduler.executor)
    assert store.read(scheduler.home, fleet.name_of(task)).state is model.JobState.CANCELLED
    assert not scheduler.executor.running


def test_what_has_begun_is_for_its_own_heartbeat(scheduler: Scheduler) -> None:
    name = scheduler.hand_over("plain")
    with fleet.begin(scheduler.home, name):
        scheduler.set("plain", state=State.FAILED)
        look_at_what_waits(scheduler.executor)
        assert not scheduler.home.job(name).cancel.exists()
        scheduler.set("plain", state=State.RUNNING)
        look_at_what_waits(scheduler.executor)
    [entry] = scheduler.executor._ledger
    assert entry.runs  # and is not asked for any more


def test_a_database_that_does_not_answer_drops_nothing(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    name = scheduler.hand_over("plain")
    scheduler.set("plain", state=State.FAILED)

    def refuse(_: object) -> None:
        raise OperationalError("select", {}, Exception("it is away"))

    with monkeypatch.context() as patch:
        patch.setattr(wanted, "_ask", refuse)
        look_at_what_waits(scheduler.executor)
    assert store.read(scheduler.home, name).state is model.JobState.WAITING
    look_at_what_waits(scheduler.executor)
    assert store.read(scheduler.home, name).state is model.JobState.CANCELLED
