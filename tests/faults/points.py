"""The points of an operation: each call that it makes in the home. What comes of it if that is the last, or fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults import operations, tracing, world
from tests.faults.operations import Operation
from tests.faults.tracing import Call, Ended, Injection

TRIES = 60
"""A run may make its calls in another order than the one before, on a busy machine in another one each time."""

ERRORS = ("ENOSPC", "EIO", "EACCES", "EMFILE", "EINTR")
OPENING = ("EACCES", "EMFILE")
INTERRUPTIBLE = (*tracing.OPENS, "write", "fsync", "flock")
WITHOUT_SPACE = ("unlink", "unlinkat", "rmdir", "flock", "fsync")
"""Calls that need no room on the disk; fsync may need some on other filesystems, and says EIO where it matters."""


@dataclass(frozen=True)
class Point:
    """A call of an operation."""

    operation: str
    call: Call
    phase: str
    """The operation, or `finish` for what is done in it after the body."""

    def __str__(self) -> str:
        return f"{self.phase}: {self.call.text} ({self.call.occurrence})"


def plan(name: str) -> list[Point]:
    """All points of an operation, from a run in which nothing happens to it."""
    operation = operations.BY_NAME[name]
    with world.new_world() as place:
        operation.prepare(place)
        ended = tracing.run(place.home.root, lambda: operation.act(place))
        assert ended.code == 0, ended.errors
        _check(operation, place, ended)
    finish = operation.finishing and _end_of_body(ended.calls)
    return [
        Point(name, call, name if not finish or index < finish else f"finish{name.removeprefix('run')}")
        for index, call in enumerate(ended.calls)
    ]


def _end_of_body(calls: Sequence[Call]) -> int:
    """The event that the last task is over is the last but one; that of the job comes after it."""
    events = [index for index, call in enumerate(calls) if call.name == "write" and "events.jsonl" in call.text]
    return events[-2]


def kill_points(points: Sequence[Point]) -> list[Point]:
    """A call that fails changes nothing: to be killed before it or before the next is the same."""
    return [point for point in points if not point.call.failed]


def try_kill(point: Point) -> str | None:
    """Kill the operation just before a call of its; what is wrong then, or None."""
    operation = operations.BY_NAME[point.operation]
    call = point.call
    for _ in range(TRIES):
        with world.new_world() as place:
            operation.prepare(place)
            ended = tracing.run(place.home.root, lambda: operation.act(place), Injection(call, "signal=KILL"))
            if ended.code is None and _identities(ended.hit) == _identities([call]):
                return _judge(operation, place, ended)
            call = _find(ended, call)
    return f"was not hit in {TRIES} runs; hit at last: {_identities(ended.hit)}"


def possible_errors(call: Call) -> list[str]:
    """Which errors a call can give."""
    if call.name == tracing.END:
        return []
    given = [error for error in ERRORS if error not in (*OPENING, "EINTR")]
    if call.name in (*tracing.OPENS, "mkdir", "rename", "unlink", "unlinkat", "rmdir"):
        given.append("EACCES")
    if call.name in tracing.OPENS:
        given.append("EMFILE")
    if call.name in INTERRUPTIBLE:
        given.append("EINTR")
    return [error for error in given if error != "ENOSPC" or call.name not in WITHOUT_SPACE]


def everything(points: Sequence[Point]) -> list[tuple[Point, str]]:
    """Every error of every call."""
    return [(point, error) for point in points for error in possible_errors(point.call)]


def select(points: Sequence[Point]) -> list[tuple[Point, str]]:
    """Each call on each file with one of its errors, in turn, and each error of each call at least once."""
    distinct = list({(point.phase, point.call.text): point for point in reversed(points)}.values())
    chosen = []
    for number, point in enumerate(distinct):
        if errors := possible_errors(point.call):
            chosen.append((point, errors[number % len(errors)]))
    seen = {(point.call.name, error) for point, error in chosen}
    for point in points:
        for error in possible_errors(point.call):
            if (point.call.name, error) not in seen:
                seen.add((point.call.name, error))
                chosen.append((point, error))
    return chosen


def try_error(case: tuple[Point, str]) -> str | None:
    """Let a call fail; what is wrong then, or None. It must be said, nothing be lost, and a second try succeed."""
    point, error = case
    operation = operations.BY_NAME[point.operation]
    call = point.call
    for _ in range(TRIES):
        with world.new_world() as place:
            operation.prepare(place)
            ended = tracing.run(place.home.root, lambda: operation.act(place), Injection(call, f"error={error}"))
            if _identities(ended.hit) == _identities([call]):
                return _wrong_answer(operation, ended) or _judge(operation, place, ended)
            call = _find(ended, call)
    return f"was not hit in {TRIES} runs; hit at last: {_identities(ended.hit)}"


def _wrong_answer(operation: Operation, ended: Ended) -> str | None:
    """People get one line that says what and where."""
    if ended.code == 0 or not operation.for_people:
        return None
    lines = ended.errors.splitlines()
    if len(lines) != 1 or not lines[0].startswith("air-executor: ") or "/" not in lines[0]:
        return f"exit code {ended.code}, and it said {ended.errors!r}"
    return None


def _judge(operation: Operation, place: world.World, ended: Ended) -> str | None:
    try:
        _check(operation, place, ended)
    except Exception as error:
        return f"exit code {ended.code}: {type(error).__name__}: {error}; it said {ended.errors[-300:]!r}"
    return None


def _check(operation: Operation, place: world.World, ended: Ended) -> None:
    operation.recover(place)
    operation.expect(place, ended)
    world.check(place)


def _identities(calls: Sequence[Call]) -> list[tuple[str, int]]:
    return [(call.text, call.occurrence) for call in calls]


def _find(ended: Ended, call: Call) -> Call:
    """The same call, which had another number this time."""
    return next((each for each in ended.calls if _identities([each]) == _identities([call])), call)
