"""`runner set` and `runner show`: change what a running runner does, and who steered it.

`set --json` prints {"id", "action", "slots", "queues"} with what was asked for; `show --json` what `list` has of a
runner, null for one that is gone, and "events": its latest lines of logs/steering.jsonl.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from air_executor.cli import arguments, lookup, output
from air_executor.errors import CorruptFileError, NotFoundError

if TYPE_CHECKING:
    from air_executor import runners
    from air_executor.paths import Home
    from air_executor.sightings import Sightings

_SET_TEXT = """\
Let a running runner work with other slots, or serve other queues, at once and
until it ends: flags, environment and config.toml decide at its next start.

Running jobs go on. With fewer slots than these, nothing starts until there is
room. Jobs that wait in a queue that it serves no longer wait for another
runner. The queues of a runner that Airflow's executor started are decided by
[air_executor] queues; its slots last until the next start of a scheduler."""


def add(actions: arguments.Commands) -> None:
    """Add the commands."""
    change = arguments.add_command(
        actions,
        "set",
        run_set,
        help="change the slots and queues of a running runner",
        text=_SET_TEXT,
        examples=(
            "air-executor runner set --slots 8",
            'air-executor runner set big --queues default,heavy --why "the backlog of Monday"',
        ),
    )
    change.add_argument("id", metavar="RUNNER", nargs="?", help="the runner, or the start of its id")
    change.add_argument("--slots", metavar="N", help="how many jobs run at once")
    change.add_argument("--queues", metavar="A,B", help="the queues it serves, all of them")
    arguments.add_why(change)
    show = arguments.add_command(
        actions,
        "show",
        run_show,
        help="show one runner, and who steered it",
        examples=("air-executor runner show", "air-executor runner show big --json"),
    )
    show.add_argument("id", metavar="RUNNER", nargs="?", help="the runner, or the start of its id; also one that ended")


def run_set(args: argparse.Namespace) -> int:
    """Ask for it."""
    from air_executor import runners, steering

    home = lookup.open_home(args)
    steering.check_changes(args.slots, args.queues)  # what is wrong here is wrong for any runner
    seen = runners.observe(home)
    info = lookup.find_runner(home, args.id, seen)
    changes = steering.set_runner(home, info.id, slots=args.slots, queues=args.queues, why=args.why, seen=seen)
    if args.json:
        output.say_json({"id": info.id, "action": args.action, **changes})
    else:
        output.say(f"the runner {info.id} is asked to work with {_describe(changes)}, {steering.how_long(info)}")
    return 0


def _describe(changes: Mapping[str, Any]) -> str:
    known = []
    if "slots" in changes:
        known.append(output.count(changes["slots"], "slot"))
    if "queues" in changes:
        known.append(f"{'the queue' if len(changes['queues']) == 1 else 'the queues'} {', '.join(changes['queues'])}")
    return " and ".join(known)


def run_show(args: argparse.Namespace) -> int:
    """One runner and its history."""
    from air_executor import audit, runners
    from air_executor.cli import runner

    home = lookup.open_home(args)
    seen = runners.observe(home)
    info = _find(home, args.id, seen)
    events = audit.latest(home, runner=args.id if info is None else info.id)
    if info is None and not events:
        raise NotFoundError(f"there is no runner {args.id} in {home.root}; air-executor runner list shows the runners")
    facts = None if info is None else runner.facts(info, seen.is_alive(info))
    if args.json:
        output.say_json({"runner": facts, "events": events})
        return 0
    if info is None or facts is None:
        output.say(f"the runner {args.id} is gone")
    else:
        output.pairs(_shown(facts, info.started_at))
    show_events(events)
    return 0


def _find(home: Home, text: str | None, seen: Sightings) -> runners.RunnerInfo | None:
    """None if no living runner is meant, and none of which there is a file."""
    from air_executor import runners

    try:
        return lookup.find_runner(home, text, seen)
    except NotFoundError:
        if text is None:
            raise
    try:
        return runners.read(home, text)
    except (NotFoundError, CorruptFileError):
        return None


def _shown(facts: Mapping[str, Any], started_at: str) -> dict[str, object]:
    return {
        "runner": facts["id"],
        "state": facts["state"],
        "process": f"{facts['pid']} on {facts['host']}",
        "queues": ", ".join(facts["queues"]),
        "working": f"{facts['working']} of {output.count(facts['slots'], 'slot')}",
        "heartbeat": f"{output.duration(facts['heartbeat_age'])} ago",
        "started": started_at,
        "launcher": facts["launcher"],
        "version": facts["version"],
        "embedded": "yes, by Airflow's executor" if facts["embedded"] else None,
    }


def show_events(events: Sequence[Mapping[str, Any]]) -> None:
    """Print the latest lines of logs/steering.jsonl."""
    if not events:
        return
    output.say()
    rows = [(each.get("at"), _what(each), each.get("by"), each.get("why")) for each in events]
    output.table(("AT", "WHAT", "BY", "WHY"), rows, flexible=("AT", "WHAT", "BY", "WHY"))


def _what(event: Mapping[str, Any]) -> str:
    said = str(event.get("what", ""))
    queues = event.get("queues")
    if event.get("slots") is None or not isinstance(queues, list):
        return said
    return f"{said}: {event['slots']} slots, {','.join(map(str, queues))}"
