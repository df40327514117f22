"""`runner start | stop | drain | resume | list`; `runner set`, `show` and `preload` are in modules of their own.

`--json` prints one object for a runner that was started, and a list of {"id", "state", "host", "pid", "queues",
"slots", "working", "heartbeat_age", "version", "launcher", "embedded", "in_slurm"} for `list`; the others print
{"id", "action"}.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from air_executor.cli import arguments, lookup, output, preload, steer
from air_executor.errors import WaitTimeoutError

if TYPE_CHECKING:
    from air_executor import runners
    from air_executor.paths import Home
    from air_executor.sightings import Sightings

_START_TEXT = """\
Start a runner: it watches the queues and runs their jobs.

In the foreground it writes its log to the terminal too. The first SIGTERM or
Ctrl-C drains it: it claims nothing more and ends after its jobs; the second
stops the jobs. With --handover a SIGTERM ends it at once, and its jobs go on
under the next runner of this host. With --detach it runs on its own, and this
command returns when it is ready. What is not given is taken from the
environment (AIR_EXECUTOR_RUNNER_SLOTS ...), then from config.toml."""

_STOP_TEXT = """\
Ask a runner to end: it claims nothing more, and ends after its jobs. With
--handover it ends at once, its jobs go on, and the next runner of this host
takes them over. With --now it stops its jobs. Returns when it is gone."""

_LAST_PAUSE = 0.3


def add(commands: arguments.Commands) -> None:
    """Add the commands."""
    parser = commands.add_parser("runner", help="start, stop and look at runners", description="Runners.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    _add_start(actions)
    _add_stop(actions)
    for name, text in (("drain", "let a runner claim nothing more"), ("resume", "let a drained runner claim again")):
        each = arguments.add_command(actions, name, run_tell, help=text, examples=(f"air-executor runner {name} big",))
        each.add_argument("id", metavar="ID", nargs="?", help="the runner, or the start of its id")
        arguments.add_why(each)
    steer.add(actions)
    arguments.add_command(actions, "list", run_list, help="show the runners", examples=("air-executor runner list",))
    preload.add(actions)


def _add_start(actions: arguments.Commands) -> None:
    parser = arguments.add_command(
        actions,
        "start",
        run_start,
        help="start a runner",
        text=_START_TEXT,
        examples=(
            "air-executor runner start",
            "air-executor runner start --detach --name big --queues big,default --slots 4",
        ),
    )
    parser.add_argument("--detach", action="store_true", help="let it run on its own, and return when it is ready")
    parser.add_argument("--name", help="what it is called; made from the host's name if not given")
    parser.add_argument("--queues", metavar="A,B", help="the queues it serves")
    parser.add_argument("--slots", metavar="N", help="how many jobs run at once")
    parser.add_argument(
        "--preload", action="append", metavar="MODULE", help="keep a template with this module warm; may be repeated"
    )
    parser.add_argument(
        "--launcher", choices=arguments.LAUNCHERS, metavar="L", help="how ephemeral runners begin: %(choices)s"
    )
    parser.add_argument(
        "--handover",
        action="store_true",
        default=None,
        help="on SIGTERM, leave the jobs to the next runner instead of waiting for them",
    )
    parser.add_argument("--grace", metavar="SECONDS", help="between TERM and KILL of what is stopped (default: 10)")
    parser.add_argument(
        "--metrics-port", metavar="PORT", help="serve metrics for Prometheus on this port (default: not at all)"
    )
    parser.add_argument("--metrics-host", metavar="ADDRESS", help="and on this address (default: 127.0.0.1)")
    parser.add_argument("--linger", metavar="SECONDS", help="end after this time with nothing to do (default: never)")


def _add_stop(actions: arguments.Commands) -> None:
    parser = arguments.add_command(
        actions,
        "stop",
        run_stop,
        help="let a runner end after its jobs, or at once",
        text=_STOP_TEXT,
        examples=("air-executor runner stop", "air-executor runner stop big --now"),
    )
    parser.add_argument("id", metavar="ID", nargs="?", help="the runner (default: the only one)")
    parser.add_argument("--all", action="store_true", help="every runner of the home")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--handover", action="store_true", help="leave its jobs to the next runner, and end at once")
    how.add_argument("--now", action="store_true", help="stop its jobs too")
    arguments.add_why(parser)
    parser.add_argument("--no-wait", action="store_true", help="return at once")
    parser.add_argument("--timeout", type=arguments.seconds, metavar="TIME", help="wait no longer than this")


def run_start(args: argparse.Namespace) -> int:
    """Become the runner, or start one that is detached."""
    from air_executor import runners, settings, store, validation

    home = lookup.find_home(args)
    store.ensure_home(home)
    if args.name is not None:
        validation.check_name("the runner", args.name)
    names = ("queues", "slots", "preload", "launcher", "grace", "linger", "handover", "metrics_port", "metrics_host")
    flags = {name: getattr(args, name) for name in names}
    checked = settings.override(settings.load(home).runner, flags)  # an error here is clearer than one in a log
    given = {name: getattr(checked, name) for name, value in flags.items() if value is not None}
    options = runners.StartOptions(name=args.name, **given)
    if not args.detach:
        output.flush()
        words = options.argv(home)
        os.execv(words[0], words)  # noqa: S606
    info = runners.read(home, runners.start_detached(home, options))
    if args.json:
        output.say_json(facts(info))
    else:
        slots = output.count(info.slots, "slot")
        output.say(f"the runner {info.id} serves {', '.join(info.queues)} with {slots}, in {home.root}")
    return 0


def run_stop(args: argparse.Namespace) -> int:
    """Ask for the end of runners, and wait for it."""
    from air_executor import runners
    from air_executor.slurm import standing

    home = lookup.open_home(args)
    seen = runners.observe(home)
    infos = runners.alive_runners(home, seen) if args.all else [lookup.find_runner(home, args.id, seen)]
    action = "abort" if args.now else "handover" if args.handover else "stop"
    for info in infos:
        runners.tell(home, info.id, action, seen, why=args.why)
    deadline = None if args.timeout is None else time.monotonic() + args.timeout
    for info in infos:
        if not args.no_wait:
            _wait_gone(home, info, seen, deadline)
        _report(args, info.id, "is asked to stop" if args.no_wait else "has stopped")
        if not args.no_wait and not args.json and (left := standing.read_left(home, info.id)):
            output.say(standing.stay(home, left))
    return 0


def _wait_gone(home: Home, info: runners.RunnerInfo, seen: Sightings, deadline: float | None) -> None:
    pause = 0.02
    while _is_there(home, info, seen):
        if deadline is not None and time.monotonic() >= deadline:
            raise WaitTimeoutError(f"the runner {info.id} is not gone yet; it ends after its jobs (--now stops them)")
        time.sleep(pause)
        pause = min(_LAST_PAUSE, pause * 1.3)


def _is_there(home: Home, info: runners.RunnerInfo, seen: Sightings) -> bool:
    """By its process; of another host by its file, which is removed at the end, and by its heartbeats."""
    from air_executor import processes, runners

    alive = processes.is_alive(info.process)
    if alive is not None:
        return alive
    return any(seen.is_alive(each) for each in runners.all_runners(home) if each.process == info.process)


def run_tell(args: argparse.Namespace) -> int:
    """Drain or resume."""
    from air_executor import runners

    home = lookup.open_home(args)
    seen = runners.observe(home)
    info = lookup.find_runner(home, args.id, seen)
    runners.tell(home, info.id, args.action, seen, why=args.why)
    _report(args, info.id, f"is asked to {args.action}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    """Every runner that has a file."""
    from air_executor import runners

    home = lookup.open_home(args)
    seen = runners.observe(home)
    found = [_listed(home, info, seen.is_alive(info)) for info in runners.all_runners(home)]
    if args.json:
        output.say_json(found)
        return 0
    rows = [
        (
            each["id"],
            each["state"] + (f", left {output.count(each['in_slurm'], 'job')} in Slurm" if each["in_slurm"] else ""),
            f"{each['host']}:{each['pid']}",
            ",".join(each["queues"]),
            f"{each['working']}/{each['slots']}",
            f"{output.duration(each['heartbeat_age'])} ago",
        )
        for each in found
    ]
    headers = ("RUNNER", "STATE", "PROCESS", "QUEUES", "WORKING", "HEARTBEAT")
    output.table(headers, rows, flexible=("RUNNER", "PROCESS", "QUEUES"))
    return 0


def _listed(home: Home, info: runners.RunnerInfo, alive: bool) -> dict[str, Any]:
    from air_executor.slurm import standing

    return {**facts(info, alive), "in_slurm": 0 if alive else standing.read_left(home, info.id)}


def facts(info: runners.RunnerInfo, alive: bool = True) -> dict[str, Any]:
    """A runner as `--json` prints it."""
    import dataclasses

    from air_executor import status

    state = "dead" if not alive else "draining" if info.draining else "alive"
    return dataclasses.asdict(status.runner_status(info, state, info.working))


def _report(args: argparse.Namespace, runner_id: str, what: str) -> None:
    if args.json:
        output.say_json({"id": runner_id, "action": args.action})
    else:
        output.say(f"the runner {runner_id} {what}")
