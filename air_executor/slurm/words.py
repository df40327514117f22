"""What Slurm's commands write for whoever typed them, made short for whoever reads of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

_USAGE = re.compile(r"""Try ["'`]?\w+ --help["'`]? for more information\.?|Usage: .*""")
_DOWN = re.compile(r"Slurmctld\(\w+\) at (\S+) is DOWN")


def short(command: str, said: str) -> str:
    """What a command that failed said, on one line and once, without its own name; empty if it said nothing."""
    return "; ".join(dict.fromkeys(filter(None, (_plain(command, line) for line in said.splitlines()))))


def _plain(command: str, line: str) -> str:
    whole = " ".join(line.split())
    own = re.match(rf"(?:(?:{re.escape(command)}|\w+(?=: (?:error|fatal))): |(?:error|fatal): )*", whole)
    line = whole[own.end() :] if own else whole
    return "" if _USAGE.fullmatch(line) else line


def ping(said: str) -> str:
    """What `scontrol ping` says of controllers of which none is up: beside a banner of stars, which is left out."""
    hosts = list(dict.fromkeys(_DOWN.findall(said)))
    if not hosts:
        return " ".join(said.replace("*", "").split())
    return f"the controller at {hosts[0]} is down" if len(hosts) == 1 else f"the controllers at {_list(hosts)} are down"


def _list(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}"
