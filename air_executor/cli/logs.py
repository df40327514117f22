"""`logs`: what the tasks of a job wrote, also while they write it.

`--json` prints one line {"task", "text"} for every piece, in the order in which it was read.

Following means looking at the sizes of the files, at once while they grow and with growing pauses while they do not:
a watch would not see what another host writes to a shared filesystem.
"""

from __future__ import annotations

import argparse
import codecs
import json
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from air_executor.cli import arguments, lookup, output
from air_executor.errors import CorruptFileError, NotFoundError, WaitTimeoutError

if TYPE_CHECKING:
    from air_executor import model
    from air_executor.client import AirExecutorClient

_FIRST_PAUSE, _LAST_PAUSE, _GROWTH = 0.02, 0.3, 1.3
_CHUNK = 1 << 16


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.add_command(
        commands,
        "logs",
        run,
        help="print what the tasks of a job wrote",
        examples=("air-executor logs nightly -f", "air-executor logs nightly task-2 -n 100"),
    )
    parser.add_argument("job", metavar="JOB", help="a job's name, the start of it, or its id")
    parser.add_argument("task", metavar="TASK", nargs="?", help="only this task (default: all of them)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job is over")
    parser.add_argument("-n", "--lines", type=arguments.whole, metavar="N", help="only the last lines of each task")


def run(args: argparse.Namespace) -> int:
    """Print, and follow if asked to."""
    client = lookup.open_client(args)
    name = lookup.find_job(client.home, args.job)
    if args.follow:
        follow(client, name, args.task, lines=args.lines, as_json=args.json)
        return 0
    tails = _tails(client, name, args.task, args.lines)
    _print_new(tails, _Printer(len(tails) > 1, args.json), last=True)
    if not any(tail.path.is_file() for tail in tails):
        output.note(f"the job {name} is {client.get_job(name).state} and has written nothing yet")
    return 0


def follow(
    client: AirExecutorClient,
    name: str,
    task: str | None = None,
    *,
    lines: int | None = None,
    as_json: bool = False,
    timeout: float | None = None,
) -> model.Job:
    """Print what a job writes until it is over.

    Raises:
        WaitTimeoutError: it is not over after `timeout` seconds.
    """
    tails = _tails(client, name, task, lines)
    printer = _Printer(len(tails) > 1, as_json)
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        job = client.get_job(name)  # before the files are read: what is written before its end is then there
        grown = _print_new(tails, printer, last=job.state.terminal)
        output.flush()
        if job.state.terminal:
            return job
        if deadline is not None and time.monotonic() >= deadline:
            raise WaitTimeoutError(
                f"the job {name} is still {job.state} after {round(timeout or 0, 2):g} s; it goes on"
            )
        client.yield_to(job)
        pause = _FIRST_PAUSE if grown else min(_LAST_PAUSE, pause * _GROWTH)
        time.sleep(pause)


class _Tail:
    """A log file and how much of it was read."""

    def __init__(self, task: str, path: Path, lines: int | None) -> None:
        self.task = task
        self.path = path
        self.offset = 0
        self.rest = b""
        """The beginning of a line whose end is not written yet."""
        if lines is not None and path.is_file():
            with path.open("rb") as file:
                self.offset = last_lines(file, lines)

    def read(self) -> Iterator[bytes]:
        """What is new."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):  # one would wait for the other end of a fifo
            return
        size = found.st_size
        with self.path.open("rb") as file:
            if size < self.offset:
                self.offset, self.rest = _begin_again(file), b""
            file.seek(self.offset)
            while self.offset < size and (data := file.read(min(_CHUNK, size - self.offset))):
                self.offset += len(data)
                yield data


def _begin_again(file: IO[bytes]) -> int:
    """Where to go on in a log that is shorter than it was: cut off at a limit, which its last line says, or anew."""
    from air_executor import cuts

    last = last_lines(file, 1)
    file.seek(last)
    return last if file.read(len(cuts.NOTICE)) == cuts.NOTICE.encode() else 0


def last_lines(file: IO[bytes], lines: int) -> int:
    """Where the last `lines` lines begin; reads from the end, because a log may be large."""
    end = position = file.seek(0, 2)
    while position > 0:
        start = max(0, position - _CHUNK)
        file.seek(start)
        data = file.read(position - start)
        at = len(data)
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            if start + at + 1 == end:  # the newline that ends the last line separates it from nothing
                continue
            lines -= 1
            if lines == 0:
                return start + at + 1
        position = start
    return 0


class _Printer:
    """Writes pieces of logs; those of several tasks line by line, with the task before each."""

    def __init__(self, several: bool, as_json: bool) -> None:
        self._several = several
        self._json = as_json
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    def write(self, tail: _Tail, data: bytes, *, last: bool) -> None:
        """Print what can be printed; a line that is not whole waits, unless it is the last."""
        if self._json:
            decoder = self._decoders.setdefault(tail.task, codecs.getincrementaldecoder("utf-8")("replace"))
            if text := decoder.decode(data, last):
                output.say(json.dumps({"task": tail.task, "text": text}))
        elif not self._several:
            sys.stdout.buffer.write(data)
        else:
            *lines, tail.rest = (tail.rest + data).split(b"\n")
            if last and tail.rest:
                lines, tail.rest = [*lines, tail.rest], b""
            for line in lines:
                sys.stdout.buffer.write(tail.task.encode() + b" | " + line + b"\n")


def _tails(client: AirExecutorClient, name: str, task: str | None, lines: int | None) -> list[_Tail]:
    paths = client.home.job(name)
    try:
        ids = [each.id for each in client.get_tasks(name)]
    except CorruptFileError as error:
        output.note_error(error)
        ids = sorted(path.stem for path in paths.logs.glob("*.log"))
    if task is not None and task not in ids:
        raise NotFoundError(f"the job {name} has no task {task}; it has {', '.join(ids[:10])}")
    return [_Tail(each, paths.log(each), lines) for each in ids if task in (None, each)]


def _print_new(tails: list[_Tail], printer: _Printer, *, last: bool) -> bool:
    grown = False
    sys.stdout.flush()  # what was said as text goes before what is written as bytes
    for tail in tails:
        for data in tail.read():
            printer.write(tail, data, last=False)
            grown = True
        if last:
            printer.write(tail, b"", last=True)
    return grown
