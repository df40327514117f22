"""From what the API answers to the objects and errors that the core has. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from air_executor import model
from air_executor.errors import (
    AccessError,
    AirExecutorError,
    CorruptFileError,
    HomeError,
    InvalidInputError,
    InvalidJobError,
    InvalidNameError,
    InvalidParameterError,
    InvalidPipelineError,
    JobBusyError,
    JobExistsError,
    NotFoundError,
    RemoteError,
    RunnerError,
    WaitTimeoutError,
)

_PREFIX = "urn:air-executor:"
_CLASSES: Mapping[str, Callable[[str], AirExecutorError]] = {
    "invalid-input": InvalidInputError,
    "invalid-name": InvalidNameError,
    "invalid-job": InvalidJobError,
    "invalid-parameter": InvalidParameterError,
    "too-large": InvalidInputError,
    "not-found": NotFoundError,
    "job-exists": JobExistsError,
    "job-busy": JobBusyError,
    "runner": RunnerError,
    "home": HomeError,
    "wait-timeout": WaitTimeoutError,
    "unauthorized": AccessError,
    "forbidden": AccessError,
}
"""What a problem is here; others are a `RemoteError`."""
SHOWN = 500
"""Characters that are shown of what the API says."""


class Standing(NamedTuple):
    """How a run is, for those who wait for its end."""

    name: str
    state: model.JobState
    attempt: int
    damaged: bool

    def is_over(self, attempt: int | None) -> bool:
        """As `awaiting.is_over`: whether a wait for the end of this attempt, or of any if it is None, is over."""
        if attempt is None or (self.damaged and self.state.terminal):
            return self.state.terminal
        return self.attempt > attempt or (self.attempt == attempt and self.state.terminal)


# --- Refusals ---


def to_error(url: str, status: int, problem: object) -> AirExecutorError:
    """What a refusal is here.

    Args:
        url: of the API.
        problem: the answer's body, if it was JSON.
    """
    if not isinstance(problem, Mapping) or not isinstance(problem.get("type"), str):
        if 300 <= status < 400:
            return RemoteError(f"{url} sends its clients elsewhere ({status}); give the address of the API itself")
        return RemoteError(f"{url} answers {status}, and not as the API does: is that its address?")
    word = problem["type"].removeprefix(_PREFIX)
    detail = str(problem.get("detail") or problem.get("title") or word)
    if word == "invalid-pipeline":
        return InvalidPipelineError(detail, [str(each) for each in problem.get("problems") or ()])
    if word == "corrupt-file":
        path, _, why = detail.partition(": ")
        return CorruptFileError(path, why)
    if word in ("unauthorized", "forbidden"):
        return AccessError(f"{url} refuses the token: {detail[:SHOWN]}")
    known = _CLASSES.get(word)
    return known(detail) if known else RemoteError(f"{url} answers {status}: {detail[:SHOWN]}")


# --- Runs ---


def to_job(run: Mapping[str, Any]) -> model.Job:
    """A job of what is told of a run; of one in a list, less is told."""
    known = ("name", "id", "attempt", "queue", "priority", "trigger", "created_at", "queued_at", "started_at")
    more = (
        "updated_at",
        "crashes",
        "losses",
        "timeout",
        "memory_mb",
        "output_mb",
        "nice",
        "max_parallel",
        "on_failure",
    )
    return model.Job(
        **{key: run[key] for key in (*known, "finished_at")},
        **{key: run[key] for key in more if key in run},
        state=model.JobState(run["state"]),
        labels=dict(run["labels"]),
        exit=_to_exit(run),
        usage=dict(run["usage"]) if run.get("usage") else None,
        runner=_to_process(run.get("runner")),
    )


def _to_exit(run: Mapping[str, Any]) -> model.Exit | None:
    told = run.get("exit")
    if told is None:
        return None
    return model.Exit(model.ExitKind(told["kind"]), run.get("reason") or "", told.get("code"), told.get("signal"))


def _to_process(told: object) -> model.Process | None:
    """Who runs it; not enough is told to look for that process, which is on another host anyway."""
    if not isinstance(told, Mapping):
        return None
    return model.Process(told["host"], "", told["pid"], 0, told.get("id"))


def to_task(job_name: str, told: Mapping[str, Any]) -> model.Task:
    """A task; its command line, environment and working directory are never told, so they are empty."""
    keys = ("started_at", "completed_at", "error", "exit_code", "signal", "timeout", "memory_mb", "output_mb")
    found = {key: told[key] for key in (*keys, "retries", "tries", "added_by") if told.get(key) is not None}
    return model.Task(
        "",
        id=told.get("id") or "",
        job_name=job_name,
        dependencies=list(told.get("dependencies") or ()),
        status=model.TaskStatus(told["status"]),
        **found,
    )


def to_standing(told: Mapping[str, Any] | None) -> Standing | None:
    """How a run is; None if there is none."""
    if told is None:
        return None
    return Standing(told["name"], model.JobState(told["state"]), told["attempt"], told["damaged"])


# --- Pipelines ---


def to_pipeline(told: Mapping[str, Any]) -> Any:
    """A `pipelines.Pipeline` of what is told of one: no command lines, and what an environment changes is not known."""
    from pathlib import Path

    from air_executor import blueprints, parameters, pipelines

    params = {
        each["name"]: parameters.Parameter(
            **{key: each[key] for key in each if key not in ("required", "choices")}, choices=tuple(each["choices"])
        )
        for each in told["parameters"]
    }
    blueprint = blueprints.Blueprint(
        description=told["description"],
        params=params,
        environments={name: blueprints.Environment(name) for name in told["environments"]},
        default_environment=told["default_environment"],
        tasks=tuple(dict(each) for each in told["tasks"]),
        problems=tuple(told["problems"]),
    )
    return pipelines.Pipeline(told["name"], Path(PurePosixPath("pipelines") / f"{told['name']}.toml"), blueprint)
