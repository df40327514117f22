"""From Airflow's workload to a job: names, labels, options. Pure, and never says what a secret is."""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from air_executor import model, store, validation
from air_executor.errors import InvalidJobError
from air_executor.paths import Home
from air_executor.slurm import options as slurm_options
from airflow_plugin import keys, warm
from airflow_plugin.config import Options

MODULE = "airflow_plugin.workload"
"""What a job of Airflow runs; a template may have it preloaded."""

TASK_ID = "workload"
"""The only task of a job of Airflow; its log is logs/workload.log."""

PREFIX = "airflow-"
"""Every job of Airflow has a name that begins so."""

HIGHEST_PRIORITY = 2**31 - 1
"""Callbacks and connection tests start before any task, as Airflow wants."""

FINGERPRINT = "workload-"
"""How the external id begins of a workload for which Airflow has made none."""

FOREIGN = frozenset({"pod_override", "KubernetesExecutor", "LocalExecutor", "CeleryExecutor"})
"""Keys of `executor_config` that belong to other executors; they are passed over, so that a DAG can move."""


@dataclass(frozen=True)
class TaskOptions:
    """What a task may say in its `executor_config`."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for the task, beside those of the runner."""
    timeout: float | None = None
    """Seconds that the job may run."""
    memory_mb: int | None = None
    """MiB that the job's processes may use together."""
    output_mb: int | None = None
    """MiB that the job may write to its log."""
    queue: str | None = None
    """Instead of the queue that the task has in Airflow."""
    nice: int = 0
    slurm: dict[str, Any] | None = None
    """What the job asks of Slurm, where it then runs."""


OPTIONS = ("env", "timeout", "memory_mb", "output_mb", "queue", "nice", "slurm")


def parse_executor_config(config: object) -> TaskOptions:
    """The options in a task's `executor_config`.

    Raises:
        InvalidJobError: a key is unknown, or a value is of the wrong type; the message names it, and never a variable's
            value.
    """
    if not config:
        return TaskOptions()
    if not isinstance(config, Mapping):
        raise InvalidJobError(f"executor_config must be a dictionary, not {type(config).__name__}")
    given = {key: value for key, value in config.items() if key not in FOREIGN and value is not None}
    for name in given:
        if name not in OPTIONS:
            close = difflib.get_close_matches(str(name), OPTIONS, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(OPTIONS)}"
            raise InvalidJobError(f"executor_config has the unknown option {str(name)[:60]!r}; {hint}")
    if "slurm" in given:
        given["slurm"] = slurm_options.read(given["slurm"], "executor_config 'slurm'")
    options = TaskOptions(**given)
    _check(options)
    return options


def _check(options: TaskOptions) -> None:
    if not isinstance(options.env, Mapping):
        raise InvalidJobError(f"executor_config 'env' must be a dictionary, not {type(options.env).__name__}")
    validation.check_env("executor_config 'env'", options.env)
    for name, whole in {**validation.LIMITS, "nice": True}.items():
        if (value := getattr(options, name)) is not None:
            validation.check_number(f"executor_config {name!r}", value, positive=name != "nice", whole=whole)
    if options.queue is not None:
        validation.check_name("executor_config 'queue'", options.queue, validation.MAX_QUEUE_BYTES)


def task_name(ti: Any) -> str:
    """The job's name of a try of a task instance: from a workload's task instance or from the database's."""
    mapped = [f"map{ti.map_index}"] if ti.map_index >= 0 else []
    parts = [ti.dag_id, ti.task_id, ti.run_id, *mapped, f"try{ti.try_number}"]
    return validation.make_name("airflow", *parts, key=f"{ti.id} {ti.try_number}")


def log_path_of(home: Home, name: str) -> str | None:
    """Where Airflow has the log of a job's task, below its folder of logs; only as long as the job is not over.

    Raises:
        OSError, ValueError, AttributeError: there is no such workload.
    """
    found = json.loads(home.job(name).workload.read_bytes()).get("log_path")
    return found if isinstance(found, str) else None


def submission(workload: Any, options: Options, home: Home, server: str) -> store.Submission:
    """The job that runs a workload.

    Raises:
        InvalidInputError: the task's `executor_config` or its queue is not in order.
    """
    task_options = TaskOptions()
    if keys.is_task(workload):
        task_options = parse_executor_config(workload.ti.executor_config)
        job = _task_job(workload.ti, options, task_options)
    elif keys.is_callback(workload):
        job = _callback_job(workload, options)
    else:
        job = _connection_test_job(workload, options)
    validation.check_name("the queue", job.queue, validation.MAX_QUEUE_BYTES)
    job.trigger = model.Trigger.EXECUTOR.value
    job.notify = True
    job.template = MODULE
    # A task with variables of its own may find another DAG in its file than the others.
    if options.warm_dags and keys.is_task(workload) and not task_options.env:
        job.variant = warm.variant_of(workload)
    job.external_id = job.external_id or _fingerprint(workload)
    arguments = ["-m", MODULE, "--server", server, str(home.job(job.name).workload)]
    task = model.Task(options.python or sys.executable, arguments, id=TASK_ID, env=dict(task_options.env))
    return store.Submission(job, [task], workload.model_dump_json().encode())


def _fingerprint(workload: Any) -> str:
    """Tells two workloads of the same name apart: Airflow makes each with another token."""
    return f"{FINGERPRINT}{hashlib.sha256(workload.token.encode()).hexdigest()[:24]}"


def _task_job(ti: Any, options: Options, task_options: TaskOptions) -> model.Job:
    labels = {name: str(getattr(ti, name)) for name in ("dag_id", "task_id", "run_id", "map_index", "try_number")}
    return model.Job(
        name=task_name(ti),
        queue=task_options.queue or ti.queue or options.default_queue,
        priority=max(-HIGHEST_PRIORITY, min(HIGHEST_PRIORITY - 1, ti.priority_weight)),
        labels={"kind": keys.TASK, **labels, "ti_id": str(ti.id)},
        external_id=ti.external_executor_id,
        timeout=task_options.timeout,
        memory_mb=task_options.memory_mb,
        output_mb=task_options.output_mb,
        nice=task_options.nice,
        slurm=task_options.slurm,
    )


def _callback_job(workload: Any, options: Options) -> model.Job:
    identifier = str(workload.callback.id)
    return model.Job(
        name=validation.make_name("airflow", "callback", workload.display_name, key=f"callback {identifier}"),
        queue=options.default_queue,
        priority=HIGHEST_PRIORITY,
        labels={"kind": keys.CALLBACK, "callback_id": identifier, "path": str(workload.callback.data.get("path", ""))},
    )


def _connection_test_job(workload: Any, options: Options) -> model.Job:
    identifier = str(workload.connection_test_id)
    parts = ("airflow", "connection_test", workload.connection_id)
    return model.Job(
        name=validation.make_name(*parts, key=f"connection_test {identifier}"),
        queue=workload.queue or options.default_queue,
        priority=HIGHEST_PRIORITY,
        labels={
            "kind": keys.CONNECTION_TEST,
            "connection_test_id": identifier,
            "connection_id": workload.connection_id,
        },
    )
