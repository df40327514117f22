"""`logs`: what the tasks of a job wrote, also while they write it; and what was written beside it, where Slurm ran it.

`--json` prints one line {"task", "text"} for every piece, in the order in which it was read.

Following means looking at the sizes of the files, at once while they grow and with growing pauses while they do not:
a watch would not see what another host writes to a shared filesystem.
"""

from __future__ import annotations

import argparse
import codecs
import json
import sys
import time
from typing import TYPE_CHECKING

from air_executor.cli import arguments, lookup, output
from air_executor.errors import CorruptFileError, InvalidInputError, NotFoundError, WaitTimeoutError

if TYPE_CHECKING:
    from air_executor import model
    from air_executor.cli.tails import Tail
    from air_executor.client import AirExecutorClient

_FIRST_PAUSE, _LAST_PAUSE, _GROWTH = 0.02, 0.3, 1.3


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.add_command(
        commands,
        "logs",
        run,
        help="print what the tasks of a job wrote",
        examples=(
            "air-executor logs nightly -f",
            "air-executor logs nightly task-2 -n 100",
            "air-executor logs nightly --slurm",
        ),
    )
    parser.add_argument("job", metavar="JOB", help="a job's name, the start of it, or its id")
    parser.add_argument("task", metavar="TASK", nargs="?", help="only this task (default: all of them)")
    parser.add_argument(
        "--slurm", action="store_true", help="what Slurm and the batch script said on the node, instead of the tasks"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job is over")
    parser.add_argument("-n", "--lines", type=arguments.whole, metavar="N", help="only the last lines of each task")


def run(args: argparse.Namespace) -> int:
    """Print, and follow if asked to."""
    client = lookup.open_client(args)
    name = lookup.find_job(client.home, args.job)
    if args.slurm and args.task is not None:
        raise InvalidInputError("--slurm is of the job as a whole; leave out TASK")
    if args.follow:
        follow(client, name, args.task, lines=args.lines, as_json=args.json, slurm=args.slurm)
        return 0
    tails = _slurm_tails(client, name, args.lines) if args.slurm else _tails(client, name, args.task, args.lines)
    _print_new(tails, _Printer(len(tails) > 1, args.json), last=True)
    if any(tail.path.is_file() for tail in tails):
        return 0
    there = [] if args.slurm else _slurm_tails(client, name, args.lines)
    if any(tail.path.is_file() for tail in there):
        output.note(f"no task of the job {name} has written anything yet; this is what was said on its node (--slurm)")
        _print_new(there, _Printer(len(there) > 1, args.json), last=True)
    else:
        output.note(_silence(client.get_job(name)))
    return 0


def _silence(job: model.Job) -> str:
    """Of a job that has written nothing; one that is over will not."""
    if not job.state.terminal:
        return f"the job {job.name} is {job.state} and has written nothing yet"
    why = f": {job.exit.reason}" if job.exit is not None and job.exit.reason and job.state != "completed" else ""
    return f"the job {job.name} is {job.state} and wrote nothing{why}"


def follow(
    client: AirExecutorClient,
    name: str,
    task: str | None = None,
    *,
    lines: int | None = None,
    as_json: bool = False,
    timeout: float | None = None,
    slurm: bool = False,
) -> model.Job:
    """Print what a job writes until it is over.

    Args:
        slurm: what is said on its node, instead of what its tasks write.

    Raises:
        WaitTimeoutError: it is not over after `timeout` seconds.
    """
    tails = _slurm_tails(client, name, lines) if slurm else _tails(client, name, task, lines)
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


class _Printer:
    """Writes pieces of logs; those of several tasks line by line, with the task before each."""

    def __init__(self, several: bool, as_json: bool) -> None:
        self._several = several
        self._json = as_json
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    def write(self, tail: Tail, data: bytes, *, last: bool) -> None:
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
            prefix = output.paint(f"{tail.task} |", "blue").encode()
            for line in lines:
                sys.stdout.buffer.write(prefix + b" " + line + b"\n")


def _tails(client: AirExecutorClient, name: str, task: str | None, lines: int | None) -> list[Tail]:
    from air_executor.cli.tails import Tail

    paths = client.home.job(name)
    try:
        ids = [each.id for each in client.get_tasks(name)]
    except CorruptFileError as error:
        output.note_error(error)
        ids = sorted(path.stem for path in paths.logs.glob("*.log"))
    if task is not None and task not in ids:
        raise NotFoundError(f"the job {name} has no task {task}; it has {', '.join(ids[:10])}")
    return [Tail(each, paths.log(each), lines) for each in ids if task in (None, each)]


def _slurm_tails(client: AirExecutorClient, name: str, lines: int | None) -> list[Tail]:
    """What was said on the node; of an element of a job array, Slurm's own words are in a file beside it."""
    from air_executor.cli.tails import Tail
    from air_executor.slurm import record

    job = client.get_job(name)
    return [
        Tail(title, path, lines) for title, path in zip(("node", "slurm"), record.logs(client.home, job), strict=False)
    ]


def _print_new(tails: list[Tail], printer: _Printer, *, last: bool) -> bool:
    grown = False
    sys.stdout.flush()  # what was said as text goes before what is written as bytes
    for tail in tails:
        for data in tail.read():
            printer.write(tail, data, last=False)
            grown = True
        if last:
            printer.write(tail, b"", last=True)
    return grown
