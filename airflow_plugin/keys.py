"""How Airflow names workloads and where an executor keeps those that wait: the one place that knows.

Airflow 3.4 is going to put all workloads in one queue and to name them by UUIDs; this module has to follow then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.executors import workloads
from airflow.executors.workloads.types import state_class_for_key
from airflow.models.callback import CallbackKey
from airflow.models.connection_test import ConnectionTestKey
from airflow.models.taskinstancekey import TaskInstanceKey

if TYPE_CHECKING:
    from airflow.executors.base_executor import BaseExecutor
    from airflow.models.taskinstance import TaskInstance

Key = Any
"""What Airflow calls a WorkloadKey."""

TASK, CALLBACK, CONNECTION_TEST = "task", "callback", "connection_test"


def key_of(workload: Any) -> Key:
    """The key of a workload."""
    return workload.key


def key_of_instance(ti: TaskInstance) -> Key:
    """The key of a task instance; reads the database if the try number is not loaded."""
    return ti.key


def are_of_one_run(one: Key, other: Key) -> bool:
    """Whether two keys are of task instances of the same run of a DAG."""
    if not isinstance(one, TaskInstanceKey) or not isinstance(other, TaskInstanceKey):
        return False
    return (one.dag_id, one.run_id) == (other.dag_id, other.run_id)


def kind_of(key: Key) -> str:
    """What kind of workload a key is of."""
    if isinstance(key, TaskInstanceKey):
        return TASK
    return CONNECTION_TEST if isinstance(key, ConnectionTestKey) else CALLBACK


def key_of_labels(labels: Mapping[str, str]) -> Key | None:
    """The key of a job's workload that is no task; None if it is one, or none of ours."""
    if labels.get("kind") == CALLBACK and "callback_id" in labels:
        return CallbackKey(id=labels["callback_id"])
    if labels.get("kind") == CONNECTION_TEST and "connection_test_id" in labels:
        return ConnectionTestKey(id=labels["connection_test_id"])
    return None


def success_state(key: Key) -> Any:
    """The state of a workload that ended well."""
    return state_class_for_key(key).SUCCESS


def failure_state(key: Key) -> Any:
    """The state of a workload that failed."""
    return state_class_for_key(key).FAILED


def _queues(executor: BaseExecutor) -> tuple[dict[Any, Any], ...]:
    return executor.queued_tasks, executor.queued_callbacks, executor.queued_connection_tests


def take_from_queue(executor: BaseExecutor, key: Key) -> bool:
    """Remove a workload from the queue that it is in; False if it is in none."""
    return any([queue.pop(key, None) is not None for queue in _queues(executor)])


def queued(executor: BaseExecutor) -> Iterator[Key]:
    """The keys of all that wait."""
    for queue in _queues(executor):
        yield from list(queue)


def queued_callbacks(executor: BaseExecutor) -> list[Any]:
    """The callbacks that wait."""
    return list(executor.queued_callbacks.values())


def queued_connection_tests(executor: BaseExecutor) -> list[Any]:
    """The connection tests that wait."""
    return list(executor.queued_connection_tests.values())


def subject_of(workload: Any) -> Any:
    """Whom the token of a workload is for."""
    if is_task(workload):
        return workload.ti.id
    return workload.callback.id if is_callback(workload) else workload.connection_test_id


def log_path_of(workload: Any) -> str | None:
    """Where Airflow has the log of a workload's task; None if it is no task."""
    return workload.log_path if is_task(workload) else None


def is_task(workload: Any) -> bool:
    """Whether a workload is a task's."""
    return isinstance(workload, workloads.ExecuteTask)


def is_callback(workload: Any) -> bool:
    """Whether a workload is a callback's."""
    return isinstance(workload, workloads.ExecuteCallback)
