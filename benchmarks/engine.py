#!/usr/bin/env python3
"""The engine alone, without Airflow's tasks: submitting, starting and ending jobs that do nothing, and long queues.

    python -m benchmarks.engine --rounds 5 --json engine.json

Beside it HyperQueue (`pip install hyperqueue==0.27`) and task-spooler (`apt install task-spooler`), if they are there,
each started by this script and in turns with Air-Executor. The cost of the executor's `sync` needs Airflow installed.
Works in a temporary directory, and ends and removes all of it. The 100,000 jobs of the longest queue take 2 GiB for a
while.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from air_executor import model, spool, store, testing
from air_executor.client import AirExecutorClient
from air_executor.paths import Home
from air_runner import scheduling
from benchmarks import rivals

BATCH = 1000
"""Jobs that are submitted at once."""
REPEATS = 20
"""How often a thing is done that takes no time."""
PAUSE = 0.02
"""Seconds between looks whether all is over, so that looking costs nothing."""
PATIENCE = 600.0

Figures = dict[str, list[float]]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1000, help="of one `true` in each round (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=2000, help="of one job in each round (default: %(default)s)")
    parser.add_argument("--backlog", default="10,1000,100000", help="waiting jobs (default: %(default)s)")
    parser.add_argument(
        "--in-flight", default="10,1000,10000", help="jobs that Airflow waits for (default: %(default)s)"
    )
    parser.add_argument("--only", help="of the systems air, hyperqueue, task-spooler (default: all that are there)")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that what was started is ended
    figures: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="air-engine-", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        _in_turns(_systems(options), options, root, figures)
        if not options.only or "air" in options.only.split(","):
            queue, sync = figures.setdefault("waiting jobs", {}), figures.setdefault("in flight", {})
            for count in map(int, options.backlog.split(",")):
                _measure_backlog(root / f"backlog-{count}", count, queue, sync)
            for count in map(int, options.in_flight.split(",")):
                _measure_sync(root / f"sync-{count}", count, sync)
    _tell(figures)
    if options.json is not None:
        options.json.write_text(json.dumps({"cores": os.cpu_count(), "figures": figures}, indent=1) + "\n")
    return 0


def _systems(options: argparse.Namespace) -> dict[str, Callable[[Path], rivals.System]]:
    known: dict[str, Callable[[Path], rivals.System]] = {
        "air": Air,
        "hyperqueue": rivals.HyperQueue,
        "task-spooler": rivals.TaskSpooler,
    }
    missing = {name: why for name, why in rivals.missing().items() if not options.only or name in options.only}
    for name, why in missing.items():
        print(f"without {name}: {why}")
    wanted = options.only.split(",") if options.only else known
    return {name: known[name] for name in wanted if name not in missing}


def _in_turns(
    systems: dict[str, Callable[[Path], rivals.System]],
    options: argparse.Namespace,
    root: Path,
    figures: dict[str, Figures],
) -> None:
    for number in range(options.rounds):
        for name, system in systems.items():
            place = root / f"{name}-{number}"
            place.mkdir()
            with contextlib.closing(system(place)) as running:
                for what, value in _measure(running, options):
                    figures.setdefault(name, {}).setdefault(what, []).append(value)
                    print(number + 1, name, what, f"{value:.4g}", flush=True)


def _measure(system: rivals.System, options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Rates by the second and times in milliseconds."""
    system.run_jobs(REPEATS)  # everything is imported then
    if isinstance(system, Air):
        yield from system.submitting()
    starts = sorted(seconds * 1000 for seconds in system.starts(REPEATS * 3))
    yield "submission to start, p50 ms", statistics.median(starts)
    yield "submission to start, p95 ms", starts[int(len(starts) * 0.95)]
    yield "`true` jobs/s", _rate(options.jobs, system.run_jobs)
    yield "`true` tasks of one job/s", _rate(options.tasks, system.run_tasks)


def _rate(count: int, act: Callable[[int], None]) -> float:
    began = time.perf_counter()
    act(count)
    return count / (time.perf_counter() - began)


class Air:
    """A runner with its own settings, on a home of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.home = root, Home(root / "home")
        self.client = AirExecutorClient(self.home.root)
        self.runner = testing.RunnerProcess(self.home, ["--linger", "600"], output=root / "runner.out")
        self._number = 0
        self._over: list[str] = []

    def close(self) -> None:
        testing.end_everything(self.home, self.runner)
        assert all(store.read(self.home, name).state is model.JobState.COMPLETED for name in self._over)

    def submitting(self) -> Iterator[tuple[str, float]]:
        """Into a queue that nobody serves."""
        yield "submitted one by one, durable, jobs/s", _rate(200, self._submit_each)
        yield (
            f"submitted by {BATCH}, durable, jobs/s",
            _rate(BATCH, lambda count: self._submit(count, queue="unserved")),
        )

    def _submit_each(self, count: int) -> None:
        for _ in range(count):
            self.client.submit(self._submission(queue="unserved"))

    def starts(self, count: int) -> Iterator[float]:
        """Seconds from the call of a submission, which is durable when it returns, to the first thing the job does."""
        for _ in range(count):
            submission = self._submission("/bin/date", ["+%s.%N"])
            began = time.time()
            self.client.submit(submission)
            self.client.wait(submission.job.name, PATIENCE)
            yield float(self.client.logs(submission.job.name)) - began
            time.sleep(PAUSE)

    def run_jobs(self, count: int) -> None:
        names = self._submit(count)
        waiting, claims = self.home.queue(model.DEFAULT_QUEUE), self.home.claims(self.runner.id)
        while not (_is_empty(waiting) and _is_empty(claims)):
            time.sleep(PAUSE)
        self._over += names

    def run_tasks(self, count: int) -> None:
        submission = self._submission()
        submission.tasks = [model.Task("true") for _ in range(count)]
        self.client.submit(submission)
        assert self.client.wait(submission.job.name, PATIENCE).state is model.JobState.COMPLETED

    def _submit(self, count: int, **options: str) -> list[str]:
        names: list[str] = []
        while len(names) < count:
            batch = [self._submission(**options) for _ in range(min(BATCH, count - len(names)))]
            assert not store.submit_batch(self.home, batch)
            names += [each.job.name for each in batch]
        return names

    def _submission(
        self, command: str = "true", args: list[str] | None = None, queue: str = model.DEFAULT_QUEUE
    ) -> store.Submission:
        self._number += 1
        return store.Submission(model.Job(f"job-{self._number:06}", queue=queue), [model.Task(command, args or [])])


def _is_empty(directory: Path) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


# --- What must not cost more when there are many ---


def _measure_backlog(root: Path, count: int, figures: Figures, sync: Figures) -> None:
    """One more job, and the next claim, beside so many that wait. Medians, in milliseconds."""
    home, client = Home(root), AirExecutorClient(root)
    store.ensure_home(home)
    home.claims("bench").mkdir()
    for start in range(0, count, BATCH):
        names = [f"job-{number:06}" for number in range(start, min(count, start + BATCH))]
        store.submit_batch(home, [store.Submission(model.Job(name), [model.Task("true")]) for name in names])
    backlog = scheduling.Backlog()
    began = time.perf_counter()
    backlog.replace(spool.waiting(home, model.DEFAULT_QUEUE))
    figures.setdefault(f"look at all of them, {count} waiting, ms", []).append((time.perf_counter() - began) * 1000)
    more = [store.Submission(model.Job(f"more-{number}"), [model.Task("true")]) for number in range(REPEATS * 5)]
    _note(figures, f"submit one more, {count} waiting, ms", client.submit, more)
    claims = range(min(REPEATS, count))
    _note(figures, f"claim the next, {count} waiting, ms", lambda _: _claim_next(home, backlog), claims)
    for what, value in _sync_cost(root, 10).items():
        sync.setdefault(f"sync, {what}, 10 in flight, {count} waiting, ms", []).append(value)


def _note(figures: Figures, what: str, act: Callable[..., object], arguments: object) -> None:
    assert isinstance(arguments, (list, range))
    figures.setdefault(what, []).append(statistics.median(_timed(act, each) for each in arguments))


def _timed(act: Callable[..., object], argument: object) -> float:
    began = time.perf_counter()
    act(argument)
    return (time.perf_counter() - began) * 1000


def _claim_next(home: Home, backlog: scheduling.Backlog) -> None:
    marker = backlog.pop()
    assert marker is not None and spool.claim(home, marker, "bench")


def _measure_sync(root: Path, count: int, figures: Figures) -> None:
    for what, value in _sync_cost(root, count).items():
        figures.setdefault(f"sync, {what}, {count} in flight, ms", []).append(value)


def _sync_cost(root: Path, count: int) -> dict[str, float]:
    """In a process of its own: Airflow reads its home when it is imported."""
    argv = [sys.executable, "-m", "benchmarks.sync_cost", str(root), "--in-flight", str(count)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        print("without the cost of sync:", done.stderr.strip().splitlines()[-1:])
        return {}
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _tell(figures: dict[str, Figures]) -> None:
    """Medians."""
    systems = [name for name in ("air", "hyperqueue", "task-spooler") if name in figures]
    names = list(dict.fromkeys(name for system in systems for name in figures[system]))
    print(f"\n{'medians':42}", *(f"{system:>14}" for system in systems))
    for name in names:
        print(f"{name:42}", *(_median(figures[system].get(name)) for system in systems))
    for group in ("waiting jobs", "in flight"):
        for name, values in figures.get(group, {}).items():
            print(f"{name:58}", *(f"{value:10.3f}" for value in values))


def _median(values: list[float] | None) -> str:
    return f"{statistics.median(values):14.1f}" if values else " " * 14


if __name__ == "__main__":
    sys.exit(main())
