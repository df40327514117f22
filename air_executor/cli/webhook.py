"""`webhook list | show | resend | drop | test | run`: events that were not taken, and the process that sends.

`list --json` prints {"webhooks": [{"name", "kind", "states", "pipelines", "labels", "all_jobs", "waiting", "dead"}],
"sending": whether a process sends, "events": [{"id", "event", "job", "at", "dead", "tries", "tried_at", "next_at",
"error"}]}, `show --json` the same of one event, and "body", `resend` and `drop` {"action", "ids"}, `test` {"webhook",
"taken", "error"}. No address, no secret.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from air_executor.cli import arguments, lookup, output
from air_executor.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from air_executor.paths import Home
    from air_executor.webhooks.outbox import Entry
    from air_executor.webhooks.tables import WebhookSettings

_RUN_TEXT = """\
Send the events of webhooks until Ctrl-C. Every runner of a home with webhooks
has such a process; this is for homes without a runner. One process of a home
sends at a time; exit code 6 if another does."""

_TEST_TEXT = """\
Send a ping to a webhook, once, from here, and say what became of it. One of
the kind airflow is logged in to and asked for the DAG; no run is made."""


def add(commands: arguments.Commands) -> None:
    """Add the commands."""
    parser = commands.add_parser(
        "webhook", help="look at, send again and test webhooks", description="Events of webhooks that were not taken."
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    listing = arguments.add_command(
        actions,
        "list",
        run_list,
        help="show the webhooks, and the events that were not taken yet",
        examples=("air-executor webhook list", "air-executor webhook list --dead --webhook ops"),
    )
    listing.add_argument("--dead", action="store_true", help="only events that were given up")
    listing.add_argument("--webhook", metavar="NAME", help="only of this webhook")
    show = arguments.add_command(
        actions, "show", run_show, help="show one event", examples=("air-executor webhook show ops/nightly.1f2e3d4c,1",)
    )
    show.add_argument("id", metavar="ID", help="of the event, as list shows it")
    for name, does, text, alone in (
        ("resend", run_resend, "send events at once, also those that were given up", "all that wait for this webhook"),
        ("drop", run_drop, "forget events: they are not sent", ""),
    ):
        examples = [f"air-executor webhook {name} ops/nightly.1f2e3d4c,1", f"air-executor webhook {name} --dead"]
        examples += [f"air-executor webhook {name} --webhook ops"] if alone else []
        each = arguments.add_command(actions, name, does, help=text, examples=tuple(examples))
        each.add_argument("ids", metavar="ID", nargs="*", help="of an event, as list shows it")
        each.add_argument("--dead", action="store_true", help="all that were given up")
        told = "with --dead: only of this webhook"
        each.add_argument("--webhook", metavar="NAME", help=f"{alone}; {told}" if alone else told)
    test = arguments.add_command(
        actions, "test", run_test, help="send a ping", text=_TEST_TEXT, examples=("air-executor webhook test ops",)
    )
    test.add_argument("name", metavar="NAME", help="the webhook")
    arguments.add_command(actions, "run", run, help="send events until Ctrl-C", text=_RUN_TEXT, has_json=False)


# --- list and show ---


def run_list(args: argparse.Namespace) -> int:
    """Print the webhooks, and what waits or was given up."""
    from air_executor import settings

    home = lookup.open_home(args)
    tables = settings.webhooks(home)
    found = [entry for entry in _entries(home, args.webhook) if entry.dead or not args.dead]
    rows = [_table_facts(home, name, table) for name, table in tables.items() if args.webhook in (None, name)]
    if args.json:
        output.say_json({"webhooks": rows, "sending": _is_sending(home), "events": [_facts(entry) for entry in found]})
        return 0
    if not tables:
        output.note(f"there are no webhooks; {home.config} has no table [webhooks.NAME]")
    _show_tables(rows)
    _show_entries(found)
    if tables:
        _note_sender(home)
    return 0


def _is_sending(home: Home) -> bool:
    from air_executor import _files

    return _files.is_locked(home.webhook_sender_lock)


def _note_sender(home: Home) -> None:
    """Say it if nobody sends, and who will."""
    from air_executor import runners
    from air_executor.sightings import Sightings

    if _is_sending(home):
        return
    if alive := runners.alive_runners(home, Sightings(guess=True)):
        text = f"the runner {alive[0].id} starts a process for it soon; {home.runner_log} says when, and why one ended"
    else:
        text = "a runner does when it runs, and so does air-executor webhook run"
    output.note(f"nobody sends at this moment: {text}")


def _entries(home: Home, webhook: str | None) -> list[Entry]:
    """Those that wait, then the dead ones; of one that cannot be read only that is said."""
    from air_executor.errors import CorruptFileError
    from air_executor.webhooks import outbox

    entries = []
    for dead in (False, True):
        for entry in outbox.read_all(home, dead=dead):
            if isinstance(entry, CorruptFileError):
                output.note_error(entry)
            elif webhook in (None, entry.webhook):
                entries.append(entry)
    return entries


def _table_facts(home: Home, name: str, table: WebhookSettings) -> dict[str, Any]:
    from air_executor.webhooks import outbox

    return {
        "name": name,
        "kind": table.kind,
        "states": list(table.states),
        "pipelines": list(table.pipelines),
        "labels": dict(table.labels),
        "all_jobs": table.all_jobs,
        "waiting": len(outbox.stems(home, name)),
        "dead": len(outbox.stems(home, name, dead=True)),
    }


def _show_tables(rows: list[dict[str, Any]]) -> None:
    if rows:
        headers = ("WEBHOOK", "KIND", "STATES", "JOBS", "WAITING", "DEAD")
        cells = [
            (row["name"], row["kind"], ", ".join(row["states"]), _jobs(row), row["waiting"], row["dead"])
            for row in rows
        ]
        output.table(headers, cells, flexible=("JOBS", "STATES"))


def _jobs(row: Mapping[str, Any]) -> str:
    if row["all_jobs"]:
        return "all"
    labels = [f"{key}={value}" for key, value in row["labels"].items()]
    chosen = [*(f"pipeline {name}" for name in row["pipelines"]), *labels]
    return ", ".join([*chosen, "named"])


def _show_entries(entries: list[Entry]) -> None:
    if entries:
        output.say()
        rows = [
            (each.id, each.event.get("event"), "dead" if each.dead else each.next_at or "now", each.tries, each.error)
            for each in entries
        ]
        output.table(("ID", "EVENT", "NEXT", "TRIES", "ERROR"), rows, flexible=("ERROR", "ID"))


def _facts(entry: Entry) -> dict[str, Any]:
    job = entry.event.get("job")
    return {
        "id": entry.id,
        "event": entry.event.get("event"),
        "job": job.get("name") if isinstance(job, dict) else None,
        "at": entry.at,
        "dead": entry.dead,
        "tries": entry.tries,
        "tried_at": entry.tried_at,
        "next_at": entry.next_at,
        "error": entry.error,
    }


def run_show(args: argparse.Namespace) -> int:
    """Print one event, and what is sent of it."""
    import json

    from air_executor.webhooks import outbox

    entry = outbox.find(lookup.open_home(args), args.id)
    facts = _facts(entry)
    if args.json:
        output.say_json({**facts, "body": entry.event})
    else:
        output.pairs({**facts, "dead": "yes" if entry.dead else None})
        output.say()
        output.say(json.dumps(entry.event, indent=2))
    return 0


# --- What can be done about them ---


def run_resend(args: argparse.Namespace) -> int:
    """Let the sender try again at once."""
    from air_executor.webhooks import outbox

    home = lookup.open_home(args)
    if args.webhook is not None and not args.ids and not args.dead:
        chosen = _waiting(home, args.webhook)
    else:
        chosen = _chosen(home, args, "--dead for all that were given up, or --webhook NAME for all that wait for it")
    sent = []
    for entry in chosen:
        try:
            sent.append(outbox.resend(home, entry))
        except NotFoundError:  # it was taken meanwhile
            if args.ids:
                raise
    _note_sender(home)
    return _report(args, sent, "is sent again")


def _waiting(home: Home, webhook: str) -> list[Entry]:
    """What waits for one webhook, whether it still has a table or not."""
    from air_executor import definitions, settings

    found = [entry for entry in _entries(home, webhook) if not entry.dead]
    if not found and webhook not in (known := settings.webhooks(home)):
        raise NotFoundError(f"there is no webhook {webhook:.60} in {home.config}; {definitions.hint(webhook, known)}")
    return found


def run_drop(args: argparse.Namespace) -> int:
    """Forget events."""
    from air_executor.webhooks import outbox

    home = lookup.open_home(args)
    chosen = _chosen(home, args, "--dead for all that were given up")
    chosen = [entry for entry in chosen if outbox.remove(home, entry)]
    return _report(args, chosen, "is dropped")


def _chosen(home: Home, args: argparse.Namespace, otherwise: str) -> list[Entry]:
    """What is meant by ids or `--dead`; all of it is found before anything is done."""
    from air_executor.webhooks import outbox

    if bool(args.ids) == args.dead:
        raise InvalidInputError(f"give the ids of events, or {otherwise}")
    if args.webhook is not None and not args.dead:
        raise InvalidInputError("--webhook says nothing beside ids; an id says which webhook it is of")
    if args.dead:
        return [entry for entry in _entries(home, args.webhook) if entry.dead]
    return [outbox.find(home, event_id) for event_id in args.ids]


def _report(args: argparse.Namespace, entries: list[Entry], what: str) -> int:
    if args.json:
        output.say_json({"action": args.action, "ids": [entry.id for entry in entries]})
    else:
        for entry in entries:
            output.say(f"{entry.id} {what}")
        if not entries:
            output.note("there is no such event")
    return 0


def run_test(args: argparse.Namespace) -> int:
    """Send a ping from this process; 1 if it was not taken."""
    import os

    from air_executor import definitions, settings
    from air_executor.webhooks import sender
    from air_executor.webhooks.delivery import Verdict

    home = lookup.open_home(args)
    tables = settings.webhooks(home)
    if args.name not in tables:
        hint = definitions.hint(args.name, tables)
        raise NotFoundError(f"there is no webhook {args.name:.60} in {home.config}; {hint}")
    outcome = sender.ping(home, args.name, tables[args.name], os.urandom(4).hex())
    taken = outcome.verdict is Verdict.TAKEN
    if args.json:
        output.say_json({"webhook": args.name, "taken": taken, "error": outcome.error})
    elif taken:
        output.say(f"{args.name} took it")
    else:
        output.note(f"{args.name} did not take it: {outcome.error}")
    return 0 if taken else 1


def run(args: argparse.Namespace) -> int:
    """Be the process that sends."""
    import logging
    import signal

    from air_executor.errors import JobBusyError
    from air_executor.webhooks.sender import Sender

    sender = Sender(lookup.open_home(args))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sender.end())
    if not sender.run():
        raise JobBusyError(f"another process sends the events of {sender.home.root} already")
    return 0
