"""`token create | list | revoke`: who may use the HTTP API.

`create --json` prints {"token", "id", "name", "scopes", "expires_at"}; `list --json` a list of {"id", "name",
"scopes", "created_at", "by", "expires_at", "revoked_at", "revoked_by", "last_used_at", "standing"}; `revoke --json`
{"id", "name", "revoked_at"}.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from air_executor.cli import arguments, lookup, output

if TYPE_CHECKING:
    from air_executor.http.tokens import Token
    from air_executor.paths import Home

SCOPES = ("read", "submit", "cancel", "admin")

_CREATE_TEXT = """\
Create a token for the HTTP API, and print it. It is shown this once: the home
keeps a hash of it.

Scopes: read (runs, results, logs, pipelines, queues), submit (create runs,
start them anew), cancel (stop runs), admin (all of it; pause queues)."""


def add(commands: arguments.Commands) -> None:
    """Add the commands."""
    parser = commands.add_parser("token", help="who may use the HTTP API", description="Tokens for the HTTP API.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    create = arguments.add_command(
        actions,
        "create",
        run_create,
        help="create a token and print it",
        text=_CREATE_TEXT,
        examples=("air-executor token create nightly --scope read --scope submit --expires 30d",),
    )
    create.add_argument("name", metavar="NAME", help="whose it is; shown wherever it did something")
    create.add_argument("--scope", choices=SCOPES, action="append", required=True, help="may be repeated")
    create.add_argument("--expires", type=arguments.age, metavar="TIME", help="counts so long, such as 30d")
    arguments.add_command(
        actions, "list", run_list, help="show the tokens, never their secrets", examples=("air-executor token list",)
    )
    revoke = arguments.add_command(
        actions,
        "revoke",
        run_revoke,
        help="let a token count no more, within a second",
        examples=("air-executor token revoke 0f3a5b7c9d1e",),
    )
    revoke.add_argument("id", metavar="ID", help="its id, as token list shows it")


def run_create(args: argparse.Namespace) -> int:
    """Create one; the token alone is on standard output."""
    from air_executor import processes, store
    from air_executor.http import tokens

    home = lookup.find_home(args)
    store.ensure_home(home)
    token, text = tokens.create(home, args.name, args.scope, by=processes.user(), lifetime=args.expires)
    if args.json:
        facts = {key: getattr(token, key) for key in ("id", "name", "scopes", "expires_at")}
        output.say_json({"token": text, **facts})
    else:
        output.say(text)
        output.note(f"the token {token.id} of {token.name}: keep it, it is not shown again")
    return 0


def run_list(args: argparse.Namespace) -> int:
    """Print all, and what is wrong with damaged ones."""
    from air_executor.http import tokens

    home = lookup.open_home(args)
    found = tokens.all_tokens(home)
    good = [_facts(home, each) for each in found if isinstance(each, tokens.Token)]
    if args.json:
        output.say_json(good)
    elif good:
        columns = ("ID", "NAME", "SCOPES", "STANDING", "EXPIRES", "LAST USED", "CREATED", "BY")
        output.table(columns, [_row(facts) for facts in good], flexible=("NAME", "BY"))
    else:
        output.note(f"there are no tokens in {home.root}; create one with: air-executor token create")
    damaged = [each for each in found if not isinstance(each, tokens.Token)]
    for error in damaged:
        output.note_error(error)
    return damaged[0].exit_code if damaged else 0


def _facts(home: Home, token: Token) -> dict[str, Any]:
    import time

    from air_executor import model
    from air_executor.http import tokens

    used = tokens.last_used(home, token.id)
    keys = ("id", "name", "scopes", "created_at", "by", "expires_at", "revoked_at", "revoked_by")
    return {
        **{key: getattr(token, key) for key in keys},
        "last_used_at": None if used is None else model.from_timestamp(used),
        "standing": token.standing(time.time()).name.lower(),
    }


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    times = [(facts[key] or "-")[:16].replace("T", " ") for key in ("expires_at", "last_used_at", "created_at")]
    return facts["id"], output.clean(facts["name"]), ",".join(facts["scopes"]), facts["standing"], *times, facts["by"]


def run_revoke(args: argparse.Namespace) -> int:
    """Revoke one, for good."""
    from air_executor import processes
    from air_executor.http import tokens

    home = lookup.open_home(args)
    token = tokens.revoke(home, _find_id(home, args.id), by=processes.user())
    if args.json:
        output.say_json({key: getattr(token, key) for key in ("id", "name", "revoked_at")})
    else:
        output.say(f"the token {token.id} of {output.clean(token.name)} is revoked")
    return 0


def _find_id(home: Home, given: str) -> str:
    """The id that is meant: it may be a whole token, whose secret no message may hold.

    Raises:
        NotFoundError: it is a name, of which there may be several.
    """
    from air_executor.errors import NotFoundError
    from air_executor.http import tokens

    for text in (given.strip(), f"{tokens.PREFIX}_{given.strip()}"):
        if (parts := tokens.parse(text)) is not None:
            return parts[0]
    known = [each for each in tokens.all_tokens(home) if isinstance(each, tokens.Token)]
    if named := [each.id for each in known if each.name == given]:
        raise NotFoundError(f"{given!r} is a name; a token is revoked by its id: {', '.join(named)}")
    return given
