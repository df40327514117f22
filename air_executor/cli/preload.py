"""`runner preload`: what templates have learned to preload, what it costs, and what was refused.

`--json` prints a list of {"host", "python", "prefix", "template", "base_ms", "modules": [{"name", "verdict", "cost_ms",
"why", "by_hand", "at"}]}, one for each template of each host and Python.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from air_executor.cli import arguments, lookup, output

if TYPE_CHECKING:
    from air_executor.paths import Home

_TEXT = """\
Show what templates preload: modules that jobs were seen to import again and
again, and what importing them takes. What would make forking unsafe is
refused, and tried again when packages are installed or removed.

--refuse lets jobs import a module themselves, whatever it costs; --allow takes
that back, and lets a refused module be tried again. --renew puts new templates
in place of the old ones, whose jobs go on; so do --refuse and --allow."""

BY_HAND = "by hand"
_ORDER = ("preloaded", "refused", "cheap")


def add(actions: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.add_command(
        actions,
        "preload",
        run,
        help="show and change what templates preload",
        text=_TEXT,
        examples=("air-executor runner preload", "air-executor runner preload --refuse torch"),
    )
    module: dict[str, Any] = {"action": "append", "default": [], "metavar": "MODULE", "type": _module}
    parser.add_argument("--refuse", help="never preload this module", **module)
    parser.add_argument("--allow", help="let it be preloaded again", **module)
    parser.add_argument("--renew", action="store_true", help="put new templates in place of the old ones")


def _module(text: str) -> str:
    if not all(part.isidentifier() for part in text.split(".")):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a module; give one as it is imported, such as a.b")
    return text


def run(args: argparse.Namespace) -> int:
    """Change what is asked for, and show what is known then."""
    home = lookup.open_home(args)
    if args.refuse or args.allow:
        _change(home, args.refuse, args.allow)
    if args.renew or args.refuse or args.allow:
        _renew(home)
    found = _facts(home)
    if args.json:
        output.say_json(found)
    elif found:
        _show(found)
    else:
        output.note("no template has learned anything yet")
    return 0


def _change(home: Home, refuse: list[str], allow: list[str]) -> None:
    from air_executor import preloads
    from air_executor.errors import NotFoundError

    def change(known: preloads.Knowledge) -> None:
        for learned in known.templates.values():
            for name in allow:
                learned.modules.pop(name, None)
            for name in refuse:
                learned.modules[name] = preloads.Module(preloads.Verdict.REFUSED, why=BY_HAND, by_hand=True)

    paths = list(preloads.all_files(home))
    if not paths:
        raise NotFoundError(f"no template has learned anything yet in {home.root}; start a runner first")
    known = {name for path in paths for learned in preloads.read(path).templates.values() for name in learned.modules}
    if unknown := sorted(set(allow) - known):
        raise NotFoundError(f"no template has refused {', '.join(unknown)}: `air-executor runner preload` shows which")
    for path in paths:
        preloads.update(path, change)


def _renew(home: Home) -> None:
    from air_executor import runners

    seen = runners.observe(home)
    for info in runners.alive_runners(home, seen):
        runners.tell(home, info.id, "renew", seen)


def _facts(home: Home) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from air_executor import preloads

    found = []
    for known in map(preloads.read, preloads.all_files(home)):
        where = {"host": known.host, "python": known.python, "prefix": known.prefix}
        for name, learned in known.templates.items():
            modules = [{"name": each, **asdict(module)} for each, module in learned.modules.items()]
            found.append({**where, "template": name, "base_ms": learned.base_ms, "modules": modules})
    return found


def _show(found: list[dict[str, Any]]) -> None:
    rows = []
    for each in found:
        where = f"{each['host']}, Python {each['python']} in {each['prefix']}"
        rows.append((each["template"], "template", _cost(each["base_ms"]), where))
        modules = sorted(each["modules"], key=lambda item: (_ORDER.index(item["verdict"]), -(item["cost_ms"] or 0.0)))
        rows += [(item["name"], item["verdict"], _cost(item["cost_ms"]), item["why"]) for item in modules]
    output.table(("MODULE", "STATE", "COST", "WHY"), rows, flexible=("MODULE", "WHY"))


def _cost(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.0f} ms"
