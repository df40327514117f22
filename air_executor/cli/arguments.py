"""The command line's own language: the parser, and what options may look like.

Only argparse is imported here, so that `--help` costs nothing; a test compares the words below with the model's.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from air_executor.cli import output

STATES = ("waiting", "working", "completed", "failed", "cancelled")
TRIGGERS = ("executor", "operator", "api", "cli", "pipeline")
ON_FAILURE = ("continue", "stop")
LAUNCHERS = ("fork", "exec")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

_SIZES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

Commands = Any
"""What `add_subparsers` returns; argparse has no public name for it."""
Run = Callable[[argparse.Namespace], int]


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps our line breaks, and has room for the longest option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_help_position"] = 32
        super().__init__(*args, **kwargs)
        self._action_max_length = 16  # it forgets that the names of commands are indented


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and says errors as every other part of the program does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", _Formatter)
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        output.note(f"{message}; see {self.prog} --help")
        sys.exit(2)


def add_command(
    commands: Commands,
    name: str,
    run: Run,
    *,
    help: str | None,
    examples: Sequence[str] = (),
    text: str = "",
    has_json: bool = True,
) -> argparse.ArgumentParser:
    """Add a command with the options that all have. A command without help is not shown."""
    shown = {"help": help} if help else {}
    body = text or (f"{help[0].upper()}{help[1:]}." if help else "")
    epilog = "examples:\n" + "\n".join(f"  {line}" for line in examples) if examples else None
    parser: argparse.ArgumentParser = commands.add_parser(name, description=body, epilog=epilog, **shown)
    parser.set_defaults(run=run)
    # Also after the command; SUPPRESS, because a default would overwrite what was given before it.
    parser.add_argument("--home", metavar="DIR", default=argparse.SUPPRESS, help="the home (see air-executor --help)")
    if has_json:
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def add_why(parser: argparse.ArgumentParser) -> None:
    """The reason of one who steers, for those who wonder later."""
    parser.add_argument("--why", default="", metavar="TEXT", help="kept in logs/steering.jsonl")


def seconds(text: str) -> float:
    """A span of time: `90`, `90s`, `15m`, `1h`, `7d`, `2w`."""
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    try:
        value = float(number) * unit
        if not 0 <= value < math.inf:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a span of time; give seconds, or 15m, 1h, 7d") from None
    return value


def age(text: str) -> float:
    """A span of time with its unit: what goes by it is removed, and 30 may have been meant as days."""
    if text[-1:] not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no span of time with its unit; give one such as 90s, 12h, 30d")
    return seconds(text)


def size(text: str) -> int:
    """A number of bytes: `500K`, `20M`, `1.5G`, `1T`; a K is 1024. Never without a unit: what is meant is not known."""
    try:
        value = float(text[:-1]) * _SIZES[text[-1:].upper()]
        if not 0 <= value < math.inf:
            raise ValueError
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; give one such as 500M or 20G") from None
    return int(value)


def whole(text: str) -> int:
    """A whole number of at least 1."""
    try:
        value = int(text)
        if value < 1:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1") from None
    return value


def pair(text: str) -> tuple[str, str]:
    """`name=value`."""
    name, separator, value = text.partition("=")
    if not name or not separator:
        # What was given may be a secret without its name: it is not repeated.
        raise argparse.ArgumentTypeError("give it as NAME=VALUE")
    return name, value
