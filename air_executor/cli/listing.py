"""`list`: the jobs, newest first.

`--json` prints a list of the jobs as state.json has them.

The newest are found by the times of their directories, which change with every change of a job's state: a list of 50
reads about 50 jobs, however many there are, and `--since` reads only those that changed since. Without a limit, or when
few match, all are read.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from air_executor.cli import arguments, lookup, output

if TYPE_CHECKING:
    from air_executor import model
    from air_executor.paths import Home

DEFAULT_LIMIT = 50
_CLOCK_SLACK = 60.0
"""Seconds by which the clock of a file server, which times directories, may be behind."""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.add_command(
        commands,
        "list",
        run,
        help="show the jobs, newest first",
        examples=(
            "air-executor list",
            "air-executor list --state failed --since 1h",
            "air-executor list --label dag_id=hello --all",
            "air-executor list --state waiting --json",
        ),
    )
    parser.add_argument(
        "--state", action="append", choices=arguments.STATES, metavar="STATE", help="may be repeated: %(choices)s"
    )
    parser.add_argument("--queue", help="only this queue")
    parser.add_argument(
        "--label", type=arguments.pair, action="append", default=[], metavar="K=V", help="may be repeated: all must fit"
    )
    parser.add_argument("--trigger", choices=arguments.TRIGGERS, metavar="T", help="who submitted: %(choices)s")
    parser.add_argument("--since", type=arguments.seconds, metavar="TIME", help="created within this time")
    parser.add_argument(
        "--limit", type=arguments.whole, default=DEFAULT_LIMIT, metavar="N", help="at most so many (default: 50)"
    )
    parser.add_argument("--all", action="store_true", help="no limit")


def run(args: argparse.Namespace) -> int:
    """Print the jobs that fit."""
    from air_executor import model, store

    home = lookup.open_home(args)
    since = 0.0 if args.since is None else time.time() - args.since - _CLOCK_SLACK
    wanted = (job for job in _read(home, store.newest_names(home, changed_since=since)) if _fits(job, args))
    limit = None if args.all else args.limit
    found = list(itertools.islice(wanted, limit + 1 if limit else None))
    shown = sorted(found[:limit], key=lambda job: job.created_at, reverse=True)
    if args.json:
        output.say_json([model.to_dict(job) for job in shown])
        return 0
    headers: tuple[str, ...] = ("NAME", "STATE", "QUEUE", "CREATED", "TOOK", "EXIT")
    rows = [_row(job) for job in shown]
    there = [_in_slurm(home, job) for job in shown]
    if any(there):
        headers, rows = (*headers, "IN SLURM"), [(*row, said) for row, said in zip(rows, there, strict=True)]
    output.table(headers, rows, flexible=_CUT, optional=("QUEUE", "TOOK"))
    if len(found) > len(shown):
        output.note(f"there are more; --all shows them all, --limit N the newest (now {limit})")
    return 0


_CUT = ("NAME", "QUEUE", "EXIT")


def _read(home: Home, names: list[str]) -> Iterator[model.Job]:
    from air_executor import store
    from air_executor.errors import AirExecutorError

    for name in names:
        try:
            yield store.read_or_damaged(home, name)
        except AirExecutorError:
            continue  # removed meanwhile, or no job at all


def _fits(job: model.Job, args: argparse.Namespace) -> bool:
    if args.since is not None and _age(job.created_at) > args.since:
        return False
    if any(job.labels.get(key) != value for key, value in args.label):
        return False
    states = args.state or arguments.STATES
    return job.state.value in states and args.queue in (None, job.queue) and args.trigger in (None, job.trigger)


def _row(job: model.Job) -> tuple[Any, ...]:
    age = output.duration(_age(job.created_at))
    return (job.name, job.state.value, job.queue, f"{age} ago", output.duration(took(job)), _exit(job))


def _in_slurm(home: Home, job: model.Job) -> str:
    """How a job stands there that is not over: `PENDING (Resources)`."""
    from air_executor.slurm import standing

    found = None if job.state.terminal else standing.read_job(home, job)
    return "" if found is None else found.brief


def took(job: model.Job) -> float | None:
    """Seconds from start to end, as measured if that is known, or until now; None if it has not started."""
    if job.started_at is None:
        return None
    if job.usage is not None and isinstance(job.usage.get("wall_s"), (int, float)):
        return float(job.usage["wall_s"])
    return max(0.0, _age(job.started_at) - (_age(job.finished_at) if job.finished_at else 0.0))


def waited(job: model.Job) -> float | None:
    """Seconds from its queue to its start, or until now; None where that says nothing, of one that never started."""
    if job.started_at is None and job.state.terminal:
        return None
    return between(job.queued_at, job.started_at)


def between(start: str | None, end: str | None) -> float | None:
    """Seconds between two moments, the second of which may be now; None if there was no first."""
    return max(0.0, _age(start) - (_age(end) if end else 0.0)) if start else None


def _age(moment: str) -> float:
    from air_executor import model

    try:
        return max(0.0, time.time() - model.parse_time(moment).timestamp())
    except ValueError:
        return 0.0


def _exit(job: model.Job) -> str:
    """Why it ended, in one word, and the number where that is the reason."""
    if job.exit is None or job.state == "completed":
        return ""
    kind = job.exit.kind.value
    number = {"exit_code": job.exit.code, "start_failed": job.exit.code, "signal": job.exit.signal}.get(kind)
    return kind if number is None else f"{kind} {number}"
