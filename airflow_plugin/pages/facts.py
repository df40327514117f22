"""What is said of runners, queues and jobs: facts, and nothing secret. Pure.

What is served is what is named here: no environment, no command line, no working directory, no workload, no result,
no token, and nothing because it is in a file.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from air_executor import health, model
from air_executor.model import Job
from air_executor.slurm import options

if TYPE_CHECKING:
    from air_executor.index import History, JobRow, Step
    from air_executor.repair import StopRequest
    from air_executor.report import Facts
    from air_executor.slurm import standing

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
ROW = (
    *("name", "id", "state", "queue", "trigger", "attempt", "priority", "created", "queued", "started", "finished"),
    *("wait", "run", "exit_kind", "exit_code", "exit_signal", "runner", "cpu", "labels"),
)
AIRFLOW = ("dag_id", "run_id", "task_id", "map_index")
"""The labels of a job that say whose it is; what belongs to a task instance has all of them."""
ENDS = ("completed", "failed", "cancelled")
IN_SLURM = ("id", "state", "reason", "says", "stuck", "partition", "node", "submitted_at", "seen_at")
RUNNER_IN_SLURM = (
    *("runner", "alive", "answers", "answered_at", "trouble", "trouble_since"),
    *("to_submit", "waiting", "running", "held_on"),
)
PILOT = ("name", "queue", "id", "state", "node")
EVENTS = 200
"""How many of the latest events are told."""
_OF_A_COMMAND = (
    (r"\bcommand not found: .*", "command not found"),
    (r"\bnot executable: .*", "not executable"),
    (r"\bcannot start .+: ", "cannot start it: "),
    (r"\bits working directory .+ is not a directory", "its working directory is not a directory"),
)
"""What a runner says of a task that it could not start, and what is told of that."""


def sentence(text: object) -> str | None:
    """A reason, as it is shown: which program could not be started, and where, is a part of a command line."""
    if text is None:
        return None
    told = str(text)
    for pattern, instead in _OF_A_COMMAND:
        told = re.sub(pattern, instead, told, flags=re.DOTALL)
    return told


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
        "airflow": airflow_place(job.labels),
        "is_airflows": job.trigger == model.Trigger.EXECUTOR,
    }


def of_slurm(job: Job, found: standing.JobStanding | None) -> dict[str, Any] | None:
    """What a job asked of Slurm, and how it stands there; None if it is none of Slurm's."""
    if job.slurm is None and found is None:
        return None
    there = None if found is None else {key: getattr(found, key) for key in IN_SLURM}
    return {"asked": _of_options(job.slurm or {}), "there": there}


def _of_options(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Of flags in `extra` only which: their values may be anything."""
    told = pick(asked, (name for name in options.NAMES if name != "extra"))
    flags = [str(flag).partition("=")[0] for flag in asked.get("extra") or ()]
    return {**told, "extra": flags} if flags else told


def airflow_place(labels: Mapping[str, str]) -> str | None:
    """Where Airflow shows the task instance that a job belongs to, below Airflow's own address."""
    from urllib.parse import quote

    if not all(labels.get(name) for name in AIRFLOW):
        return None
    dag, run, task, index = (quote(labels[name], safe="") for name in AIRFLOW)
    mapped = "" if index == "-1" else f"/mapped/{index}"
    return f"dags/{dag}/runs/{run}/tasks/{task}{mapped}"


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


# --- Many jobs ---


def of_row(row: JobRow) -> dict[str, Any]:
    """A job in a list; times are seconds since the epoch."""
    found = {key: getattr(row, key) for key in ROW}
    return {**found, "reason": sentence(row.reason), "peak": row.peak}


def of_history(history: History) -> dict[str, Any]:
    """What ended when, and why it failed."""
    return {
        **{key: getattr(history, key) for key in ("since", "until", "step")},
        "steps": [_of_step(step) for step in history.steps],
        "total": _of_step(history.total),
        "failures": history.failures,
        "reasons": _of_reasons(history.reasons),
    }


def _of_step(step: Step) -> dict[str, Any]:
    times = {key: value._asdict() if value else None for key, value in (("wait", step.wait), ("run", step.run))}
    return {"start": step.start, **{state: getattr(step, state) for state in ENDS}, **times}


def _of_reasons(reasons: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those that differ in the program alone are one."""
    counts: Counter[str] = Counter()
    for reason, number in reasons:
        counts[sentence(reason) or ""] += number
    return counts.most_common()


# --- Runners and queues ---


OF_STEERING = ("at", "event", "runner", "queue", "what", "by", "why", "slots", "queues")


def of_steering(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Who steered runners and queues."""
    return [pick(event, OF_STEERING) for event in events]


def of_runner(runner: health.RunnerStatus) -> dict[str, Any]:
    """A runner, all of whose status may be known."""
    return dataclasses.asdict(runner)


def of_standing(found: standing.Standing) -> dict[str, Any]:
    """How a runner and Slurm get on."""
    return {
        **{key: getattr(found, key) for key in RUNNER_IN_SLURM},
        "waits": [{"says": wait.says, "jobs": wait.jobs, "stuck": wait.stuck} for wait in found.waits],
        "pilots": [{key: getattr(pilot, key) for key in PILOT} for pilot in found.pilots],
    }


def of_queue(queue: health.QueueStatus, ended: int) -> dict[str, Any]:
    """A queue, and how many of its jobs ended lately."""
    return {**dataclasses.asdict(queue), "ended": ended}
