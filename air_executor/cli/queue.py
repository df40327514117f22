"""`queue pause | resume | list`: let no job of a queue start for a while, on any host.

`list --json` prints a list of {"name", "waiting", "oldest_age", "served_by", "paused": {"queue", "at", "by", "why"} or
null}, the others {"queue", "action", "changed", "paused"}.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from air_executor.cli import arguments, lookup, output, status
from air_executor.errors import NotFoundError

if TYPE_CHECKING:
    from air_executor.paths import Home

_PAUSE_TEXT = """\
Let no runner, on any host, start a job of a queue until it is resumed. Jobs
that run go on, and new ones are taken and wait; tasks of Airflow stay queued.
It holds whatever is restarted meanwhile."""


def add(commands: arguments.Commands) -> None:
    """Add the commands."""
    parser = commands.add_parser("queue", help="pause, resume and look at queues", description="Queues.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    pause = arguments.add_command(
        actions,
        "pause",
        run_pause,
        help="let no job of a queue start",
        text=_PAUSE_TEXT,
        examples=('air-executor queue pause heavy --why "the database is being moved"',),
    )
    resume = arguments.add_command(
        actions,
        "resume",
        run_resume,
        help="let the jobs of a paused queue start again",
        examples=("air-executor queue resume heavy",),
    )
    for each in (pause, resume):
        each.add_argument("queue", metavar="QUEUE", help="its name")
        arguments.add_why(each)
    arguments.add_command(
        actions,
        "list",
        run_list,
        help="show the queues: what waits, who serves them, which are paused",
        examples=("air-executor queue list",),
    )


def run_pause(args: argparse.Namespace) -> int:
    """Pause a queue, known or not."""
    from air_executor import pauses

    home = lookup.open_home(args)
    known = _known(home)
    changed = pauses.pause(home, args.queue, why=args.why)
    _report(home, args, changed)
    if args.queue not in known:
        others = f"; known are {', '.join(known)}" if known else ""
        output.note(f"nobody knows the queue {args.queue} yet: no job was in it, and no runner serves it{others}")
    return 0


def run_resume(args: argparse.Namespace) -> int:
    """Resume one that is known."""
    from air_executor import pauses

    home = lookup.open_home(args)
    known = _known(home)
    changed = pauses.resume(home, args.queue, why=args.why)
    if not changed and args.queue not in known:
        paused = ", ".join(sorted(pauses.names(home))) or "none"
        raise NotFoundError(f"there is no queue {args.queue} in {home.root}; paused: {paused}")
    _report(home, args, changed)
    return 0


def _known(home: Home) -> list[str]:
    from air_executor import runners, steering

    return steering.known_queues(home, runners.all_runners(home))


def _report(home: Home, args: argparse.Namespace, changed: bool) -> None:
    from dataclasses import asdict

    from air_executor import pauses

    pause = pauses.read(home, args.queue)
    if args.json:
        facts: dict[str, Any] = {"queue": args.queue, "action": args.action, "changed": changed}
        output.say_json({**facts, "paused": pause and asdict(pause)})
    elif args.action == "pause":
        output.say(f"the queue {args.queue} is {'' if changed else 'already '}{output.clean(pause)}")
    else:
        output.say(f"the queue {args.queue} {'is resumed' if changed else 'was not paused'}")


def run_list(args: argparse.Namespace) -> int:
    """Every queue that is of interest now."""
    from dataclasses import asdict

    from air_executor import runners
    from air_executor.status import gather_queues

    home = lookup.open_home(args)
    found = gather_queues(home, runners.alive_runners(home))
    if args.json:
        output.say_json([asdict(each) for each in found])
    else:
        status.show_queues(found)
    return 0
