"""What the tests of the plugin need again and again: workloads, executors, and somebody who plays the runner."""

from __future__ import annotations

import itertools
import os
import uuid
from typing import Any

from airflow.executors import workloads
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.state import CallbackState, TaskInstanceState

from air_executor import held, model, processes, runners, spool, store
from air_executor.model import ExitKind, JobState
from air_executor.paths import Home
from airflow_plugin import jobs
from airflow_plugin.executor import AirExecutor
from airflow_plugin.workload import ExitCode

RUNNER = "runner-1"
_numbers = itertools.count(1)
SUCCESS, FAILED = TaskInstanceState.SUCCESS, TaskInstanceState.FAILED
CALLBACK_RUNNING, CALLBACK_SUCCESS, CALLBACK_FAILED = CallbackState.RUNNING, CallbackState.SUCCESS, CallbackState.FAILED


def start_executor(**arguments: Any) -> AirExecutor:
    executor = AirExecutor(**arguments)
    executor.job_id = 1
    executor.start()
    return executor


def make_task(**changes: Any) -> workloads.ExecuteTask:
    """A task's workload as the scheduler makes it."""
    values = {
        "id": uuid.uuid4(),
        "dag_version_id": uuid.uuid4(),
        "dag_id": "sales",
        "task_id": "load",
        "run_id": f"run {next(_numbers)}",
        "try_number": 1,
        "map_index": -1,
        "pool_slots": 1,
        "queue": "default",
        "priority_weight": 1,
        "external_executor_id": str(uuid.uuid4()),
        **changes,
    }
    return workloads.ExecuteTask(
        ti=workloads.TaskInstanceDTO(**values),
        dag_rel_path="sales.py",
        bundle_info=workloads.BundleInfo(name="dags-folder"),
        token=f"secret-token-{uuid.uuid4()}",
        log_path="dag_id=sales/attempt=1.log",
    )


def make_callback(path: str = "alerts.notify") -> workloads.ExecuteCallback:
    """A callback's workload as the scheduler makes it."""
    return workloads.ExecuteCallback(
        callback={"id": str(uuid.uuid4()), "fetch_method": "import_path", "data": {"path": path, "kwargs": {}}},
        dag_rel_path="sales.py",
        bundle_info=workloads.BundleInfo(name="dags-folder"),
        token=f"secret-token-{uuid.uuid4()}",
        log_path="executor_callbacks/1",
    )


def make_connection_test(connection_id: str = "warehouse") -> workloads.TestConnection:
    """A connection test's workload as the scheduler makes it."""
    return workloads.TestConnection(
        connection_test_id=uuid.uuid4(), connection_id=connection_id, timeout=60, token="secret-token"
    )


def again(task: workloads.ExecuteTask) -> workloads.ExecuteTask:
    """The same try, queued once more: Airflow makes another external id and another token."""
    ti = task.ti.model_copy(update={"external_executor_id": str(uuid.uuid4())})
    return task.model_copy(update={"ti": ti, "token": f"secret-token-{uuid.uuid4()}"})


def key_of(task: workloads.ExecuteTask) -> TaskInstanceKey:
    return task.ti.key


def name_of(task: workloads.ExecuteTask) -> str:
    return jobs.task_name(task.ti)


def hand_over(executor: AirExecutor, *items: Any) -> list[str]:
    """Queue workloads and beat once; returns the names of all jobs there are."""
    for item in items:
        executor.queue_workload(item, session=None)  # type: ignore[arg-type]
    executor.heartbeat()
    site = executor._door.site
    return [] if site is None or not site.home.jobs.is_dir() else sorted(store.names(site.home))


def serve(home: Home, *queues: str, draining: bool = False) -> None:
    """Register this process as a living runner."""
    runners.write(
        home,
        runners.RunnerInfo(
            id=RUNNER,
            process=processes.identify(os.getpid()),
            queues=list(queues),
            slots=1,
            launcher="fork",
            version="0",
            started_at=model.now(),
            heartbeat_at=model.now(),
            heartbeat=3.0,
            draining=draining,
        ),
    )


def claim(home: Home, name: str) -> None:
    """Take a waiting job from its queue as a runner does."""
    home.claims(RUNNER).mkdir(exist_ok=True)
    for queue in spool.queues(home):
        for marker in spool.waiting(home, queue):
            if marker.job == name:
                assert spool.claim(home, marker, RUNNER)


def begin(home: Home, name: str) -> held.HeldJob:
    """Claim and start a job; it is held until it is released."""
    claim(home, name)
    job = held.HeldJob.acquire(home, name)
    job.start(processes.identify(os.getpid(), RUNNER), by=RUNNER)
    job.set_task(job.tasks[0], model.TaskStatus.RUNNING)
    return job


def finish(home: Home, name: str, outcome: model.Exit | None = None) -> None:
    """Run a job to its end as a runner does."""
    with begin(home, name) as job:
        end(job, outcome)


def end(job: held.HeldJob, outcome: model.Exit | None = None) -> None:
    """End a job that was begun."""
    outcome = outcome or done()
    good = outcome.kind is ExitKind.SUCCESS
    job.finish(JobState.COMPLETED if good else JobState.FAILED, outcome, by=RUNNER)


def done(reason: str = "success") -> model.Exit:
    return model.Exit(ExitKind.SUCCESS, reason, code=0)


def ended(code: ExitCode | int, reason: str = "it failed") -> model.Exit:
    return model.Exit(ExitKind.EXIT_CODE, reason, code=int(code))


def events_of(executor: AirExecutor) -> list[tuple[str, str]]:
    """The task events that wait to be saved."""
    return [(log.event, log.extra) for log in executor._task_event_logs]
