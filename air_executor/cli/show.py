"""`show`: one job with its tasks and its history. Never an environment, never a workload.

`--json` prints {"job": as state.json has it, "tasks": as tasks.json has them, without "env", "events": [...], "result":
{...}, "slurm": how it stands in Slurm, or null, "paused": why a job that waits will not start now, or null, "waits":
the same, or that no runner serves its queue, or what it waits for in Slurm}; keys that this version does not know are
left out.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from air_executor.cli import arguments, listing, lookup, output
from air_executor.errors import CorruptFileError

if TYPE_CHECKING:
    from air_executor import model
    from air_executor.client import AirExecutorClient
    from air_executor.paths import Home


_WORTH_TELLING = 0.1
SHOWN = 100
"""A job may have 10,000 tasks and twice as many events."""
AFTER_SHOWN = 32
"""Columns for what a task depends on: one that waits for many others must not widen the lines of all."""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.add_command(
        commands,
        "show",
        run,
        help="show one job: its state, tasks and history",
        examples=("air-executor show nightly", "air-executor show nightly --json"),
    )
    parser.add_argument("job", metavar="JOB", help="a job's name, the start of it, or its id")
    parser.add_argument("--all", action="store_true", help=f"all tasks and events, not only {SHOWN} of each")


def run(args: argparse.Namespace) -> int:
    """Print the job."""
    from air_executor import journal
    from air_executor.slurm import standing

    client = lookup.open_client(args)
    name = lookup.find_job(client.home, args.job)
    job = client.get_job(name)
    events = [presentable(event) for event in journal.read(client.home.job(name).events)]
    try:
        tasks = client.get_tasks(name)
    except CorruptFileError as error:
        tasks = []
        output.note_error(error)
    if args.json:
        facts = {"job": _without_extra(job), "tasks": [_task_facts(task) for task in tasks], "events": events}
        output.say_json(
            {
                **facts,
                "result": _result(client, job, tasks),
                "slurm": standing.to_dict(standing.read_job(client.home, job)),
                "paused": paused(client.home, job),
                "waits": waits(client.home, job),
            }
        )
        return 0
    paths = client.home.job(name)
    result = paths.result if paths.result.exists() else None
    places = {"directory": paths.root, "result": result}
    output.pairs({**job_facts(job), "in slurm": in_slurm(client.home, job), "waits": waits(client.home, job), **places})
    _show_tasks(tasks if args.all else tasks[:SHOWN])
    _show_history(events if args.all else events[-SHOWN:])
    if not args.all and max(len(tasks), len(events)) > SHOWN:
        output.note(
            f"it has {output.count(len(tasks), 'task')} and {output.count(len(events), 'event')}; --all shows them"
        )
    return 0


def presentable(event: dict[str, Any]) -> dict[str, Any]:
    """Tasks that were added are in the event as a whole, with their environments."""
    from air_executor import journal

    if event.get("event") != journal.ADDED:
        return event
    ids = [str(task.get("id")) for task in event.get("tasks") or () if isinstance(task, dict)]
    return {**event, "tasks": ids}


def paused(home: Home, job: model.Job) -> str | None:
    """Why a job that waits will not start now, if somebody wanted that."""
    from air_executor import pauses

    if job.state != "waiting" or (found := pauses.read(home, job.queue)) is None:
        return None
    return f"its queue is {found}"


def in_slurm(home: Home, job: model.Job) -> str | None:
    """How a job stands in Slurm, in a sentence, if it was submitted there."""
    from air_executor.slurm import standing

    found = standing.read_job(home, job)
    return standing.read_pilot(home, job) if found is None else found.sentence


def waits(home: Home, job: model.Job) -> str | None:
    """Why a job will not start now, in a sentence: Slurm, a pause, nobody who serves its queue, or pilots that fail."""
    from air_executor import remedies
    from air_executor.slurm import standing

    if job.state != "waiting":
        return None
    if there := standing.read_waits(home, job):
        return there
    return paused(home, job) or remedies.describe(home, job.queue) or without_pilots(home, job)


def without_pilots(home: Home, job: model.Job) -> str | None:
    """Why a job waits that pilots are to run, if these come to nothing again and again."""
    from air_executor import runners
    from air_executor.sightings import Sightings
    from air_executor.slurm import failing

    if job.state != "waiting":
        return None
    found = failing.read(home, runners.alive_runners(home, Sightings(guess=True))).get(job.queue)
    return None if found is None else failing.explain(home, found)


def _result(client: AirExecutorClient, job: model.Job, tasks: Sequence[model.Task]) -> dict[str, Any]:
    from air_executor import results

    try:
        return results.read(client.home, job, tasks)
    except CorruptFileError as error:
        output.note_error(error)
        return {}


def _without_extra(value: model.Job | model.Task) -> dict[str, Any]:
    """What this version knows: unknown keys may be anything, also a secret."""
    from air_executor import model

    return {key: content for key, content in model.to_dict(value).items() if key not in value.extra}


def _task_facts(task: model.Task) -> dict[str, Any]:
    return {key: value for key, value in _without_extra(task).items() if key != "env"}


def job_facts(job: model.Job) -> dict[str, object]:
    """What is said of a job, by how it is called."""
    from air_executor.slurm import options as slurm_options

    return {
        "name": job.name,
        "id": job.id,
        "state": job.state.value,
        "queue": job.queue,
        "priority": job.priority or None,
        "attempt": job.attempt,
        "trigger": job.trigger,
        "labels": ", ".join(f"{key}={value}" for key, value in job.labels.items()),
        "created": job.created_at,
        "queued": job.queued_at if job.queued_at != job.created_at else None,
        "started": job.started_at,
        "finished": job.finished_at,
        "waited": output.duration(listing.waited(job)),
        "took": output.duration(listing.took(job)),
        "limits": _limits(job),
        "slurm": None if job.slurm is None else slurm_options.describe(job.slurm),
        "webhooks": ", ".join(job.webhooks),
        "runner": _runner(job),
        **_exit_facts(job),
        "usage": _usage(job),
    }


def _runner(job: model.Job) -> str | None:
    process = job.runner
    if process is None:
        return None
    ready = f", ready for {output.duration(process.waited)} before" if process.waited >= _WORTH_TELLING else ""
    return f"{process.runner or 'unknown'} (process {process.pid} on {process.host}{ready})"


def _limits(job: model.Job) -> str:
    known = (
        ("timeout", job.timeout and output.duration(job.timeout)),
        ("memory", job.memory_mb and f"{job.memory_mb} MiB"),
        ("output", job.output_mb and f"{job.output_mb} MiB"),
        ("nice", job.nice),
        ("max parallel", job.max_parallel),
        ("on failure", job.on_failure if job.on_failure != "continue" else None),
    )
    return ", ".join(f"{name} {value}" for name, value in known if value)


def _exit_facts(job: model.Job) -> dict[str, object]:
    from air_executor import processes

    if job.exit is None:
        return {}
    number = job.exit.signal
    return {
        "exit": job.exit.kind.value,
        "exit code": job.exit.code,
        "signal": None if number is None else processes.describe_signal(number),
        "reason": job.exit.reason,
    }


_USAGE = {
    "wall_s": "{:.3g} s",
    "cpu_s": "{:.3g} s of processor",
    "max_rss_mb": "{:.4g} MiB in the largest process",
    "max_tree_rss_mb": "{:.4g} MiB in all",
}


def _usage(job: model.Job) -> str:
    """In words; what this version does not know is shown as it is."""
    return ", ".join(
        _USAGE[key].format(value) if key in _USAGE and isinstance(value, (int, float)) else f"{key} {value}"
        for key, value in (job.usage or {}).items()
    )


def task_table(tasks: Sequence[model.Task]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Headers and rows; dependencies are only told where there are any."""
    some = any(task.dependencies for task in tasks)
    headers = ("TASK", "STATUS", "EXIT", "TOOK", *(("AFTER",) if some else ()), "COMMAND")
    rows: list[tuple[object, ...]] = []
    for task in tasks:
        took = output.duration(listing.between(task.started_at, task.completed_at))
        after = (abbreviate(task.dependencies, AFTER_SHOWN),) if some else ()
        rows.append((task.id, task.status.value, task.exit_code, took, *after, shlex.join(task.argv)))
    return headers, rows


def abbreviate(names: Sequence[str], columns: int) -> str:
    """`a,b,c`, or `a,b +17` where all would be wider; the first of them is there in any case. Pure."""
    shown = ",".join(names)
    kept = min(len(names), columns)
    while len(shown) > columns and kept > 1:
        kept -= 1
        shown = f"{','.join(names[:kept])} +{len(names) - kept}"
    return shown


def task_notes(task: model.Task) -> list[str]:
    """What is said below a task: why it failed, how often it was started, its limits."""
    limits = (
        ("timeout", task.timeout and output.duration(task.timeout)),
        ("memory", task.memory_mb and f"{task.memory_mb} MiB"),
        ("output", task.output_mb and f"{task.output_mb} MiB"),
        ("retries", task.retries),
    )
    said = [
        task.error or "",
        f"started {output.count(task.tries, 'time')}" if task.tries > 1 else "",
        "limits: " + ", ".join(f"{name} {value}" for name, value in limits if value)
        if any(v for _, v in limits)
        else "",
        "" if task.added_by is None else f"added by {task.added_by or 'somebody else than a task'}",
        "completed in an earlier attempt" if task.was_kept else "",
    ]
    return [text for text in said if text]


def _show_tasks(tasks: Sequence[model.Task]) -> None:
    if tasks:
        output.say()
        headers, rows = task_table(tasks)
        flexible = [name for name in ("TASK", "AFTER", "COMMAND") if name in headers]
        output.table(headers, rows, flexible=flexible, notes=[task_notes(task) for task in tasks])


def history(events: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Headers and rows; the attempt is only told where there was more than one."""
    several = len({event.get("attempt") for event in events}) > 1
    headers = ("AT", "ATTEMPT", "WHAT", "TO", "WHY") if several else ("AT", "WHAT", "TO", "WHY")
    moments = output.moments([str(event.get("at", "")) for event in events])
    rows = []
    for at, event in zip(moments, events, strict=True):
        attempt = (event.get("attempt"),) if several else ()
        rows.append((at, *attempt, event.get("task", "(job)"), event.get("to", "added"), _by(event)))
    return headers, rows


def _show_history(events: Sequence[dict[str, Any]]) -> None:
    if events:
        output.say()
        headers, rows = history(events)
        output.table(headers, rows, flexible=("WHAT", "WHY"), wrapped="WHY")


def _by(event: dict[str, Any]) -> str:
    why = str(event.get("why") or event.get("error") or ", ".join(event.get("tasks", ())))
    by = event.get("by")
    said, _, rest = why.partition(f" by {by}")
    told = said != why and (not rest or rest.startswith(":"))
    return f"{why} (by {by})" if by and not told else why
