"""`top`: what goes on in a home, drawn anew each second, and what one does about it with a key.

::

    keys ──> states ─> page ──> screen     what was typed, what it means, what is shown, how it is drawn
               │         ▲
               ▼         │
             watcher: acts and looks in a thread of its own, so that keys are answered while a file system is slow

`states` and `page` are pure functions. rich, which draws, is optional, and loaded when the program is about to draw.
"""

from __future__ import annotations

import argparse
import os
import sys

from air_executor.cli import arguments, lookup
from air_executor.errors import AirExecutorError, InvalidInputError

_TEXT = """\
Show runners, queues and jobs, anew each second, and act on them. The keys are
shown with ?. Needs a terminal, and rich (this project's extra `top`).

For scripts there are status, list and show, all with --json."""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    arguments.add_command(
        commands,
        "top",
        run,
        help="watch runners, queues and jobs, and act on them",
        text=_TEXT,
        examples=("air-executor top", "air-executor --home /shared/air-executor top"),
        has_json=False,
    )


def run(args: argparse.Namespace) -> int:
    """Draw until somebody has seen enough."""
    _check_terminal()
    home = lookup.open_home(args)
    try:
        import rich.console  # noqa: F401
    except ImportError:
        raise AirExecutorError("top needs rich: install rich, or this project's extra `top`") from None
    from air_executor.cli.top import app

    return app.run(home)


def _check_terminal() -> None:
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidInputError(
            "top needs a terminal, for what is typed and for what is shown; in a pipe use: air-executor status --json"
        )
    if os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        raise InvalidInputError(
            "top cannot draw on this terminal; set TERM to what it is, or use: air-executor status --watch"
        )
