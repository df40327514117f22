"""From a job to what is sent for it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from air_executor import definitions, model, store
from air_executor.errors import InvalidJobError

_LOCAL = ("external_id", "notify", "template", "variant")
"""Fields of a job that are for those who are on its host."""


@dataclass
class Order(store.Submission):
    """A run of a pipeline that the server has: its tasks are made there."""

    pipeline: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    environment: str | None = None
    planned: dict[str, str] = field(default_factory=dict)
    """Labels that it has by itself; the server refuses some of them if they are given."""


def body(
    submission: store.Submission,
    *,
    on_existing: str = "fail",
    same: Collection[str] = (),
    keep_completed: bool = False,
) -> dict[str, Any]:
    """What is sent for a job that shall be there.

    Raises:
        InvalidJobError: it holds what only who is on the home's host can say.
    """
    job = submission.job
    for name in _LOCAL:
        if getattr(job, name):
            raise InvalidJobError(f"{name} cannot be given over HTTP; leave it out")
    if submission.workload is not None:
        raise InvalidJobError("a workload cannot be given over HTTP; such jobs are made on the home's host")
    return {
        **_what(submission),
        **{name: value for name in definitions.JOB_SETTINGS if (value := getattr(job, name)) is not None},
        "name": job.name,
        "trigger": str(job.trigger),
        "labels": _labels(submission),
        "on_existing": on_existing,
        "same": list(same),
        "keep_completed": keep_completed,
    }


def _what(submission: store.Submission) -> dict[str, Any]:
    if not isinstance(submission, Order):
        return {"tasks": tasks(submission.tasks)}
    given = {"pipeline": submission.pipeline, "parameters": submission.parameters}
    return {**given, "environment": submission.environment}


def _labels(submission: store.Submission) -> dict[str, str]:
    planned = submission.planned if isinstance(submission, Order) else {}
    return {name: value for name, value in submission.job.labels.items() if planned.get(name) != value}


def tasks(given: Iterable[model.Task]) -> list[dict[str, Any]]:
    """Tasks as they are sent."""
    return [
        {name: _plain(value) for name in definitions.TASK_KEYS if (value := getattr(task, name)) not in (None, "")}
        for task in given
    ]


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
