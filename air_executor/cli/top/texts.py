"""What `top` says beside its tables: the help, one job, its log, and the hints below. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import chop_cells

from air_executor.cli import output, show
from air_executor.cli.top import facts

Span = tuple[str, str]
"""Text, and its style: a colour, `bold`, `reverse`, or words of these; empty for none."""
Line = tuple[Span, ...]

_HINTS = {
    "list": ("Enter details", "l log", "c cancel", "r retry", "/ filter", "s state", "Tab panel"),
    "job": ("Escape back", "l log", "c cancel", "r retry", "j/k scroll"),
    "log": ("Escape back", "f follow", "g/G start/end", "c cancel", "r retry"),
    "help": ("Escape back", "j/k scroll"),
}
FILTER_HINT = "words, queue=NAME, state=WORD, runner=ID"

KEYS = (
    ("Moving", ""),
    ("Up, Down, k, j", "one row or line"),
    ("Page Up, Page Down, b, Space", "one page"),
    ("Home, End, g, G", "to the first or the last"),
    ("Tab", "to the next panel: jobs, runners, queues"),
    ("Enter", "details of the job; the jobs of the runner or queue"),
    ("Escape", "back; in the list: show all jobs again"),
    ("", ""),
    ("Choosing", ""),
    ("/", f"show only some jobs: {FILTER_HINT}"),
    ("s", "show only one state: waiting, working, ... , all"),
    ("", ""),
    ("Doing; each asks first", ""),
    ("c", "cancel the job"),
    ("r", "run the job again, if it is over"),
    ("d", "drain the runner: it takes no more jobs"),
    ("u", "resume the runner"),
    ("+, -", "give the runner more slots, or fewer"),
    ("p", "pause the queue, or resume it"),
    ("", ""),
    ("Reading", ""),
    ("l", "the log of the job, as it grows"),
    ("f", "in the log: to its end, and follow"),
    ("q, Ctrl-C", "quit"),
)
_INDENT = 30


def hints(view: str, width: int) -> str:
    """As many keys as there is room for; how to learn of the others, and how to leave, always."""
    shown = ["? help", "q quit"]
    for hint in _HINTS[view]:
        longer = [*shown[:-1], hint, shown[-1]]
        if len("  ".join(longer)) <= width:
            shown = longer
    return "  ".join(shown)


def help_lines(width: int) -> list[Line]:
    """All keys."""
    lines: list[Line] = []
    for keys, meaning in KEYS:
        if not meaning:
            lines.append(((keys, "bold"),))
            continue
        room = max(10, width - _INDENT)
        for i, text in enumerate(textwrap.wrap(meaning, room)):
            lines.append((((keys if i == 0 else "").ljust(_INDENT), "blue"), (text, "")))
    return lines


def title(view: str, subject: str, found: facts.Snapshot, follow: bool) -> str:
    """What the view shows."""
    if view == "help":
        return "Keys"
    if view == "job":
        return f"Job {subject}"
    log = found.log if found.log and found.log.job == subject else None
    if log is None:
        return f"Log of {subject}"
    how = "following" if follow and not _is_over(log.state) else log.state
    return f"Log of {subject} ({how}{', only its end' if log.cut else ''})"


def _is_over(state: str) -> bool:
    return state in ("completed", "failed", "cancelled")


def log_lines(log: facts.Log | None, width: int) -> list[Line]:
    """The log, its long lines broken."""
    if log is None:
        return [(("reading ...", "grey"),)]
    if not log.lines:
        return [((f"the job is {log.state} and has written nothing yet", "grey"),)]
    return [((piece, ""),) for line in log.lines for piece in _pieces(line, width)]


def _pieces(line: str, width: int) -> list[str]:
    """The line in pieces of so many columns, of which some characters take two."""
    return [line] if len(line) * 2 <= width else chop_cells(line, width) or [""]


def _wrap(text: str, width: int, **options: Any) -> list[str]:
    """As `textwrap.wrap`, which counts characters."""
    return [piece for line in textwrap.wrap(text, width, **options) for piece in _pieces(line, width)]


def job_lines(details: facts.Details | None, at: float, width: int) -> list[Line]:
    """A job with its tasks and its history, as `show` has it."""
    if details is None:
        return [(("reading ...", "grey"),)]
    lines = list(_pairs(details, width))
    if details.problem:
        lines += [((piece, "red"),) for piece in _wrap(details.problem, width)]
    if details.tasks:
        headers, rows = show.task_table(details.tasks[: show.SHOWN])
        notes = [show.task_notes(task) for task in details.tasks[: show.SHOWN]]
        lines += [(), *_table(headers, rows, ("TASK", "AFTER", "COMMAND"), width, notes)]
        lines += _more(len(details.tasks), "task")
    if details.events:
        headers, rows = show.history(details.events[-show.SHOWN :])
        lines += [(), *_table(headers, rows, ("AT", "WHAT", "WHY"), width)]
        lines += _more(len(details.events), "event")
    return lines


def _more(number: int, noun: str) -> list[Line]:
    more = f"it has {output.count(number, noun)}; air-executor show --all shows them"
    return [((more, "grey"),)] if number > show.SHOWN else []


def _pairs(details: facts.Details, width: int) -> Iterator[Line]:
    known = {
        **show.job_facts(details.job),
        "in slurm": details.slurm,
        "waits": details.waits,
        "directory": details.directory,
    }
    shown = {name: output.clean(value) for name, value in known.items() if value is not None and value != ""}
    indent = max(map(len, shown)) + 2
    for name, value in shown.items():
        for i, text in enumerate(_wrap(value, max(10, width - indent), break_on_hyphens=False)):
            yield (((name if i == 0 else "").ljust(indent), "bold"), (text, output.colour_of(text)))


def _table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    flexible: Sequence[str],
    width: int,
    notes: Sequence[Sequence[str]] = (),
) -> Iterator[Line]:
    """The last column goes on below."""
    cells = [[output.clean("" if cell is None else cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    sizes = output.fit(widths, [headers.index(name) for name in flexible if name in headers], width)
    yield tuple((header.ljust(size) + output.GAP, "bold") for header, size in zip(headers, sizes, strict=True))
    for number, row in enumerate(cells):
        pieces = _wrap(row[-1], max(10, sizes[-1]), max_lines=4, placeholder=" …") or [""]
        shown = [(output.shorten(cell, size).ljust(size), cell) for cell, size in zip(row[:-1], sizes, strict=False)]
        yield (*((f"{text}{output.GAP}", output.colour_of(cell)) for text, cell in shown), (pieces[0], ""))
        for piece in pieces[1:]:
            yield ((" " * (sum(sizes[:-1]) + len(output.GAP) * (len(sizes) - 1)) + piece, ""),)
        for note in notes[number] if notes else ():
            yield from (((f"    {text}", "grey"),) for text in _wrap(output.clean(note), max(10, width - 4)))
