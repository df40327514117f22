"""What may be told of jobs to those who may see them, over the network too: facts, and nothing secret. Pure.

What is told is what is named here: no environment, no command line, no working directory, no workload, no token, and
nothing because it is in a file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from air_executor import sentences
from air_executor.model import Job

if TYPE_CHECKING:
    from air_executor.repair import StopRequest
    from air_executor.report import Facts

JOB = (
    *("name", "id", "state", "attempt", "queue", "priority", "trigger", "labels", "crashes", "losses"),
    *("created_at", "updated_at", "queued_at", "started_at", "finished_at"),
    *("timeout", "memory_mb", "output_mb", "nice", "max_parallel", "on_failure"),
)
EXIT = ("kind", "code", "signal")
USAGE = ("wall_s", "cpu_s", "max_rss_mb", "max_tree_rss_mb")
TASK = (
    *("id", "status", "exit_code", "signal", "started_at", "completed_at", "dependencies"),
    *("tries", "retries", "timeout", "memory_mb", "output_mb", "added_by"),
)
OF_AN_EVENT = ("at", "event", "attempt", "from", "to", "by")
EVENTS = 200
"""How many of the latest events are told."""
sentence = sentences.without_command
"""A reason, as it is shown."""


def pick(source: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Of a file's content, only what it may say, and nothing that is nested but a list of names."""
    return {key: plain(source[key]) for key in keys if key in source}


def plain(value: Any) -> Any:
    """A value if it is text, a number or a list of texts."""
    if isinstance(value, list):
        return [item for item in value if isinstance(item, str)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float)) else None


# --- One job ---


def of_job(job: Job) -> dict[str, Any]:
    """A job without its tasks."""
    exit_ = job.exit
    return {
        **{key: getattr(job, key) for key in JOB},
        "usage": pick(job.usage or {}, USAGE),
        "reason": sentence(exit_.reason) if exit_ else None,
        "exit": {key: getattr(exit_, key) for key in EXIT} if exit_ else None,
        "runner": {"id": job.runner.runner, "host": job.runner.host, "pid": job.runner.pid} if job.runner else None,
    }


def of_stop(request: StopRequest | None) -> dict[str, Any] | None:
    """Who asked for the end of a job that is not over yet."""
    return {"by": request.by, "reason": sentence(request.exit.reason)} if request else None


def of_tasks(tasks: Mapping[str, Facts], wanted: str | None, offset: int, limit: int) -> dict[str, Any]:
    """Some of a job's tasks in their order, and how many there are of each status."""
    shown = [facts for facts in tasks.values() if wanted in (None, facts["status"])]
    return {
        "counts": dict(Counter(str(facts["status"]) for facts in tasks.values())),
        "total": len(shown),
        "offset": offset,
        "tasks": [
            {**pick(facts, TASK), "error": sentence(facts.get("error"))} for facts in shown[offset : offset + limit]
        ],
    }


def of_events(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Who did what with a job: its own changes, and that tasks were added, which are not told."""
    told = []
    for event in events:
        if event.get("event") == "task":
            continue
        added = event.get("tasks")
        told.append(
            {
                **pick(event, OF_AN_EVENT),
                "why": sentence(event.get("why")),
                **({"added": len(added)} if isinstance(added, list) else {}),
            }
        )
    return told[-EVENTS:]
