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
    **dict.fromkeys(("cancelled", "skipped", "draining", "paused", "degraded", "warning"), "yellow"),
    **dict.fromkeys(("working", "running"), "blue"),
    **dict.fromkeys(("waiting", "pending"), "grey"),
}
_CONTROLS = {code: f"\\x{code:02x}" for code in [*range(32), 127, *range(128, 160)]}
GAP = "  "
_MIN_CELL = 8
"""A column that is cut to fit the terminal keeps at least so many characters."""
_MIN_NAME = 24
"""The first of those that may be cut says what a row is about, and keeps so many as long as others can give way."""
_BRIEF = 160
_MIN_TEXT = 20
"""Text that is wrapped gets at least so many columns."""


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


def obeys() -> bool:
    """Whether the result goes to a terminal that can clear itself and show colours."""
    return is_terminal() and os.environ.get("TERM") != "dumb"


def use_colour() -> bool:
    """Whether to colour the result."""
    return obeys() and not os.environ.get("NO_COLOR")


def paint(text: str, colour: str | None = None) -> str:
    """`text` in a colour, or in the one that its word has."""
    name = colour or colour_of(text)
    return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m" if name and use_colour() else text


def colour_of(text: str) -> str:
    """The colour that a word has wherever it stands alone; empty for none."""
    return _WORD_COLOURS.get(text.strip(), "")


def width() -> int | None:
    """The columns of the terminal; None in a pipe, where nothing is cut."""
    return shutil.get_terminal_size().columns if is_terminal() else None


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    flexible: Sequence[str] = (),
    optional: Sequence[str] = (),
    wrapped: str = "",
    notes: Sequence[Sequence[str]] = (),
) -> None:
    """Print rows in columns.

    Args:
        flexible: columns that are cut where the terminal is narrow, the widest first; the first of them last.
        optional: columns that are left out, in this order, before the first of the flexible ones is cut short.
        wrapped: the last column, if its text goes on below rather than being cut.
        notes: for each row what is said below it.
    """
    cells = [[clean("" if cell is None else cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    room = width()
    kept = choose(headers, widths, flexible, optional, room)
    names = [headers[i] for i in kept]
    fitted = fit([widths[i] for i in kept], [names.index(name) for name in flexible if name in names], room)
    say(_row([header.ljust(size) for header, size in zip(names, fitted, strict=True)], "bold"))
    for i, row in enumerate(cells):
        _say_row([row[column] for column in kept], fitted, wrapped == names[-1])
        for note in notes[i] if notes else ():
            say("\n".join(wrap(f"{GAP}{GAP}{clean(note)}", room, GAP * 3)))


def _say_row(row: Sequence[str], sizes: Sequence[int], is_wrapped: bool) -> None:
    shown = [shorten(cell, size).ljust(size) for cell, size in zip(row, sizes, strict=True)]
    if not is_wrapped or len(row[-1]) <= sizes[-1]:
        say(_row(shown))
        return
    first, *more = wrap(row[-1], sizes[-1])
    say(_row([*shown[:-1], first]))
    indent = " " * (sum(sizes[:-1]) + len(GAP) * (len(sizes) - 1))
    for line in more:
        say(indent + line)


def wrap(text: str, room: int | None, indent: str = "") -> list[str]:
    """Text in lines of at most `room` columns, broken at spaces where there are any; in a pipe one line."""
    if room is None or len(text) <= room:
        return [text]
    import textwrap

    lines = textwrap.wrap(
        text, max(_MIN_TEXT, room), subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True
    )
    return lines or [text]


def choose(
    headers: Sequence[str], widths: Sequence[int], flexible: Sequence[str], optional: Sequence[str], room: int | None
) -> list[int]:
    """The columns that are shown: optional ones go until the first flexible one has the room that it needs. Pure."""
    kept = list(range(len(headers)))
    for name in optional:
        sizes = fit([widths[i] for i in kept], [kept.index(headers.index(each)) for each in flexible], room)
        first = kept.index(headers.index(flexible[0]))
        fits = room is None or _total(sizes) <= room
        if fits and sizes[first] >= min(_MIN_NAME, widths[kept[first]]):
            break
        kept.remove(headers.index(name))
        flexible = [each for each in flexible if each != name]
    return kept


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def fit(widths: Sequence[int], flexible: Sequence[int], room: int | None) -> list[int]:
    """The widths of columns that fit into `room`, taking from the flexible ones, the widest first. Pure.

    The first of them is left at `_MIN_NAME` until the others have given what they can.
    """
    fitted = list(widths)
    for least_of_first in (_MIN_NAME, _MIN_CELL):
        while room is not None and _total(fitted) > room:
            able = [i for i in flexible if fitted[i] > (least_of_first if i == flexible[0] else _MIN_CELL)]
            if not able:
                break
            fitted[max(able, key=lambda i: fitted[i])] -= 1
    return fitted


def _row(cells: Sequence[str], colour: str | None = None) -> str:
    last = len(cells) - 1
    return GAP.join(paint(cell.rstrip() if i == last else cell, colour) for i, cell in enumerate(cells)).rstrip()


def shorten(text: str, size: int) -> str:
    """At most `size` characters; the middle goes, because both ends of a job's name say which it is."""
    if len(text) <= size:
        return text
    tail = (size - 1) // 2
    return f"{text[: size - 1 - tail]}…{text[len(text) - tail :]}"


def brief(text: str) -> str:
    """What a text says first, where it is one of many; `show` has the whole."""
    first = text.strip().partition("\n")[0]
    return first if len(first) <= _BRIEF else f"{first[: _BRIEF - 1]}…"


def pairs(facts: Mapping[str, object]) -> None:
    """Print names and values, without those that are None or empty."""
    shown = {name: value for name, value in facts.items() if value is not None and value != ""}
    indent = max(map(len, shown), default=0) + len(GAP)
    room = width()
    for name, value in shown.items():
        text = clean(value)
        # What is copied, such as a path, is not broken.
        first, *more = [text] if room is None or " " not in text else wrap(text, room - indent)
        say(f"{paint(name, 'bold')}{' ' * (indent - len(name))}{paint(first)}")
        for line in more:
            say(f"{' ' * indent}{line}")


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


def moments(texts: Sequence[str]) -> list[str]:
    """Times for a column: in a pipe as they are, on a terminal the time of the day, and the date if it changes."""
    if not is_terminal():
        return list(texts)
    one_day = len({text[:10] for text in texts}) <= 1
    return [_time_of_day(text, one_day) for text in texts]


def _time_of_day(text: str, alone: bool) -> str:
    if text[10:11] != "T":  # what a damaged file says
        return text
    return text[11:23] if alone else f"{text[5:10]} {text[11:19]}"


def count(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
