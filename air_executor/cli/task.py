"""`task add`: more tasks for a job while it runs.

`--json` prints {"job_name", "ids"}.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from air_executor.cli import arguments, lookup, output, submit
from air_executor.errors import InvalidInputError

if TYPE_CHECKING:
    from air_executor import model

_TEXT = """\
Add a task to a job that runs: one command line, or the tasks of a file as
`submit` takes it. Prints their ids once they are in the job.

Called from a task, it adds to the job of that task. A task may depend on those
that the job has already. A job that is over, or that starts nothing more
because a task failed, takes no tasks."""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("task", help="add tasks to a job that runs", description="Tasks.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    adding = arguments.add_command(
        actions,
        "add",
        run,
        help="add tasks to a job that runs",
        text=_TEXT,
        examples=(
            "air-executor task add -- python part.py 7",
            "air-executor task add --job nightly --id report --after part-1 --after part-2 -- make report",
            "air-executor task add --file more.json",
        ),
    )
    adding.usage = "air-executor task add [options] (-- COMMAND [ARGS ...] | --file FILE)"
    adding.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    adding.add_argument("--job", metavar="JOB", help="a job's name or id (default: the job that this is called from)")
    adding.add_argument("--file", metavar="FILE", help="take the tasks from a JSON file; - is standard input")
    adding.add_argument("--id", help="the task's id; made up if not given")
    adding.add_argument(
        "--after", action="append", default=[], metavar="ID", help="a task it depends on; may be repeated"
    )
    adding.add_argument(
        "--env", type=arguments.pair, action="append", default=[], metavar="K=V", help="an environment variable"
    )
    adding.add_argument("--cwd", metavar="DIR", help="the working directory (default: the current one)")
    adding.add_argument("--timeout", type=arguments.seconds, metavar="TIME", help="end the task after this time")
    adding.add_argument("--retries", type=arguments.whole, metavar="N", help="start it again so often when it fails")


def run(args: argparse.Namespace) -> int:
    """Add them and say their ids."""
    from air_executor.paths import JOB_VARIABLE

    client = lookup.open_client(args)
    job = os.environ.get(JOB_VARIABLE) if args.job is None else lookup.find_job(client.home, args.job)
    if not job:
        raise InvalidInputError("which job? this is not called from a task; give --job")
    ids = client.add_tasks(_tasks(args), job)
    if args.json:
        output.say_json({"job_name": job, "ids": ids})
    else:
        output.say("\n".join(ids))
    return 0


def _tasks(args: argparse.Namespace) -> list[model.Task]:
    tasks = submit.tasks_of(args)
    if args.id is not None and len(tasks) != 1:
        raise InvalidInputError(f"--id is for one task; {args.file} has {output.count(len(tasks), 'task')}")
    for task in tasks:
        task.id = task.id if args.id is None else args.id
        task.dependencies = [*task.dependencies, *args.after]
        task.retries = task.retries if args.retries is None else args.retries
        task.timeout = task.timeout if args.timeout is None else args.timeout
    return tasks
