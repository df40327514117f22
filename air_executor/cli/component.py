"""`component register | unregister`: for the scripts that start the parts of Airflow. Not in the help.

`--json` prints the component's {"name", "pid"}, or {"name"} after `unregister`.
"""

from __future__ import annotations

import argparse

from air_executor.cli import arguments, lookup, output
from air_executor.errors import NotFoundError


def add(commands: arguments.Commands) -> None:
    """Add the commands."""
    parser = commands.add_parser("component", description="Register what runs beside the runner.")
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    register = arguments.add_command(
        actions,
        "register",
        run_register,
        help="remember a process that should be up",
        examples=("air-executor component register scheduler --pid 4711 --log logs/scheduler.log",),
    )
    register.add_argument("name", metavar="NAME", help="such as api-server, scheduler, dag-processor, triggerer")
    register.add_argument("--pid", type=arguments.whole, required=True, metavar="P", help="its process")
    register.add_argument("--log", metavar="FILE", help="where it writes its log")
    register.add_argument("--url", metavar="URL", help="where it answers")
    unregister = arguments.add_command(
        actions,
        "unregister",
        run_unregister,
        help="forget it",
        examples=("air-executor component unregister scheduler",),
    )
    unregister.add_argument("name", metavar="NAME")


def run_register(args: argparse.Namespace) -> int:
    """Remember a process of this host."""
    from air_executor import components, processes, store

    home = lookup.find_home(args)
    store.ensure_home(home)
    process = processes.identify(args.pid)
    if not process.start_time:
        raise NotFoundError(f"there is no process {args.pid} on this host")
    components.register(home, components.Component(args.name, process, args.log, args.url))
    if args.json:
        output.say_json({"name": args.name, "pid": args.pid})
    return 0


def run_unregister(args: argparse.Namespace) -> int:
    """Forget it."""
    from air_executor import components

    components.unregister(lookup.open_home(args), args.name)
    if args.json:
        output.say_json({"name": args.name})
    return 0
