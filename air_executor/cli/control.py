"""`cancel`, `retry` and `wait`: what one does to jobs by name.

Each takes several jobs. What cannot be done with one is said, and the others are still done; the exit code is that of
the first error. `--json` prints a list of {"job_name", "id", "state", "attempt", "exit"}.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from air_executor.cli import arguments, lookup, output
from air_executor.errors import AirExecutorError, JobBusyError, WaitTimeoutError

if TYPE_CHECKING:
    from air_executor import model
    from air_executor.client import AirExecutorClient
    from air_executor.paths import Home

CANCELLED = 9
MOMENT = 0.5
"""Seconds that `cancel` waits in all for the ends of jobs that have not begun."""

_WAIT_TEXT = """\
Wait until jobs are over. The exit code is 0 if all completed, 1 if one failed,
9 if one was cancelled, 124 if one is not over after --timeout."""


def add(commands: arguments.Commands) -> None:
    """Add the commands."""
    cancel = arguments.add_command(
        commands,
        "cancel",
        run_cancel,
        help="stop jobs",
        examples=("air-executor cancel nightly", 'air-executor cancel nightly --why "wrong input" --wait'),
    )
    _add_jobs(cancel)
    cancel.add_argument("--why", default="", metavar="TEXT", help="kept in the job's history")
    cancel.add_argument("--wait", action="store_true", help="return when they are over")
    retry = arguments.add_command(
        commands,
        "retry",
        run_retry,
        help="start jobs that are over once more, as a new attempt",
        examples=("air-executor retry nightly", "air-executor retry nightly --keep-completed"),
    )
    _add_jobs(retry)
    retry.add_argument("--why", default="retried", metavar="TEXT", help="kept in the job's history")
    retry.add_argument(
        "--keep-completed", action="store_true", help="do not run tasks again that completed, nor lose their results"
    )
    wait = arguments.add_command(
        commands,
        "wait",
        run_wait,
        help="wait until jobs are over",
        text=_WAIT_TEXT,
        examples=("air-executor wait nightly --timeout 1h && echo done",),
    )
    _add_jobs(wait)
    wait.add_argument("--timeout", type=arguments.seconds, metavar="TIME", help="for all of them together")


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="a job's name, the start of it, or its id")


def exit_code(job: model.Job) -> int:
    """What a command that waited for the job returns."""
    return {"completed": 0, "cancelled": CANCELLED}.get(job.state.value, 1)


def note_unserved(home: Home, queue: str, what: str = "waits") -> bool:
    """Say that a job of this queue waits in vain, if no runner takes it; returns whether it was said."""
    from air_executor import remedies, runners

    if not runners.unserved(home, [queue]):
        return False
    remedy = remedies.find(home, queue)
    advice = remedy.advice[0].upper() + remedy.advice[1:]
    output.note(f"no live runner serves the queue {queue}{remedy.why}; the job {what}. {advice}: {remedy.fix}")
    return True


def note_waiting(home: Home, queue: str) -> bool:
    """Say why a job of this queue does not start soon, if that is known; returns whether it was said."""
    from air_executor import pauses

    if (paused := pauses.describe(home, queue)) is None:
        return note_unserved(home, queue)
    output.note(f"the job waits: {paused}")
    return True


def run_cancel(args: argparse.Namespace) -> int:
    """Ask for the end of jobs."""
    client = lookup.open_client(args)
    deadline = time.monotonic() + MOMENT

    def cancel(name: str) -> model.Job:
        if (before := client.get_job(name)).state.terminal and before.state != "cancelled":
            raise JobBusyError(f"the job {name} is over already: {before.state}")
        job = client.cancel(name, why=args.why)
        if before.state == "waiting" and not job.state.terminal and not args.wait:  # a runner has it for Slurm
            with contextlib.suppress(WaitTimeoutError):
                job = client.wait(name, max(0.0, deadline - time.monotonic()))
        if not job.state.terminal:
            note_unserved(client.home, job.queue, "is stopped when one starts")
        return client.wait(name) if args.wait else job

    return _for_each(client, args, cancel, lambda job: "cancelled" if job.state == "cancelled" else "is asked to stop")


def run_retry(args: argparse.Namespace) -> int:
    """New attempts."""
    client = lookup.open_client(args)

    def retry(name: str) -> model.Job:
        return client.retry(name, why=args.why, keep_completed=args.keep_completed)

    return _for_each(client, args, retry, lambda job: f"waiting, attempt {job.attempt}")


def run_wait(args: argparse.Namespace) -> int:
    """Wait for all; a failed job counts more than a cancelled one."""
    client = lookup.open_client(args)
    deadline = None if args.timeout is None else time.monotonic() + args.timeout
    ended: list[model.Job] = []
    said: set[str] = set()

    def wait(name: str) -> model.Job:
        job = client.get_job(name)
        if job.state == "waiting" and job.queue not in said and note_waiting(client.home, job.queue):
            said.add(job.queue)
        job = client.wait(name, None if deadline is None else max(0.0, deadline - time.monotonic()))
        ended.append(job)
        return job

    def describe(job: model.Job) -> str:
        return f"{job.state}: {job.exit.reason}" if job.exit and job.state != "completed" else job.state.value

    error = _for_each(client, args, wait, describe)
    codes = [exit_code(job) for job in ended]
    return error or (1 if 1 in codes else max(codes, default=0))


def _for_each(
    client: AirExecutorClient,
    args: argparse.Namespace,
    act: Callable[[str], model.Job],
    describe: Callable[[model.Job], str],
) -> int:
    done: list[dict[str, Any]] = []
    code = 0
    for text in args.jobs:
        try:
            job = act(lookup.find_job(client.home, text))
        except AirExecutorError as error:
            output.note_error(error)
            code = code or error.exit_code
            continue
        done.append(_facts(job))
        if not args.json:
            output.say(f"{job.name} {output.clean(describe(job))}")
            output.flush()
    if args.json:
        output.say_json(done)
    return code


def _facts(job: model.Job) -> dict[str, Any]:
    from air_executor import model

    outcome = model.to_dict(job.exit) if job.exit else None
    return {"job_name": job.name, "id": job.id, "state": job.state.value, "attempt": job.attempt, "exit": outcome}
