"""Queues whose jobs wait in vain for pilots: these are refused or run nothing, again and again, and nobody helps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from air_executor.paths import Home
from air_executor.slurm import condition
from air_executor.slurm.condition import Failing

AGAIN = 2
"""Tries that have to come to nothing: one alone may be a node that failed."""


class Runner(Protocol):
    """What has to be known of a living one."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def queues(self) -> list[str]:
        """Those that it serves."""

    @property
    def draining(self) -> bool:
        """Whether it takes no jobs."""


def find(said: Mapping[str, Iterable[Failing]], alive: Collection[Runner]) -> dict[str, Failing]:
    """The queues, with what is known of their last pilots. Pure.

    Args:
        said: what each runner that uses Slurm says, by its id. Such a one runs no job of a queue with pilots itself;
            a pilot, and a runner that knows nothing of Slurm, does.
        alive: the runners that live.
    """
    helped = {queue for each in alive if each.id not in said and not each.draining for queue in each.queues}
    found: dict[str, Failing] = {}
    for runner in alive:
        for each in said.get(runner.id, ()):
            last = found.get(each.queue)
            if each.failures >= AGAIN and each.queue not in helped and (last is None or last.failures < each.failures):
                found[each.queue] = each
    return found


def read(home: Home, alive: Collection[Runner]) -> dict[str, Failing]:
    """The same, of a home."""
    return find({each.runner: each.failing for each in condition.read_all(home)}, alive)


def describe(found: Failing) -> str:
    """In a sentence: `3 times since ...`."""
    return f"its pilots have come to nothing {found.failures} times since {found.since}, the last one: {found.why}"


def advise(home: Home, found: Failing) -> tuple[str, str]:
    """What to do, and the command that helps. Pure."""
    mend = f"correct [queues.{found.queue}] in config.toml and start its runner anew, or mend what it names"
    if found.refused:
        return f"{mend}; what there is says", "sinfo --all"
    return f"{mend}; what pilots wrote on their nodes says", f"tail {home.slurm_pilots}/*.log"


def explain(home: Home, found: Failing) -> str:
    """Why a job of the queue waits, and what to do."""
    advice, command = advise(home, found)
    return f"{describe(found)}; {advice}: {command}"
