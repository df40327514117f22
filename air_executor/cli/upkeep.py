"""`repair` and `prune`: what keeps a home in order.

`repair --json` prints a list of {"job", "what", "failed"}; `prune --json` {"removed": [names], "dry_run"}.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from air_executor.cli import arguments, lookup, output
from air_executor.errors import InvalidInputError

if TYPE_CHECKING:
    from air_executor.paths import Home
    from air_executor.sightings import Sightings

_REPAIR_TEXT = """\
Bring the spool in line with the jobs, and finish what killed processes began to
write. Safe at any time, also beside running runners; every runner does it when
it starts. Jobs whose runner died are left to the next runner, which also ends
what they left running."""

_PRUNE_TEXT = """\
Remove the directories of jobs that are over, with their logs: those that ended
long ago, or the oldest of too many. Give at least one limit. Jobs that are not
over stay, and for 30 days those whose result a scheduler has not collected."""


def add(commands: arguments.Commands) -> None:
    """Add the commands."""
    arguments.add_command(
        commands,
        "repair",
        run_repair,
        help="rebuild the queues from the jobs",
        text=_REPAIR_TEXT,
        examples=("air-executor repair",),
    )
    prune = arguments.add_command(
        commands,
        "prune",
        run_prune,
        help="remove old jobs",
        text=_PRUNE_TEXT,
        examples=(
            "air-executor prune --older-than 7d --dry-run",
            "air-executor prune --older-than 7d --failed-older-than 30d",
            "air-executor prune --keep 10000 --max-size 20G",
        ),
    )
    prune.add_argument("--older-than", type=arguments.age, metavar="TIME", help="since their end")
    prune.add_argument(
        "--failed-older-than",
        type=arguments.age,
        metavar="TIME",
        help="for failed and cancelled ones (default: as --older-than)",
    )
    prune.add_argument(
        "--keep", type=arguments.whole, metavar="N", help="all but so many; the oldest completed go first"
    )
    prune.add_argument("--max-size", type=arguments.size, metavar="SIZE", help="until they hold no more, such as 20G")
    prune.add_argument("--dry-run", action="store_true", help="only say which")


def run_repair(args: argparse.Namespace) -> int:
    """Repair, and say what was changed."""
    import dataclasses

    from air_executor import repair, runners

    home = lookup.open_home(args)
    seen = runners.observe(home)
    runners.forget_dead(home, seen)
    changes = []
    for change in repair.repair(home):
        changes.append(change)
        if not args.json:
            (output.note if change.failed else output.say)(f"{change.job}: {output.clean(change.what)}")
    if args.json:
        output.say_json([dataclasses.asdict(change) for change in changes])
    elif not changes:
        output.say("nothing to repair")
    note_abandoned(home, seen)
    return 1 if any(change.failed for change in changes) else 0


def note_abandoned(home: Home, seen: Sightings) -> None:
    """Say what a runner has to do."""
    from air_executor import repair, runners

    names = {name for _, name in repair.abandoned_claims(home, seen)}
    if names:
        output.note(
            f"{output.count(len(names), 'job')} of runners that died: the next runner on their host brings"
            f" {'it' if len(names) == 1 else 'them'} to rest: {runners.start_command(home, 'default')}"
        )


def run_prune(args: argparse.Namespace) -> int:
    """Remove, and say what."""
    limits = {
        "older_than": args.older_than,
        "failed_older_than": args.failed_older_than,
        "keep": args.keep,
        "max_bytes": args.max_size,
    }
    if all(limit is None for limit in limits.values()):
        raise InvalidInputError("give at least one of --older-than, --failed-older-than, --keep and --max-size")
    removed = lookup.open_client(args).prune(**limits, dry_run=args.dry_run)
    if args.json:
        output.say_json({"removed": removed, "dry_run": args.dry_run})
        return 0
    for name in removed:
        output.say(name)
    output.note(f"{output.count(len(removed), 'job')} {'would be ' if args.dry_run else ''}removed")
    return 0
