"""The nastiest damages, each with a name: contents of JSON files that are none, and things in place of files."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Nasty:
    """One way to damage the file at a path; `apply` is given the path of the other job's file, too."""

    name: str
    apply: Callable[[Path, Path], None]
    kept: bool = True
    """Whether there is something left to keep."""


# --- Contents ---


def _written(name: str, change: Callable[[bytes], bytes]) -> Nasty:
    return Nasty(name, lambda path, _: path.write_bytes(change(path.read_bytes())) and None)


def _upto(token: bytes, number: int, *, after: bool) -> Callable[[bytes], bytes]:
    def cut(raw: bytes) -> bytes:
        position = -1
        for _ in range(number):
            position = raw.index(token, position + 1)
        return raw[: position + (len(token) if after else 0)]

    return cut


def contents() -> Iterator[Nasty]:
    """What may be in any file instead of a JSON object."""
    yield _written("empty", lambda _: b"")
    yield _written("blanks", lambda _: b" \n\t\n")
    yield _written("zeros", lambda raw: b"\0" * len(raw))
    yield _written("zeros at the end", lambda raw: raw[:-20] + b"\0" * 20)
    yield _written("half", lambda raw: raw[: len(raw) // 2])
    yield _written("without its last bracket", lambda raw: raw.rstrip()[:-1])
    for token in (b"{", b'"', b":", b",", b"\n"):
        yield _written(f"up to {token!r}", _upto(token, 3 if token != b"{" else 1, after=False))
        yield _written(f"up to after {token!r}", _upto(token, 3 if token != b"{" else 1, after=True))
    yield _written("not UTF-8", lambda raw: raw.replace(b'"state"', b'"\xff\xfe"').replace(b'"tasks"', b'"\xc3\x28"'))
    yield _written("twice", lambda raw: raw + raw)
    yield _written("a conflict", lambda raw: b"<<<<<<< ours\n" + raw + b"=======\n" + raw + b">>>>>>> theirs\n")
    yield _written("a page", lambda _: b"<!DOCTYPE html><title>502 Bad Gateway</title>")
    yield _written("the start of another file", lambda raw: b"\x7fELF\2\1\1" + raw)
    yield _written("deep", lambda _: b"[" * 200_000)
    yield _written("deep objects", lambda _: b'{"a":' * 5000 + b"1" + b"}" * 5000)
    yield _written("a number of 5,000 digits", lambda raw: raw.replace(b": 1,", b": " + b"9" * 5000 + b",", 1))
    for text in ("null", "true", "7", '"text"', "[]", "{}", "NaN"):
        yield _written(f"only {text}", lambda _, text=text: text.encode())  # type: ignore[misc]


def _changed(place: str, value: Any) -> Nasty:
    keys = [int(key) if key.isdigit() else key for key in place.split(".")]

    def change(raw: bytes) -> bytes:
        document = holder = json.loads(raw)
        for key in keys[:-1]:
            holder = holder[key]
        holder[keys[-1]] = value
        return json.dumps(document).encode("utf-8", "surrogatepass")

    return _written(f"{place} = {value!r:.40}", change)


def values_of_state() -> Iterator[Nasty]:
    """What state.json never says of any job."""
    huge = int("9" * 400)
    for place, odd in {
        "name": ["", "..", "../../../tmp/evil", "another", 7, None, "x" * 5000, "a\0b"],
        "state": ["", "sleeping", 7, None, [], "WAITING"],
        "queue": ["../..", "", "a/b", 7, None, "q" * 5000],
        "priority": [1e308, "high", True, huge],
        "nice": [99, "0"],
        "created_at": ["yesterday", "", 0, "99999-01-01T00:00:00Z"],
        "attempt": ["1", -1.5, huge],
        "labels": [[], "x", {"a": 1}],
        "timeout": [-1, 0, "soon", float("inf")],
        "exit": [[], "x", {"kind": "bad"}, {}],
        "usage": ["much"],
        "template": [7],
    }.items():
        yield from (_changed(place, value) for value in odd)


def values_of_process() -> Iterator[Nasty]:
    """What state.json never says of a process."""
    for value in (0, -1, -(2**31), 1.5, True, None, "1", 2**31, 2**63, int("9" * 400), [], {}):
        yield _changed("runner.pid", value)
    for place, odd in {
        "runner.start_time": ["", None, 1e400, -1.5],
        "runner.host": [7, None],
        "runner.runner": ["../..", 7, ""],
        "runner": [7, [], "x", {}],
    }.items():
        yield from (_changed(place, value) for value in odd)


def values_of_tasks() -> Iterator[Nasty]:
    """What tasks.json never says."""
    for place, odd in {
        "tasks": [{}, "x", None, 7, [], [7], [[]], [None]],
        "job_name": ["another", 7, "../.."],
        "tasks.0": [{}, [], {"id": "t"}],
        "tasks.0.job_name": ["another", "../../evil"],
        "tasks.0.id": ["", "../../../evil", 7, "x" * 5000],
        "tasks.0.command": ["", 7, None, [], "a\0b"],
        "tasks.0.args": ["x", 7, [7], {"a": 1}],
        "tasks.0.dependencies": [["missing"], ["task-1"], "x"],
        "tasks.0.status": ["", "sleeping", 7],
        "tasks.0.env": [[], {"A": 7}, {"": "x"}, {"A=B": "x"}],
        "tasks.0.timeout": [-1, "soon"],
        "tasks.0.cwd": [7],
    }.items():
        yield from (_changed(place, value) for value in odd)


def swapped() -> Nasty:
    """The file of another job."""
    return Nasty("another job's", lambda path, other: shutil.copy(other, path) and None)


# --- Things that are no files ---


def make_directory(path: Path) -> None:
    path.mkdir()
    (path / "content").touch()


def make_socket(path: Path) -> None:
    """A socket has room for a short path only."""
    back = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.fchdir(back)
        os.close(back)


ODD: dict[str, Callable[[Path], None]] = {
    "directory": make_directory,
    "fifo": os.mkfifo,
    "socket": make_socket,
    "loop": lambda path: path.symlink_to(path),
    "nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
    "device": lambda path: path.symlink_to("/dev/zero"),
}


def things() -> Iterator[Nasty]:
    """What may be in place of any file."""
    for name, make in ODD.items():

        def replace(path: Path, _: Path, make: Callable[[Path], None] = make) -> None:
            """Again if whoever owns the file has just written it anew."""
            while True:
                path.unlink(missing_ok=True)
                try:
                    make(path)
                except OSError as error:
                    if error.errno not in (errno.EEXIST, errno.EADDRINUSE):
                        raise
                else:
                    return

        yield Nasty(f"a {name}", replace)
    yield Nasty("missing", lambda path, _: path.unlink(missing_ok=True), kept=False)


def link_to_another() -> Nasty:
    """A link to the same file of another job."""

    def link(path: Path, other: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(other)

    return Nasty("a link to another job's", link)


NAMES = ("x", "..x", "no name", "a\nb", "-", "n" * 250, "é", os.fsdecode(b"\xff\xfe"))
"""Of files, as nobody of us gives them."""


def litter(directory: Path) -> None:
    """Put everything into a directory that does not belong there."""
    directory.mkdir(exist_ok=True)
    for name in NAMES:
        (directory / name).touch()
    for name, make in ODD.items():
        make(directory / f"odd-{name}")
