"""What people and programs see: tables, times, colours, JSON, notes. Nothing here knows what a job is.

Results go to standard output, everything that is only said about them to standard error. A table is cut to the width
of a terminal; in a pipe it is whole. Colours are for terminals, and never where `NO_COLOR` is set. Text of others is
cleaned of control characters, so that a label cannot take over the terminal.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from air_executor.errors import AirExecutorError, CorruptFileError

PROGRAM = "air-executor"

_COLOURS = {"green": 32, "red": 31, "yellow": 33, "blue": 34, "grey": 90, "bold": 1}
_WORD_COLOURS = {
    **dict.fromkeys(("completed", "up", "healthy", "ok", "alive"), "green"),
    **dict.fromkeys(("failed", "down", "dead", "unhealthy", "not running", "problem"), "red"),
    **dict.fromkeys(("cancelled", "skipped", "draining", "degraded", "warning"), "yellow"),
    **dict.fromkeys(("working", "running"), "blue"),
    **dict.fromkeys(("waiting", "pending"), "grey"),
}
_CONTROLS = {code: f"\\x{code:02x}" for code in [*range(32), 127, *range(128, 160)]}
_GAP = "  "
_MIN_CELL = 8
"""A column that is cut to fit the terminal keeps at least so many characters."""


def prepare() -> None:
    """Let no character that the terminal cannot show, and no output that was closed, end the program."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(text: str = "") -> None:
    """A line of the result."""
    sys.stdout.write(f"{text}\n")


def flush() -> None:
    """Let a reader of the pipe see what was said so far."""
    sys.stdout.flush()


def note(text: str) -> None:
    """A remark or an error, on one line."""
    sys.stdout.flush()
    sys.stderr.write(f"{PROGRAM}: {clean(text)}\n")
    sys.stderr.flush()


def note_error(error: AirExecutorError) -> None:
    """An error, and what to do about a damaged file, which is the same for all of them."""
    remedy = "; mend it, or put a sound copy in its place" if isinstance(error, CorruptFileError) else ""
    note(f"{error}{remedy}")


def give_up() -> None:
    """Nobody takes the result any more. Python flushes it once again at its end: there must be something that does."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_json(value: Any) -> None:
    """The result as JSON: ASCII, so that it is valid in every terminal and every locale."""
    say(json.dumps(value, indent=2))


def clean(text: object) -> str:
    """Text on one line that the terminal only shows and never obeys."""
    return str(text).translate(_CONTROLS)


def is_terminal() -> bool:
    """Whether a person looks at the result."""
    return sys.stdout.isatty()


def use_colour() -> bool:
    """Whether to colour the result."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str | None = None) -> str:
    """`text` in a colour, or in the one that its word has."""
    name = colour or _WORD_COLOURS.get(text.strip())
    return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m" if name and use_colour() else text


def width() -> int | None:
    """The columns of the terminal; None in a pipe, where nothing is cut."""
    return shutil.get_terminal_size().columns if is_terminal() else None


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, flexible: Sequence[str] = ()) -> None:
    """Print rows in columns; where the terminal is narrow, the flexible columns are cut, the widest first."""
    cells = [[clean("" if cell is None else cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    fitted = fit(widths, [headers.index(name) for name in flexible], width())
    say(_row([header.ljust(size) for header, size in zip(headers, fitted, strict=True)], "bold"))
    for row in cells:
        say(_row([shorten(cell, size).ljust(size) for cell, size in zip(row, fitted, strict=True)]))


def fit(widths: Sequence[int], flexible: Sequence[int], room: int | None) -> list[int]:
    """The widths of columns that fit into `room`, taking from the flexible ones, the widest first. Pure."""
    fitted = list(widths)
    while room is not None and sum(fitted) + len(_GAP) * (len(fitted) - 1) > room:
        widest = max(flexible, key=lambda i: fitted[i], default=None)
        if widest is None or fitted[widest] <= _MIN_CELL:
            break
        fitted[widest] -= 1
    return fitted


def _row(cells: Sequence[str], colour: str | None = None) -> str:
    last = len(cells) - 1
    return _GAP.join(paint(cell.rstrip() if i == last else cell, colour) for i, cell in enumerate(cells)).rstrip()


def shorten(text: str, size: int) -> str:
    """At most `size` characters; the middle goes, because both ends of a job's name say which it is."""
    if len(text) <= size:
        return text
    tail = (size - 1) // 2
    return f"{text[: size - 1 - tail]}…{text[len(text) - tail :]}"


def pairs(facts: Mapping[str, object]) -> None:
    """Print names and values, without those that are None or empty."""
    shown = {name: value for name, value in facts.items() if value is not None and value != ""}
    indent = max(map(len, shown), default=0) + len(_GAP)
    for name, value in shown.items():
        say(f"{paint(name, 'bold')}{' ' * (indent - len(name))}{paint(clean(value))}")


def duration(seconds: float | None) -> str:
    """`0.4s`, `12s`, `3m05s`, `2h10m`, `4d03h`; an empty text if it is not known."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    for unit, name, smaller, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit:
            return f"{whole // unit}{name}{whole % unit // smaller:02d}{small_name}"
    return f"{whole}s"


def count(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
