"""`submit`: from a command line or a file to a job.

`--json` prints {"job_name", "id", "queue", "state"}, and with `--wait` or `--follow` also "exit", once the job is over.
With `--follow` that is the last line, after those of `logs --json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from air_executor.cli import arguments, control, lookup, output
from air_executor.errors import InvalidInputError, InvalidJobError

if TYPE_CHECKING:
    from air_executor import model, store
    from air_executor.client import AirExecutorClient

_TEXT = """\
Submit a job: one command line, or the tasks of a file. Prints the job's name.

A file holds {"tasks": [{"command": "...", "args": [...], "id": "...",
"dependencies": [ids], "env": {...}, "cwd": "...", "timeout": seconds,
"memory_mb": MiB, "output_mb": MiB, "retries": N, "retry_delay": seconds},
...]} and optionally "job_name", "queue", "priority", "labels", "nice",
"max_parallel", "on_failure" ("continue" or "stop"), "slurm" {options},
"webhooks" [names], and for all tasks together "timeout", "memory_mb" and
"output_mb".

With --wait or --follow the exit code is the job's: 0 completed, 1 failed,
9 cancelled, 124 not over after --wait-timeout. Ctrl-C ends the waiting,
not the job."""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.add_command(
        commands,
        "submit",
        run,
        help="submit a job",
        text=_TEXT,
        examples=(
            "air-executor submit -- echo hello",
            "air-executor submit --name nightly --queue big --timeout 2h -- make report",
            "air-executor submit --follow --memory-mb 2048 -- python train.py",
            "air-executor submit --file tasks.json --max-parallel 4 --wait",
            "air-executor submit --slurm partition=gpu --slurm cpus=4 -- make report",
        ),
    )
    parser.usage = "air-executor submit [options] (-- COMMAND [ARGS ...] | --file FILE)"
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--file", metavar="FILE", help="take the tasks from a JSON file; - is standard input")
    parser.add_argument("--name", help="the job's name; made up if not given")
    parser.add_argument("--queue", help="the queue (default: default)")
    parser.add_argument("--priority", type=int, metavar="P", help="higher starts first (default: 0)")
    parser.add_argument(
        "--label", type=arguments.pair, action="append", default=[], metavar="K=V", help="a label; may be repeated"
    )
    parser.add_argument(
        "--env",
        type=arguments.pair,
        action="append",
        default=[],
        metavar="K=V",
        help="an environment variable of every task; may be repeated",
    )
    parser.add_argument("--cwd", metavar="DIR", help="the tasks' working directory (default: the current one)")
    parser.add_argument("--timeout", type=arguments.seconds, metavar="TIME", help="end the job after this time")
    parser.add_argument("--memory-mb", type=int, metavar="M", help="end the job when it uses more memory (MiB)")
    parser.add_argument("--output-mb", type=int, metavar="M", help="end the job when it writes more output (MiB)")
    parser.add_argument("--nice", type=int, metavar="N", help="from -20 to 19; higher yields to others")
    parser.add_argument("--max-parallel", type=int, metavar="N", help="tasks at once (default: the host's cores)")
    parser.add_argument(
        "--on-failure",
        choices=arguments.ON_FAILURE,
        metavar="WHAT",
        help="what becomes of the other tasks: %(choices)s (default: continue)",
    )
    parser.add_argument(
        "--slurm",
        type=arguments.pair,
        action="append",
        metavar="K=V",
        help="run on Slurm, and ask for this there; may be repeated",
    )
    add_webhook(parser)
    add_waiting(parser)


def add_webhook(parser: argparse.ArgumentParser) -> None:
    """The option of every command that submits a job."""
    parser.add_argument(
        "--webhook",
        dest="webhooks",
        action="append",
        metavar="NAME",
        help="tell this webhook of the job's end; may be repeated",
    )


def add_waiting(parser: argparse.ArgumentParser) -> None:
    """The options of every command that submits a job; `start` obeys them."""
    parser.add_argument("--wait", action="store_true", help="return when the job is over")
    parser.add_argument("--wait-timeout", type=arguments.seconds, metavar="TIME", help="wait no longer than this")
    parser.add_argument("--follow", action="store_true", help="wait, and print what the job writes")


def run(args: argparse.Namespace) -> int:
    """Submit what the words and the file say."""
    from air_executor.client import AirExecutorClient

    return start(AirExecutorClient(lookup.find_home(args).root), _submission(args), args)


def start(client: AirExecutorClient, submission: store.Submission, args: argparse.Namespace) -> int:
    """Submit, say the name, and wait if asked to."""
    job = client.submit(submission)
    control.note_waiting(client.home, job.queue)
    waits = args.wait or args.follow or args.wait_timeout is not None
    if not args.json:
        output.say(job.name)
        output.flush()
    elif not waits:
        output.say_json(_facts(job))
    return _wait(client, job, args) if waits else 0


def _wait(client: AirExecutorClient, job: model.Job, args: argparse.Namespace) -> int:
    from air_executor.cli import logs

    try:
        if args.follow:
            job = logs.follow(client, job.name, as_json=args.json, timeout=args.wait_timeout)
        else:
            job = client.wait(job.name, args.wait_timeout)
    except KeyboardInterrupt:
        output.note(f"the job goes on; stop it with: air-executor cancel {job.name}")
        raise
    if args.json:
        output.say(json.dumps(_facts(job), indent=None if args.follow else 2))
    elif job.exit and job.state != "completed":
        output.note(f"{job.name} {job.state}: {job.exit.reason}")
    return control.exit_code(job)


def _submission(args: argparse.Namespace) -> store.Submission:
    from air_executor import store

    content = _content(args)
    tasks = _tasks(content, args)
    return store.Submission(_job(content, args), tasks)


def tasks_of(args: argparse.Namespace) -> list[model.Task]:
    """The tasks that the words or the file say, for a job that is there already.

    Raises:
        InvalidInputError: they are not in order, or the file says more.
    """
    content = _content(args)
    if more := sorted(content.keys() - {"tasks"}):
        raise InvalidInputError(f"{args.file}: {more[0]!r} is for jobs that are submitted; give tasks alone")
    return _tasks(content, args)


def _content(args: argparse.Namespace) -> dict[str, Any]:
    """What was given, in the form that a file has."""
    if args.words:
        raise InvalidInputError("put -- before the command: [options] -- COMMAND [ARGS ...]")
    if (args.command_line is None) == (args.file is None):
        raise InvalidInputError("give either a command after -- or --file; see --help")
    if args.file is not None:
        return _read_file(args.file)
    command, *rest = args.command_line or [""]
    return {"tasks": [{"command": command, "args": rest}]}


def read_json(name: str) -> tuple[str, Any]:
    """What a file holds, `-` being standard input, and before it how to call that file in an error.

    Raises:
        InvalidInputError: it cannot be read, or is not JSON.
    """
    where = "standard input" if name == "-" else name
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
        return where, json.loads(text)
    except OSError as error:
        raise InvalidInputError(f"{where}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{where}: is not JSON: {error}") from None


def _read_file(name: str) -> dict[str, Any]:
    where, content = read_json(name)
    from air_executor.definitions import JOB_OPTIONS

    if not isinstance(content, dict) or not isinstance(content.get("tasks"), list):
        raise InvalidInputError(f'{where}: should hold an object with "tasks", a list')
    for key in content.keys() - {"job_name", "tasks", *JOB_OPTIONS}:
        raise InvalidInputError(f"{where}: {key!r} is unknown; known are job_name, tasks, {', '.join(JOB_OPTIONS)}")
    return content


def _tasks(content: dict[str, Any], args: argparse.Namespace) -> list[model.Task]:
    from air_executor import definitions

    tasks = definitions.to_tasks(content["tasks"])
    for task in tasks:
        task.cwd = str(Path(args.cwd or "").absolute() / (task.cwd or ""))
        task.env = {**task.env, **dict(args.env)}
    return tasks


def _job(content: dict[str, Any], args: argparse.Namespace) -> model.Job:
    import uuid

    from air_executor import model
    from air_executor.definitions import JOB_OPTIONS

    # A flag goes before what the file says.
    given = {key: content[key] for key in JOB_OPTIONS if key in content}
    given |= {key: value for key in JOB_OPTIONS if key != "slurm" and (value := getattr(args, key, None)) is not None}
    if args.slurm is not None:
        given["slurm"] = _slurm(given.get("slurm"), args.slurm)
    given["labels"] = {**_labels(given.get("labels", {})), **dict(args.label)}
    name = args.name if args.name is not None else content.get("job_name", f"job-{uuid.uuid4().hex[:12]}")
    try:
        return model.from_dict(model.Job, {**given, "name": name, "trigger": model.Trigger.CLI.value})
    except ValueError as error:
        raise InvalidJobError(f"the job: {error}") from None


def _slurm(in_file: Any, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    from air_executor.slurm import options

    of_file = {} if in_file is None else options.read(in_file, "the job: 'slurm'")
    return options.combine(of_file, options.read_pairs(pairs, "--slurm"))


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidJobError("the job: 'labels' should be an object")
    return value


def _facts(job: model.Job) -> dict[str, Any]:
    from air_executor import model

    facts: dict[str, Any] = {"job_name": job.name, "id": job.id, "queue": job.queue, "state": job.state.value}
    return {**facts, "exit": model.to_dict(job.exit)} if job.exit else facts
