"""The lines of the screen: from what was found and what somebody looks at to text with styles. Pure.

In a low window the tables give up their rows before the jobs do, in a narrow one columns are left out that say least.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass

from air_executor import __version__
from air_executor.cli import output
from air_executor.cli.top import facts, states, texts
from air_executor.cli.top.states import State
from air_executor.cli.top.texts import Line, Span

MIN_WIDTH, MIN_HEIGHT = 40, 8
_WIDE = 50
"""From so many columns on there is room for what is good to know."""
_NEVER = 10**6
_HIGH = 22
"""From so many lines on there are empty ones between the tables."""
_FIXED = 2
"""Lines that are always there: the first and the last."""


@dataclass(frozen=True)
class Size:
    """Of the window, in columns and lines."""

    width: int
    height: int


@dataclass(frozen=True)
class Table:
    """One panel: what could be shown, before it is known how much of it fits."""

    name: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    flexible: Sequence[str]
    note: str = ""
    """Said beside the headers."""


def draw(state: State, found: facts.Snapshot, size: Size) -> list[Line]:
    """All lines of the window, from the top."""
    if size.width < MIN_WIDTH or size.height < MIN_HEIGHT:
        return [_plain(f"too small: {MIN_WIDTH}x{MIN_HEIGHT} at least")][: size.height]
    if not found.at:
        return [_plain("looking ...", "grey"), *[()] * (size.height - 1)]
    body = _list(state, found, size) if state.view == "list" else _text(state, found, size)
    room = size.height - _FIXED
    return [_top(found, size.width), *body[:room], *[()] * (room - len(body)), _bottom(state, found, size.width)]


def page_size(size: Size) -> int:
    """How many lines a large step has."""
    return max(1, size.height - _FIXED - 1)


def _plain(text: str, style: str = "") -> Line:
    return ((text, style),)


def _top(found: facts.Snapshot, width: int) -> Line:
    verdict = found.status.verdict.value
    clock = time.strftime("%H:%M:%S", time.localtime(found.at)) if width >= _WIDE else ""
    head = f"Air-Executor {__version__} "
    home = output.shorten(found.status.home, max(8, width - len(head) - len(verdict) - len(clock) - 5))
    used = len(head) + len(home) + 2 + len(verdict)
    return (
        (head, "bold"),
        (f"{home}: ", ""),
        (verdict, output.colour_of(verdict)),
        (clock.rjust(width - used), "grey"),
    )


def _bottom(state: State, found: facts.Snapshot, width: int) -> Line:
    if state.question is not None:
        return _plain(output.shorten(state.question.question, width), "bold yellow")
    if state.typed is not None:
        return _prompt(state.typed, width)
    if state.message:
        return _plain(output.shorten(state.message, width), "yellow")
    if found.trouble:
        return _plain(output.shorten(f"this look was in vain: {found.trouble}", width), "red")
    note = _note(state, found) if state.view == "list" else ""
    hints = texts.hints(state.view, width - len(note) - 2)
    return ((hints, "grey"), (note.rjust(width - len(hints)), "bold" if state.wanted != facts.EVERYTHING else "grey"))


def _prompt(typed: str, width: int) -> Line:
    """What is being typed, of which the end is seen, and what can be."""
    label = "filter: "
    shown = typed[-max(1, width - len(label) - 1) :]
    left = width - len(label) - len(shown) - 1
    hint = f"  {texts.FILTER_HINT}"
    return ((f"{label}{shown}", "bold"), (" ", "reverse"), (hint if len(hint) <= left else "", "grey"))


# --- The list ---


def _list(state: State, found: facts.Snapshot, size: Size) -> list[Line]:
    gap = 1 if size.height >= _HIGH else 0
    room = size.height - _FIXED
    lines = _problems(found.status.problems, size.width, most=max(2, room // 5))
    tables = [_runners(found, size.width), _queues(found, size.width), _jobs(state, found, size.width)]
    heights = share(room - len(lines) - 3 - 3 * gap, [len(table.rows) for table in tables], _focus(state, tables))
    for table, height in zip(tables, heights, strict=True):
        lines += [()] * gap + _table(state, table, height, size.width, found)
    return lines


def _focus(state: State, tables: Sequence[Table]) -> int:
    return next(i for i, table in enumerate(tables) if table.name == state.panel)


def share(room: int, wanted: Sequence[int], focus: int) -> list[int]:
    """How many rows each table has. The last, that of the jobs, has what the others leave, which is half at least."""
    room = max(0, room)
    given: list[int] = []
    for i, rows in enumerate(wanted[:-1]):
        most = room // 2 if i == focus else max(1, room // 5)
        given.append(min(rows, most, room - sum(given)))
    return [*given, room - sum(given)]


def _problems(problems: Sequence[str], width: int, most: int) -> list[Line]:
    lines = [
        (("! " if i == 0 else "  ", "bold red"), (text, "yellow"))
        for problem in problems
        for i, text in enumerate(textwrap.wrap(output.clean(problem), width - 2, max_lines=3, placeholder=" …"))
    ]
    if len(lines) <= most:
        return list(lines)
    left = len(lines) - most + 1
    return [*lines[: most - 1], _plain(f"  … {output.count(left, 'more line')}: air-executor status", "yellow")]


def _table(state: State, table: Table, height: int, width: int, found: facts.Snapshot) -> list[Line]:
    """The headers, and as many rows as there is room for, the one with the cursor among them."""
    names = states.names(state, table.name, found)
    cursor = states.position(state, table.name, names)
    start = window(cursor, len(table.rows), height)
    shown = table.rows[start : start + height]
    widths = output.fit(
        [max(map(len, column)) for column in zip(table.headers, *shown, strict=True)],
        [table.headers.index(name) for name in table.flexible],
        width,
    )
    focused = table.name == state.panel
    note = table.note
    if len(table.rows) > len(shown):
        note = f"{start + 1}-{start + len(shown)} of {len(table.rows)}"
    lines = [_headers(table.headers, widths, focused, note, width)]
    for i, row in enumerate(shown):
        lines.append(_row(row, widths, width, selected=focused and start + i == cursor))
    return lines


def window(cursor: int, rows: int, height: int) -> int:
    """The first of the rows that are shown, so that the cursor is in the middle where it can be."""
    return max(0, min(cursor - height // 2, rows - height))


def _headers(headers: Sequence[str], widths: Sequence[int], focused: bool, note: str, width: int) -> Line:
    text = _columns(headers, widths).rstrip()
    left = width - len(text) - 2
    said = note if len(note) <= left else ""
    return ((text, "bold reverse" if focused else "bold"), (said.rjust(width - len(text)), "grey"))


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    return output.GAP.join(output.shorten(cell, size).ljust(size) for cell, size in zip(cells, widths, strict=True))


def _row(row: Sequence[str], widths: Sequence[int], width: int, *, selected: bool) -> Line:
    if selected:
        return _plain(_columns(row, widths).ljust(width)[:width], "reverse")
    spans: list[Span] = []
    for cell, size in zip(row, widths, strict=True):
        spans.append((f"{output.shorten(cell, size).ljust(size)}{output.GAP}", output.colour_of(cell)))
    return tuple(spans)


def _select(columns: Sequence[tuple[int, str, str]], width: int) -> tuple[list[str], list[str]]:
    """Of columns (the least width of a window that has it, header, cell) those that there is room for."""
    shown = [(header, cell) for least, header, cell in columns if width >= least]
    return [header for header, _ in shown], [cell for _, cell in shown]


def _build(
    name: str, headers: Sequence[str], rows: Sequence[Sequence[str]], flexible: Sequence[str], note: str = ""
) -> Table:
    cells = [[output.clean(cell) for cell in row] for row in rows]
    return Table(name, headers, cells, [each for each in flexible if each in headers], note)


def _runners(found: facts.Snapshot, width: int) -> Table:
    rows = []
    for runner in found.status.runners:
        columns = (
            (0, "RUNNER", runner.id),
            (0, "STATE", runner.state),
            (_WIDE, "HOST", runner.host),
            (0, "QUEUES", ",".join(runner.queues)),
            (0, "SLOTS", f"{runner.working}/{runner.slots}"),
            (0, "BEAT", f"{output.duration(runner.heartbeat_age)}"),
            (100, "PID", str(runner.pid)),
            (110, "VERSION", runner.version),
        )
        headers, cells = _select(columns, width)
        rows.append(cells)
    if not rows:
        return _build("runners", ("RUNNER",), (), (), "no runner is there")
    return _build("runners", headers, rows, ("RUNNER", "HOST", "QUEUES"))


def _queues(found: facts.Snapshot, width: int) -> Table:
    rows: list[list[str]] = []
    headers = ["QUEUE", "WAITING", "OLDEST", "SERVED BY"]
    some_paused = any(queue.paused for queue in found.status.queues)
    for queue in found.status.queues:
        served = output.count(queue.served_by, "runner") if queue.served_by else "nobody"
        columns = (
            (0, "QUEUE", queue.name),
            (0, "WAITING", str(queue.waiting)),
            (0, "OLDEST", output.duration(queue.oldest_age) or "-"),
            (0, "SERVED BY", "paused" if queue.paused else served),
            (76 if some_paused else _NEVER, "WHY", str(queue.paused or "")),
        )
        headers, cells = _select(columns, width)
        rows.append(cells)
    return _build("queues", headers, rows, ("QUEUE", "WHY"))


def _jobs(state: State, found: facts.Snapshot, width: int) -> Table:
    jobs = facts.jobs_of(found, state.wanted)
    rows: list[list[str]] = []
    headers: list[str] = ["JOB"]
    for job in jobs:
        columns = (
            (0, "JOB", job.name),
            (0, "STATE", job.state),
            (0, "QUEUE", job.queue),
            (0, "SINCE", output.duration(max(0.0, found.at - job.since))),
            (76, "TOOK", output.duration(job.took)),
            (120, "RUNNER", job.runner),
            (90, "WHY", job.why),
        )
        headers, cells = _select(columns, width)
        rows.append(cells)
    return _build("jobs", headers, rows, ("JOB", "QUEUE", "RUNNER", "WHY"))


def _note(state: State, found: facts.Snapshot) -> str:
    """Which jobs are shown, and how many there are."""
    only = output.shorten(" ".join(filter(None, (state.state, state.filter))), 24)
    unread = f"{found.unread} to be read" if found.unread else ""
    return ", ".join(filter(None, (f"only {only}" if only else "", unread, output.count(found.total, "job"))))


# --- Text: a job, its log, the help ---


def body(state: State, found: facts.Snapshot, width: int) -> list[Line]:
    """The whole text of a view, of which a window shows a part."""
    if state.view == "help":
        return texts.help_lines(width)
    if state.view == "log":
        return texts.log_lines(found.log if found.log and found.log.job == state.subject else None, width)
    details = found.details if found.details and found.details.job.name == state.subject else None
    return texts.job_lines(details, found.at, width)


def _text(state: State, found: facts.Snapshot, size: Size) -> list[Line]:
    lines, room = body(state, found, size.width), page_size(size)
    last = max(0, len(lines) - room)
    start = last if state.follow else min(state.scroll, last)
    place = f"{min(start + room, len(lines))}/{len(lines)}" if last else ""
    title = texts.title(state.view, state.subject, found, state.follow)
    used = len(title) + len(place) + 2
    if used > size.width:
        title = output.shorten(title, max(8, size.width - len(place) - 2))
    return [((title, "bold"), (place.rjust(size.width - len(title)), "grey")), *lines[start : start + room]]
