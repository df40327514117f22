"""From what a DAG says of a job to the job that is submitted. Nothing is written here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from air_executor import definitions, model, store, validation
from air_executor.errors import InvalidJobError
from air_executor.slurm import options as slurm_options

if TYPE_CHECKING:
    from air_executor.clients import Client

OPTIONS = ("priority", "max_parallel", "memory_mb", "output_mb", "on_failure", "slurm", "webhooks")
"""Fields of a job that a DAG may give; None leaves what the pipeline says."""
_MADE_OTHERWISE = frozenset({"job_name", "extra"})
"""Fields of a task that nobody writes into a DAG."""


@dataclass(frozen=True)
class Params:
    """What a task says of the parameters of a pipeline."""

    explicit: Mapping[str, Any] = field(default_factory=dict)
    """`pipeline_params`."""
    merged: Mapping[str, Any] = field(default_factory=dict)
    """Airflow's `params` of DAG, task and run, as a task finds them in its context."""
    of_dag: Collection[str] = ()
    """The names that the DAG declares."""
    of_task: Collection[str] = ()
    """The names that the operator has; as Airflow merges them, with those of the DAG."""
    environment: str | None = None

    def choose(self, declared: Collection[str]) -> dict[str, Any]:
        """The parameters for a pipeline that declares these names.

        Of Airflow's `params`, those that the pipeline declares; and those that were given to the task itself, so that a
        misspelled one is refused rather than passed over. Others of the DAG or of a run are not meant for the pipeline.
        """
        own = set(self.of_task) - set(self.of_dag)
        chosen = {name: value for name, value in self.merged.items() if name in declared or name in own}
        return {**chosen, **self.explicit}


def seconds(what: str, value: Any) -> float | None:
    """A span of time from a number of seconds or a `timedelta`; None if there is none.

    Raises:
        InvalidJobError: it is neither, or not above 0.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if value is not None:
        validation.check_number(what, value, positive=True)
    return value  # type: ignore[no-any-return]


def check_choice(what: str, value: Any, known: Collection[str]) -> None:
    """Raise `InvalidJobError` unless a word is one of those that are known."""
    if value not in known:
        raise InvalidJobError(f"{what} is one of {', '.join(known)}, not {str(value)[:40]!r}")


def plain_tasks(tasks: Any) -> Any:
    """Tasks as dictionaries, which Airflow can render and show; anything else is left as it is."""
    if not isinstance(tasks, (list, tuple)):
        return tasks
    return [_plain(task) if isinstance(task, model.Task) else task for task in tasks]


def _plain(task: model.Task) -> dict[str, Any]:
    default = model.Task("")
    names = [item.name for item in fields(task) if item.name not in _MADE_OTHERWISE]
    return {name: value for name in names if (value := getattr(task, name)) != getattr(default, name)}


def of_tasks(name: str, tasks: Any) -> store.Submission:
    """The job of tasks that a DAG gives, without labels and options.

    Raises:
        InvalidJobError: they are no tasks; whether they fit together is checked when the job is submitted.
    """
    return store.Submission(model.Job(name=name), to_tasks(tasks))


def of_pipeline(client: Client, name: str, pipeline: str, params: Params, environment: str | None) -> store.Submission:
    """The job of a pipeline, without what the DAG adds.

    Args:
        environment: of the connection; it does not count for a pipeline that has none.

    Raises:
        InvalidInputError, NotFoundError: there is no such pipeline, or the parameters are not in order.
    """
    blueprint = client.find_pipeline(pipeline).blueprint
    chosen = params.environment or (environment if blueprint.environments else None)
    return client.pipeline(pipeline, params=params.choose(blueprint.params), environment=chosen, job_name=name)


def to_tasks(tasks: Any) -> list[model.Task]:
    """Tasks from what a DAG gives, which may have been rendered or be the XCom of another task.

    Raises:
        InvalidJobError: they are no list, or one of them is no task.
    """
    return [definitions.to_task(task) for task in check_listed(tasks)]


def check_listed(tasks: Any) -> list[Any]:
    """What may be tasks as a list; raises `InvalidJobError` if it is none."""
    if isinstance(tasks, (str, bytes, Mapping)) or not hasattr(tasks, "__iter__"):
        raise InvalidJobError(f"tasks must be a list of tasks, not {type(tasks).__name__}")
    return list(tasks)


def apply_options(job: model.Job, options: Mapping[str, Any], *, queue: str, time_limit: float | None) -> None:
    """Put what a DAG says of the job into it; None says nothing.

    What it asks of Slurm goes before what the pipeline asks, option by option; it may have come of templates, as text.

    Args:
        job: changed.
        options: fields of a job.
        queue: of the job.
        time_limit: seconds, of the Airflow task; the shorter of this and the pipeline's counts.

    Raises:
        InvalidJobError: what it asks of Slurm is no option there.
    """
    for name, value in options.items():
        if name == "slurm" and value is not None:
            job.slurm = slurm_options.combine(job.slurm or {}, slurm_options.read(value, typed=True))
        elif value is not None:
            setattr(job, name, value)
    job.queue = queue
    job.timeout = min((limit for limit in (job.timeout, time_limit) if limit is not None), default=None)
