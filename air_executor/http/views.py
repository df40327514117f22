"""What is told of runs, pipelines and queues: what `told` lets be told, in the shapes of `shapes`. Pure."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from air_executor import model, told
from air_executor.errors import CorruptFileError

if TYPE_CHECKING:
    from air_executor.health import QueueStatus, Status
    from air_executor.index import JobRow
    from air_executor.parameters import Parameter
    from air_executor.pipelines import Pipeline
    from air_executor.repair import StopRequest


class Answer(Response):
    """JSON for what files may hold, such as half a character."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        try:
            return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
        except ValueError:  # a file that nobody of ours wrote
            raise CorruptFileError("a file of the run", "holds a number that JSON has not") from None


def of_run(job: model.Job, stop: StopRequest | None = None) -> dict[str, Any]:
    """A job without its tasks."""
    return {**told.of_job(job), "stop": told.of_stop(stop)}


def of_row(row: JobRow) -> dict[str, Any]:
    """A job in a list."""
    plain = ("name", "id", "state", "attempt", "queue", "priority", "trigger", "labels", "runner")
    return {
        **{key: getattr(row, key) for key in plain},
        "created_at": _time(row.created),
        "queued_at": _time(row.queued),
        "started_at": _time(row.started),
        "finished_at": _time(row.finished),
        "wait_s": row.wait,
        "run_s": row.run,
        "reason": told.sentence(row.reason),
        "exit": {"kind": row.exit_kind, "code": row.exit_code, "signal": row.exit_signal} if row.exit_kind else None,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else model.from_timestamp(seconds)


def of_pipeline(pipeline: Pipeline, problems: Iterable[str]) -> dict[str, Any]:
    """A pipeline: what one must know to run it."""
    said = pipeline.blueprint
    return {
        "name": pipeline.name,
        "description": said.description,
        "parameters": [_of_parameter(each) for each in said.params.values()],
        "environments": list(said.environments),
        "default_environment": said.default_environment,
        "tasks": [
            {"id": _text(each.get("id")), "dependencies": told.plain(each.get("dependencies", [])) or []}
            for each in said.tasks
        ],
        "problems": list(problems),
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _of_parameter(item: Parameter) -> dict[str, Any]:
    return {
        "name": item.name,
        "type": item.type,
        "default": _finite(item.default),
        "required": item.default is None,
        "description": item.description,
        "choices": [_finite(each) for each in item.choices],
        "min": _finite(item.min),
        "max": _finite(item.max),
        "pattern": item.pattern,
    }


def _finite(value: Any) -> Any:
    """TOML has numbers that JSON has not; they are told as texts."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def of_queue(queue: QueueStatus) -> dict[str, Any]:
    """A queue."""
    return dataclasses.asdict(queue)


def of_health(found: Status) -> dict[str, Any]:
    """Runners, and what is wrong."""
    keys = ("id", "host", "state", "slots", "queues")
    return {
        "healthy": not found.problems,
        "problems": found.problems,
        "runners": [{key: getattr(runner, key) for key in keys} for runner in found.runners],
    }


def of_outcome(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What a run came to."""
    return {**outcome, "usage": told.pick(outcome["usage"], told.USAGE)}
