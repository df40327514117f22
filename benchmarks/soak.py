#!/usr/bin/env python3
"""One runner and many jobs of all kinds; then its memory, files, threads and children are what they were.

    python -m benchmarks.soak --jobs 10000 --json soak.json

Of twenty jobs twelve are one line that goes well; the others fail, find no command, exceed a time limit, are cancelled,
have a memory limit, run in their ephemeral runner, or kill it. Measured is at rest: before the first job, after a
warm-up (what is imported, and Python's cache of attributes, which is full after some thousand jobs, are no leaks) and
after every further thousand. Exits with 1 if the last figures are not those after the warm-up. Works in a temporary
directory, and ends and removes all of it. Linux only; needs no Airflow.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from air_executor import model, store, testing
from air_executor.model import JobState
from tests.faults import fleet, world

MEMORY_TOLERANCE = 1024
"""KiB. Of 10,000 jobs that is 105 bytes each, less than the least that anybody could forget of a job (its name, in a
set); and more than what the allocator has more or less of from one moment to the next."""

KINDS = 20
FAILING, INLINE = (3, 13), (5, 15)
KILLING, TOO_LONG, NOT_FOUND, LIMITED, CANCELLED = 7, 9, 11, 17, 19
"""Remainders of the numbers of those that are not just one line that goes well."""
SLEEPING = (TOO_LONG, CANCELLED)
INLINE_MODULE = "tests.faults.body"
MODULE = "--module"
"""In the command line of a template, before what it has preloaded."""


@dataclass(frozen=True)
class Footprint:
    """What a process holds at rest; memory in KiB."""

    rss: int
    pss: int
    uss: int
    """What the system would get back if it ended: of a forked process the only figure that is its own."""
    files: int
    threads: int
    children: int

    def changed(self, before: Footprint) -> list[str]:
        """What is not as it was. Less memory is no complaint."""
        counts = ("files", "threads", "children")
        changed = [what for what in counts if getattr(self, what) != getattr(before, what)]
        return [*changed, *(["memory"] if self.uss - before.uss > MEMORY_TOLERANCE else [])]


@dataclass(frozen=True)
class Row:
    """One measurement."""

    jobs: int
    """So many had been submitted, and were over."""
    processes: dict[str, Footprint]


def measure(process: psutil.Process) -> Footprint:
    lines = (Path("/proc") / str(process.pid) / "smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
    memory = kib["Rss"], kib["Pss"], kib["Private_Clean"] + kib["Private_Dirty"]
    return Footprint(*memory, process.num_fds(), process.num_threads(), len(process.children()))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000, help="how many after the warm-up (default: %(default)s)")
    parser.add_argument("--warm-up", type=int, default=2500, help="jobs before the count (default: %(default)s)")
    parser.add_argument("--each", type=int, default=1000, help="jobs between two measurements (default: %(default)s)")
    parser.add_argument("--slots", type=int, default=16, help="of the runner (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=20, help="give up after so long (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that what was started is ended
    with tempfile.TemporaryDirectory(prefix="air-soak-", ignore_cleanup_errors=True) as directory:
        soak = Soak(fleet.Fleet(world.World(Path(directory)), size=1, slots=options.slots), options)
        try:
            soak.run()
        finally:
            soak.runners.end()
        problems, figures = list(soak.problems()), soak.figures()
    print(figures["states"], f"{figures['seconds']} s")
    print(*(problems[:50] or ["the runner and its templates ended where they began"]), sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps({**figures, "problems": problems}, indent=1) + "\n")
    return 1 if problems else 0


# --- The jobs: twenty kinds, by the number in the name ---


def submission(of: world.World, name: str) -> store.Submission:
    """A job of the kind that its number says."""
    number, record = int(name.removeprefix("job-")) % KINDS, str(of.record)
    line, options = 'echo "$AIR_EXECUTOR_JOB" >>"$0"', {}
    if number in FAILING:
        line += "; exit 3"
    elif number == KILLING:
        line += "; kill -9 $PPID"
    elif number in SLEEPING:
        line, options = "exec sleep 60", {"timeout": 0.2} if number == TOO_LONG else {}
    elif number == LIMITED:
        options = {"memory_mb": 1000}
    task = model.Task("/bin/sh", ["-c", line, record])
    if number == NOT_FOUND:
        task = model.Task("/there/is/no/such/command")
    elif number in INLINE:
        task, options = of.inline_task(), {"template": INLINE_MODULE}
    return store.Submission(model.Job(name, notify=False, **options), [task])


def expected(name: str) -> JobState:
    """What becomes of it."""
    number = int(name.removeprefix("job-")) % KINDS
    if number == CANCELLED:
        return JobState.CANCELLED
    return JobState.FAILED if number in (*FAILING, KILLING, TOO_LONG, NOT_FOUND) else JobState.COMPLETED


class Soak:
    """A runner that is measured between rounds of jobs."""

    def __init__(self, runners: fleet.Fleet, options: argparse.Namespace) -> None:
        self.runners, self.options = runners, options
        self.home, self.client = runners.world.home, runners.world.client
        self.names: list[str] = []
        self.rows: list[Row] = []
        self.seconds = 0.0

    def run(self) -> None:
        """Rounds of jobs, each measured when it is over."""
        began = time.monotonic()
        self.runners.start()
        testing.wait_for(self.runners.all_serve, 60, "the runner")
        print(f"{'jobs':>7}  {'process':33}", *(f"{item.name:>8}" for item in fields(Footprint)))
        self._measure()
        for count in self._rounds():
            self._submit(count)
            left = self.options.minutes * 60 - (time.monotonic() - began)
            testing.wait_for(self._at_rest, left, f"the end of {len(self.names)} jobs")
            self._measure()
        self.seconds = time.monotonic() - began
        self.runners.stop()

    def _rounds(self) -> Iterator[int]:
        yield self.options.warm_up
        for done in range(0, self.options.jobs, self.options.each):
            yield min(self.options.each, self.options.jobs - done)

    def _submit(self, count: int) -> None:
        """In small batches, so that the runner notices and runs at once."""
        end = len(self.names) + count
        while (done := len(self.names)) < end:
            names = [f"job-{number:06}" for number in range(done, min(end, done + KINDS))]
            refused = store.submit_batch(self.home, [submission(self.runners.world, name) for name in names])
            assert not refused, refused
            self.names += names
            for name in names:
                if expected(name) is JobState.CANCELLED:
                    self.client.cancel(name)

    def _processes(self) -> list[psutil.Process]:
        runner = psutil.Process(self.runners.members[0].popen.pid)
        return [runner, *runner.children(recursive=True)]

    def _at_rest(self) -> bool:
        if not self.runners.at_rest():
            return False
        try:
            return all(MODULE in child.cmdline() for child in self._processes()[1:])
        except psutil.NoSuchProcess:
            return False

    def _measure(self) -> None:
        row = Row(len(self.names), {_name(process): measure(process) for process in self._processes()})
        self.rows.append(row)
        for name, found in row.processes.items():
            print(f"{row.jobs:7}  {name:33}", *(f"{value:8}" for value in asdict(found).values()), flush=True)

    def problems(self) -> Iterator[str]:
        """What is wrong with the jobs, or with what is held at the end."""
        yield from self.runners.ended_early
        for name in self.names:
            job = store.read(self.home, name)
            if job.state is not expected(name):
                yield f"{name} is {job.state}, not {expected(name)}: {job.exit and job.exit.reason}"
        first, last = self.rows[1].processes, self.rows[-1].processes
        for name in sorted({*first, *last}):
            if name not in first or name not in last:
                yield f"{name} was there only once"
            elif changed := last[name].changed(first[name]):
                yield f"{name} has other {' and '.join(changed)} than after the warm-up"

    def figures(self) -> dict[str, object]:
        """For a file."""
        states = Counter(str(store.read(self.home, name).state) for name in self.names)
        rows = [
            {"jobs": row.jobs, **{name: asdict(found) for name, found in row.processes.items()}} for row in self.rows
        ]
        return {"jobs": len(self.names), "states": states, "seconds": round(self.seconds), "rows": rows}


def _name(process: psutil.Process) -> str:
    words = process.cmdline()
    return f"template of {words[words.index(MODULE) + 1]}" if MODULE in words else "runner"


if __name__ == "__main__":
    sys.exit(main())
