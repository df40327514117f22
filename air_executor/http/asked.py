"""From the body of a request to a job that can be submitted."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from air_executor import definitions, model, pipelines, store, validation
from air_executor.errors import InvalidJobError
from air_executor.http.idempotency import LABEL
from air_executor.http.shapes import RunRequest, TaskRequest
from air_executor.paths import Home
from air_executor.slurm import options as slurm_options

_PLAIN = ("trigger", *(name for name in definitions.JOB_SETTINGS if name != "slurm"))
"""Options that are taken as they are, if they are given."""


def to_tasks(asked: Iterable[TaskRequest]) -> list[model.Task]:
    """The tasks.

    Raises:
        InvalidJobError: one of them is none.
    """
    return definitions.to_tasks(each.model_dump(exclude_none=True) for each in asked)


def submission(home: Home, asked: RunRequest, name: str | None, labels: dict[str, str], by: str) -> store.Submission:
    """The job that is asked for; nothing is written.

    Args:
        name: the job's; None: made up.
        labels: beside those that are asked for.
        by: who asks.

    Raises:
        InvalidInputError: it makes no job.
        NotFoundError: there is no such pipeline.
    """
    if LABEL in asked.labels:
        raise InvalidJobError(f"the label {LABEL} is set by the API; leave it out")
    made = _of_pipeline(home, asked, name, labels) if asked.pipeline else _of_tasks(asked, name, labels)
    made.by = by
    validation.number_tasks(made.tasks)
    validation.check_job(made.job)
    validation.check_tasks(made.tasks)
    return made


def _options(asked: RunRequest) -> dict[str, Any]:
    return {key: value for key in _PLAIN if (value := getattr(asked, key)) is not None}


def _of_tasks(asked: RunRequest, name: str | None, labels: dict[str, str]) -> store.Submission:
    options = {"trigger": model.Trigger.API.value, **_options(asked)}
    slurm = None if asked.slurm is None else slurm_options.read(asked.slurm)
    unique = name or f"run-{uuid.uuid4().hex[:12]}"
    job = model.Job(unique, labels={**asked.labels, **labels}, slurm=slurm, **options)
    return store.Submission(job, to_tasks(asked.tasks or []))


def _of_pipeline(home: Home, asked: RunRequest, name: str | None, labels: dict[str, str]) -> store.Submission:
    return pipelines.submission(
        home,
        asked.pipeline or "",
        params=asked.parameters,
        environment=asked.environment,
        job_name=name,
        labels={**asked.labels, **labels},
        slurm=asked.slurm,
        **_options(asked),
    )
