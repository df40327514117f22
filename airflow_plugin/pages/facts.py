"""What is said of runners, queues and jobs: facts, and nothing secret. Pure.

What is served is what is named here and in the core's `told`: no environment, no command line, no working directory,
no workload, no result, no token, and nothing because it is in a file.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from air_executor import health, model, told
from air_executor.model import Job
from air_executor.slurm import options

if TYPE_CHECKING:
    from air_executor.index import History, JobRow, Step
    from air_executor.slurm import standing

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


# --- One job ---


def of_job(job: Job) -> dict[str, Any]:
    """A job without its tasks, and where it belongs in Airflow."""
    return {
        **told.of_job(job),
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
    found = told.pick(asked, (name for name in options.NAMES if name != "extra"))
    flags = [str(flag).partition("=")[0] for flag in asked.get("extra") or ()]
    return {**found, "extra": flags} if flags else found


def airflow_place(labels: Mapping[str, str]) -> str | None:
    """Where Airflow shows the task instance that a job belongs to, below Airflow's own address."""
    from urllib.parse import quote

    if not all(labels.get(name) for name in AIRFLOW):
        return None
    dag, run, task, index = (quote(labels[name], safe="") for name in AIRFLOW)
    mapped = "" if index == "-1" else f"/mapped/{index}"
    return f"dags/{dag}/runs/{run}/tasks/{task}{mapped}"


# --- Many jobs ---


def of_row(row: JobRow) -> dict[str, Any]:
    """A job in a list; times are seconds since the epoch."""
    found = {key: getattr(row, key) for key in ROW}
    return {**found, "reason": told.sentence(row.reason), "peak": row.peak}


def latest_ends(rows: Iterable[JobRow]) -> list[JobRow]:
    """What ended last comes first."""
    return sorted(rows, key=lambda row: row.finished or 0.0, reverse=True)


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
        counts[told.sentence(reason) or ""] += number
    return counts.most_common()


# --- Runners and queues ---


OF_STEERING = ("at", "event", "runner", "queue", "what", "by", "why", "slots", "queues")


def of_steering(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Who steered runners and queues."""
    return [told.pick(event, OF_STEERING) for event in events]


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
