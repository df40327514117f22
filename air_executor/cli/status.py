"""`status`: whether everything runs, and what is going on.

`--json` prints what `air_executor.health.Status.to_dict` returns: {"status", "problems", "home", "at", "exists",
"start", "components", "runners", "queues", "slurm", "working", "failures", "settings": what is wrong with config.toml,
"given_up": how many events each webhook did not take}, and "version". The exit code is 0 healthy,
1 degraded, 2 not running.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from air_executor import __version__
from air_executor.cli import arguments, listing, lookup, output

if TYPE_CHECKING:
    from air_executor.health import JobStatus, QueueStatus, Status
    from air_executor.slurm.standing import Standing

_TEXT = """\
Show whether everything runs, and what is going on: the parts of Airflow that
start-dev.sh started, runners, queues, working jobs and the latest failures.

The exit code is 0 if all is healthy, 1 if it is degraded (something that
should be up is down, jobs wait in a queue that nobody serves, a runner died
with jobs in its hands, Slurm does not answer or will never start a job,
config.toml has a mistake, a webhook did not take an event), 2 if nothing runs."""

REFUSALS_SHOWN = 5
_CLEAR = "\x1b[H\x1b[2J"


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.add_command(
        commands,
        "status",
        run,
        help="show whether everything runs, and what is going on",
        text=_TEXT,
        examples=("air-executor status", "air-executor status --watch", "air-executor status --json"),
    )
    parser.add_argument("--start-with", help=argparse.SUPPRESS)  # status.sh: what starts a runner there
    parser.add_argument(
        "--watch",
        nargs="?",
        type=arguments.seconds,
        const=2.0,
        metavar="SECONDS",
        help="show it again and again (default: every 2 s) until Ctrl-C",
    )


def run(args: argparse.Namespace) -> int:
    """Show it once, or again and again."""
    from air_executor import status

    home = lookup.find_home(args)
    while True:
        found = status.gather(home, args.start_with)
        if args.watch is not None and output.obeys():
            output.say(_CLEAR)
        if args.json:
            output.say_json({**found.to_dict(), "version": __version__})
        else:
            _show(found)
        output.flush()
        if args.watch is None:
            return found.verdict.exit_code
        time.sleep(max(0.1, args.watch))


def _show(found: Status) -> None:
    verdict = output.paint(found.verdict.value)
    output.say(f"{output.paint('Air-Executor', 'bold')} {__version__} at {output.clean(found.home)}: {verdict}")
    for problem in found.problems:
        # Not wrapped: it may end with a command, which one copies as a whole.
        output.say(f"  {output.paint('!', 'yellow')} {output.clean(problem)}")
    for show in (_components, _runners, _queues, _slurm):
        show(found)
    _jobs("WORKING JOB", found.working, _working_row, ("QUEUE", "FOR", "RUNNER"))
    _jobs("LATEST FAILURE", found.failures, _failure_row, ("AGO", "WHY"))


def _components(found: Status) -> None:
    if found.components:
        output.say()
        rows = [(each.name, each.state, each.pid, each.url or each.log) for each in found.components]
        output.table(("COMPONENT", "STATE", "PID", "WHERE"), rows, flexible=("WHERE",))


def _runners(found: Status) -> None:
    if found.runners:
        output.say()
        rows = [
            (
                each.id,
                each.state,
                each.host,
                ",".join(each.queues),
                f"{each.working}/{each.slots}",
                f"{output.duration(each.heartbeat_age)} ago",
                each.version,
            )
            for each in found.runners
        ]
        headers = ("RUNNER", "STATE", "HOST", "QUEUES", "WORKING", "HEARTBEAT", "VERSION")
        output.table(headers, rows, flexible=("RUNNER", "HOST", "QUEUES"))


def _queues(found: Status) -> None:
    if found.queues:
        output.say()
        show_queues(found.queues)


def show_queues(found: Sequence[QueueStatus]) -> None:
    """Print queues, and where one is paused by whom and why."""
    rows = [
        (
            each.name,
            each.waiting,
            output.duration(each.oldest_age),
            output.count(each.served_by, "runner") if each.served_by else "no runner serves it",
            each.paused,
        )
        for each in found
    ]
    headers = ["QUEUE", "WAITING", "OLDEST", "SERVED BY"]
    if any(each.paused for each in found):
        output.table([*headers, "PAUSED"], rows, flexible=("QUEUE", "PAUSED"), wrapped="PAUSED")
    else:
        output.table(headers, [row[:-1] for row in rows], flexible=("QUEUE",))


def _slurm(found: Status) -> None:
    if not found.slurm:
        return
    output.say()
    held = any(each.held_on for each in found.slurm)
    headers = ["SLURM, OF RUNNER", "ANSWERS", "TO SUBMIT", "WAITING", "RUNNING", *(["OVER, BUT HELD"] if held else [])]
    rows = [
        (each.runner, _answers(each), each.to_submit, each.waiting, each.running, *((each.held_on,) if held else ()))
        for each in found.slurm
    ]
    output.table(headers, rows, flexible=headers[:2], notes=[_notes(each) for each in found.slurm])
    _slurm_details([each for each in found.slurm if each.alive])


def _answers(standing: Standing) -> str:
    if not standing.alive or standing.answers is None:
        return standing.sentence
    if standing.answers:
        return f"{standing.sentence}, {output.duration(listing.between(standing.answered_at, None))} ago"
    since = standing.trouble_since
    return standing.sentence + (f", for {output.duration(listing.between(since, None))}" if since else "")


def _notes(standing: Standing) -> list[str]:
    from air_executor.slurm.standing import HELD_ON

    return [f"of {output.count(standing.held_on, 'job')}: {HELD_ON}"] if standing.held_on else []


def _slurm_details(found: Sequence[Standing]) -> None:
    from air_executor.slurm.standing import group

    waits = [(wait.says, wait.jobs, "no" if wait.stuck else "") for each in found for wait in each.waits]
    if waits:
        output.say()
        output.table(("WAITING IN SLURM, AS", "JOBS", "PASSES"), waits, flexible=("WAITING IN SLURM, AS",))
    pilots = [(each.name, each.queue, each.id, each.state, each.node) for all_ in found for each in all_.pilots]
    if pilots:
        output.say()
        output.table(("PILOT", "QUEUE", "SLURM JOB", "STATE", "NODE"), pilots, flexible=("PILOT", "QUEUE", "NODE"))
    refusals = [
        (each.job, each.queue, count, output.duration(listing.between(each.at, None)), each.why)
        for each, count in group(refusal for all_ in found for refusal in all_.refusals)
    ]
    if refusals:
        output.say()
        headers = ("DID NOT START IN SLURM", "QUEUE", "TIMES", "AGO", "WHY")
        output.table(headers, refusals[:REFUSALS_SHOWN], flexible=(headers[0], "QUEUE", "WHY"), wrapped="WHY")


def _working_row(job: JobStatus) -> tuple[object, ...]:
    return (job.name, job.queue, output.duration(job.age), job.runner)


def _failure_row(job: JobStatus) -> tuple[object, ...]:
    return (job.name, output.duration(job.age), output.brief(job.reason))


def _jobs(
    title: str, jobs: Sequence[JobStatus], row: Callable[[JobStatus], tuple[object, ...]], headers: Sequence[str]
) -> None:
    from air_executor import status

    if jobs:
        shown = jobs[: status.WORKING_SHOWN]
        output.say()
        output.table((title, *headers), [row(job) for job in shown], flexible=(title, headers[-1]))
        if len(jobs) > len(shown):
            output.say(f"and {len(jobs) - len(shown)} more")
