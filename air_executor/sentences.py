"""Reasons as they are told to others: without parts of command lines, and without where the home is. Pure."""

from __future__ import annotations

import re

from air_executor.paths import Home

_OF_A_COMMAND = (
    (r"\bcommand not found: .*", "command not found"),
    (r"\bnot executable: .*", "not executable"),
    (r"\bcannot start .+: ", "cannot start it: "),
    (r"\bits working directory .+ is not a directory", "its working directory is not a directory"),
)
"""What a runner says of a task that it could not start, and what is told of that."""


def without_command(text: object) -> str | None:
    """A reason, as it is shown: which program could not be started, and where, is a part of a command line."""
    if text is None:
        return None
    told = str(text)
    for pattern, instead in _OF_A_COMMAND:
        told = re.sub(pattern, instead, told, flags=re.DOTALL)
    return told


def without_home(home: Home, text: str) -> str:
    """A message that does not say where the home is."""
    text = text.replace(f"--home {home.root} ", "")
    return text.replace(f"{home.root}/", "").replace(str(home.root), "the home")


def without_value(error: object) -> str:
    """What an error says of an option, without the value that it complains about: that may be a secret."""
    return str(error).partition(", not ")[0]
