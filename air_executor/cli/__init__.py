"""The command `air-executor`. What a command does is in a module of its own; here they are put together and run.

Every command imports what it needs when it runs, so that `--help` loads argparse and nothing else.

Exit codes: 0 done; 1 a job failed, or any other error; 2 wrong input; 3 the home; 4 no such thing; 5 the name is taken;
6 busy or in the wrong state; 7 a damaged file; 8 a runner; 9 a job was cancelled; 124 a wait was too short; 130 Ctrl-C.
`status` has its own: 0 healthy, 1 degraded, 2 not running. The numbers of errors are in `air_executor.errors`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import air_executor
from air_executor.cli import (
    arguments,
    completion,
    component,
    control,
    doctor,
    listing,
    logs,
    metrics,
    output,
    pipeline,
    queue,
    runner,
    serve,
    show,
    status,
    submit,
    task,
    token,
    top,
    upkeep,
    usage,
    webhook,
)
from air_executor.errors import AirExecutorError

INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""
READER_GONE = 141
"""128 + SIGPIPE, as a shell reports it."""

_EPILOG = """\
the home is the first of: --home, $AIR_EXECUTOR_HOME, ./.air-executor if it exists,
$AIRFLOW_HOME/.air-executor if it exists, ~/.air-executor

examples:
  air-executor submit -- echo hello
  air-executor runner start --detach
  air-executor list
  air-executor status

exit codes: 0 done, 1 failed, 2 wrong input, 3 home, 4 not found, 5 name taken,
6 busy, 7 damaged file, 8 runner, 9 job cancelled, 124 wait too short, 130 Ctrl-C
"""

_COMMANDS = (
    submit,
    task,
    listing,
    show,
    logs,
    control,
    pipeline,
    usage,
    runner,
    queue,
    webhook,
    status,
    top,
    metrics,
    serve,
    token,
    doctor,
    upkeep,
    completion,
    component,
)
"""In the order of the help."""


def get_parser() -> arguments.Parser:
    """The whole command line, also for those who generate completions from it."""
    parser = arguments.Parser(
        prog=output.PROGRAM, description="Jobs as directories, run by ephemeral runners.", epilog=_EPILOG
    )
    parser.add_argument("--home", metavar="DIR", help="the directory of this installation")
    parser.add_argument("--version", action="version", version=f"{output.PROGRAM} {air_executor.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    for module in _COMMANDS:
        module.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    output.prepare()
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        output.give_up()
        return READER_GONE
    except OSError as error:
        output.give_up()
        output.note(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
        return AirExecutorError.exit_code


def _run(words: list[str]) -> int:
    words, command_line = _split(words)
    try:
        args = get_parser().parse_args(words)
        args.command_line = command_line
        code: int = args.run(args)
    except AirExecutorError as error:
        output.note_error(error)
        code = error.exit_code
    output.flush()
    return code


def _split(words: list[str]) -> tuple[list[str], list[str] | None]:
    """Take the submitted command line off before argparse sees it: what follows `--` is not ours to interpret."""
    if "--" not in words or not {"submit", "add"} & set(words[: words.index("--")]):
        return words, None
    position = words.index("--")
    return words[:position], words[position + 1 :]
