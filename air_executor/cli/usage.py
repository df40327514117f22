"""`usage`: what groups of jobs used, and which limits would do.

It looks at every job of the home, through the index: the first time all are read, and later only what has changed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from air_executor.cli import arguments, lookup, output
from air_executor.errors import InvalidInputError

if TYPE_CHECKING:
    from air_executor.index import Filter, Group, Index, Spread

DEFAULT_BY = ("dag_id", "task_id")
DEFAULT_LIMIT = 50
MANY = 5000
"""Jobs that take so long to read that it should be said."""
_NOT_LABELS = ("queue", "trigger", "name")

_ORDERS: dict[str, Callable[[Group], float]] = {
    "runs": lambda group: group.runs,
    "failed": lambda group: group.failed,
    "wait": lambda group: _of(group.wait, "p95"),
    "wall": lambda group: _of(group.wall, "p95"),
    "cpu": lambda group: _of(group.cpu, "total"),
    "memory": lambda group: _of(group.peak, "max"),
}
"""What to sort by: the largest comes first."""

_TEXT = """\
What jobs that are over used, in groups: waits and times as median/95%/longest,
CPU of all runs together, the most memory of a run in MiB (95%/largest). Below,
limits that would do, from groups with at least ten completed runs.
"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.add_command(
        commands,
        "usage",
        run,
        help="show what groups of jobs used, and limits that would do",
        text=_TEXT,
        examples=(
            "air-executor usage",
            "air-executor usage --since 7d --sort memory",
            "air-executor usage --by dag_id --label kind=task",
            "air-executor usage --by queue,trigger --json",
        ),
    )
    parser.add_argument(
        "--by",
        type=keys,
        metavar="LABELS",
        help="labels, or queue, trigger, name; with commas (default: dag_id,task_id, or name where no job has these)",
    )
    parser.add_argument("--queue", help="only this queue")
    parser.add_argument(
        "--label", type=arguments.pair, action="append", default=[], metavar="K=V", help="may be repeated: all must fit"
    )
    parser.add_argument("--since", type=arguments.seconds, metavar="TIME", help="created within this time")
    parser.add_argument("--sort", choices=sorted(_ORDERS), default="runs", help="the largest first (default: runs)")
    parser.add_argument(
        "--limit", type=arguments.whole, default=DEFAULT_LIMIT, metavar="N", help="at most so many (default: 50)"
    )


def keys(text: str) -> tuple[str, ...]:
    """`dag_id,task_id`."""
    found = tuple(part.strip() for part in text.split(","))
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r:.60} is no list of different labels; give it as dag_id,task_id")
    return found


def run(args: argparse.Namespace) -> int:
    """Print the groups."""
    from air_executor.index import Index

    home = lookup.open_home(args)
    with Index(home) as index:
        _bring_up_to_date(index)
        by, groups = _groups(index, args)
    groups.sort(key=lambda group: tuple(part or "" for part in group.key))
    groups.sort(key=_ORDERS[args.sort], reverse=True)
    shown = groups[: args.limit]
    if args.json:
        output.say_json([_plain(by, group) for group in shown])
        return 0
    _show(by, shown)
    if len(groups) > len(shown):
        output.note(f"there are {len(groups)} groups; --limit N shows more (now {args.limit})")
    return 0


def _bring_up_to_date(index: Index) -> None:
    unread = index.refresh().unread
    if unread > MANY:
        output.note(f"reading {unread} jobs, once")
    index.catch_up()


def _groups(index: Index, args: argparse.Namespace) -> tuple[tuple[str, ...], list[Group]]:
    """What they are grouped by, and the groups."""
    by = args.by or DEFAULT_BY
    try:
        groups = index.usage(by, _filter(args))
        if args.by is None and groups and _unknown(by, groups):
            by = ("name",)
            groups = index.usage(by, _filter(args))
    except ValueError as error:
        raise InvalidInputError(str(error)) from None
    for key in _unknown(by, groups) if groups else ():
        known = ", ".join([*_NOT_LABELS, *index.labels()][:20])
        raise InvalidInputError(f"none of these jobs has the label {key:.60}; --by takes {known}")
    return by, groups


def _unknown(by: Sequence[str], groups: Sequence[Group]) -> list[str]:
    """The labels that no job has."""
    return [
        key
        for position, key in enumerate(by)
        if key not in _NOT_LABELS and all(group.key[position] is None for group in groups)
    ]


def _filter(args: argparse.Namespace) -> Filter:
    from air_executor.index import Filter

    since = None if args.since is None else max(0.0, time.time() - args.since)
    return Filter(queues=[args.queue] if args.queue else (), labels=dict(args.label), since=since)


def _plain(by: Sequence[str], group: Group) -> dict[str, Any]:
    from dataclasses import asdict

    values = asdict(group)
    key = values.pop("key")
    return {
        "group": dict(zip(by, key, strict=True)),
        **values,
        "suggested": {"memory_mb": group.memory_mb, "timeout": group.timeout},
    }


def _show(by: Sequence[str], groups: Sequence[Group]) -> None:
    names = [key.upper() for key in by]
    if not groups:
        output.note("no job that is over fits")
        return
    rows = [_row(group) for group in groups]
    output.table((*names, "RUNS", "FAILED", "WAIT", "WALL", "CPU", "MEMORY"), rows, flexible=names)
    limited = [group for group in groups if group.memory_mb or group.timeout]
    if limited:
        output.say()
        rows = [(*_key(group), group.completed, _config(group)) for group in limited]
        output.table((*names, "COMPLETED", "EXECUTOR_CONFIG"), rows, flexible=names)
    if any(group.together < group.completed for group in limited):
        output.note("runs without memory_mb tell of their largest process alone; where many run at once, give more")


def _row(group: Group) -> tuple[Any, ...]:
    wait = _times(group.wait, "p50", "p95")
    wall = _times(group.wall, "p50", "p95", "max")
    cpu = output.duration(group.cpu.total) if group.cpu else ""
    memory = f"{group.peak.p95:.0f}/{group.peak.max:.0f}" if group.peak else ""
    return (*_key(group), group.runs, group.failed or "", wait, wall, cpu, memory)


def _key(group: Group) -> list[str]:
    return ["-" if part is None else part for part in group.key]


def _times(spread: Spread | None, *parts: str) -> str:
    return "/".join(output.duration(getattr(spread, part)) for part in parts) if spread else ""


def _config(group: Group) -> str:
    """What to write into the DAG."""
    limits = {"memory_mb": group.memory_mb, "timeout": group.timeout}
    return "{" + ", ".join(f'"{name}": {value}' for name, value in limits.items() if value) + "}"


def _of(spread: Spread | None, part: str) -> float:
    return getattr(spread, part) if spread else -1.0
