"""`completion`: a script that lets a shell complete our commands and options.

The script is made by shtab, which is optional. `--json` prints {"shell", "script"}.
"""

from __future__ import annotations

import argparse

from air_executor.cli import arguments, output
from air_executor.errors import AirExecutorError

_TEXT = """\
Print a script that completes commands and options. To enable it:

  bash   air-executor completion bash > \\
           ~/.local/share/bash-completion/completions/air-executor
  zsh    air-executor completion zsh > DIR/_air-executor, where DIR is one of
         $fpath; then start a new shell
  tcsh   air-executor completion tcsh > ~/.air-executor.completion.csh, and in
         ~/.tcshrc: source ~/.air-executor.completion.csh

or for the current bash only: source <(air-executor completion bash)"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.add_command(
        commands,
        "completion",
        run,
        help="print a completion script for a shell",
        text=_TEXT,
        examples=("source <(air-executor completion bash)",),
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab
    except ImportError:
        raise AirExecutorError("completion needs shtab: install shtab, or this project's extra `completion`") from None
    from air_executor import cli

    script = shtab.complete(cli.get_parser(), shell=args.shell)
    if args.json:
        output.say_json({"shell": args.shell, "script": script})
    else:
        output.say(script)
    return 0
