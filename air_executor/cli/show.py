"""`show`: one job with its tasks and its history. Never an environment, never a workload.

`--json` prints {"job": as state.json has it, "tasks": as tasks.json has them, without "env", "events": [...], "result":
{...}, "paused": why a job that waits will not start now, or null}; keys that this version does not know are left out.
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


SHOWN = 100
"""A job may have 10,000 tasks and twice as many events."""


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

    client = lookup.open_client(args)
    name = lookup.find_job(client.home, args.job)
    job = client.get_job(name)
    events = [_presentable(event) for event in journal.read(client.home.job(name).events)]
    try:
        tasks = client.get_tasks(name)
    except CorruptFileError as error:
        tasks = []
        output.note_error(error)
    if args.json:
        facts = {"job": _without_extra(job), "tasks": [_task_facts(task) for task in tasks], "events": events}
        output.say_json({**facts, "result": _result(client, job, tasks), "paused": _paused(client, job)})
        return 0
    paths = client.home.job(name)
    result = paths.result if paths.result.exists() else None
    output.pairs({**_job_facts(job), "waits": _paused(client, job), "directory": paths.root, "result": result})
    _show_tasks(tasks if args.all else tasks[:SHOWN])
    _show_history(events if args.all else events[-SHOWN:])
    if not args.all and max(len(tasks), len(events)) > SHOWN:
        output.note(
            f"it has {output.count(len(tasks), 'task')} and {output.count(len(events), 'event')}; --all shows them"
        )
    return 0


def _presentable(event: dict[str, Any]) -> dict[str, Any]:
    """Tasks that were added are in the event as a whole, with their environments."""
    from air_executor import journal

    if event.get("event") != journal.ADDED:
        return event
    ids = [str(task.get("id")) for task in event.get("tasks") or () if isinstance(task, dict)]
    return {**event, "tasks": ids}


def _paused(client: AirExecutorClient, job: model.Job) -> str | None:
    """Why a job that waits will not start now, if somebody wanted that."""
    from air_executor import pauses

    if job.state != "waiting" or (found := pauses.read(client.home, job.queue)) is None:
        return None
    return f"its queue is {found}"


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


def _job_facts(job: model.Job) -> dict[str, object]:
    process = job.runner
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
        "took": output.duration(listing.took(job)),
        "limits": _limits(job),
        "runner": process and f"{process.runner or 'unknown'} (process {process.pid} on {process.host})",
        **_exit_facts(job),
        "usage": ", ".join(f"{key} {value}" for key, value in (job.usage or {}).items()),
    }


def _limits(job: model.Job) -> str:
    known = (
        ("timeout", job.timeout and output.duration(job.timeout)),
        ("memory", job.memory_mb and f"{job.memory_mb} MiB"),
        ("output", job.output_mb and f"{job.output_mb} MiB"),
        ("nice", job.nice),
        ("max parallel", job.max_parallel),
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


def _show_tasks(tasks: Sequence[model.Task]) -> None:
    if not tasks:
        return
    output.say()
    rows = [
        (task.id, task.status.value, task.exit_code, ",".join(task.dependencies), shlex.join(task.argv), task.error)
        for task in tasks
    ]
    output.table(("TASK", "STATUS", "EXIT", "AFTER", "COMMAND", "ERROR"), rows, flexible=_CUT)


_CUT = ("TASK", "AFTER", "COMMAND", "ERROR")


def _show_history(events: Sequence[dict[str, Any]]) -> None:
    if not events:
        return
    output.say()
    rows = [
        (
            event.get("at"),
            event.get("attempt"),
            event.get("task", "(job)"),
            event.get("to", "added"),
            _by(event),
        )
        for event in events
    ]
    output.table(("AT", "ATTEMPT", "WHAT", "TO", "WHY"), rows, flexible=("AT", "WHAT", "WHY"))


def _by(event: dict[str, Any]) -> str:
    why = event.get("why") or event.get("error") or ", ".join(event.get("tasks", ()))
    return f"{why} (by {event['by']})" if event.get("by") else str(why)
