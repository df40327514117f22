"""A Slurm of a few lines, for what a real one does not do when it is asked to: answers that are lost, and the like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from air_executor.slurm import states
from air_runner.slurm.commands import Row, Slurm, SlurmError


@dataclass
class Entry:
    """A job that it has."""

    name: str
    state: str = "PENDING"
    reason: str = "Resources"
    node: str | None = None


@dataclass
class Faults:
    """What is raised instead of an answer, the next first."""

    submit: list[SlurmError] = field(default_factory=list)
    lost: list[SlurmError] = field(default_factory=list)
    """After it was done."""
    jobs: list[SlurmError] = field(default_factory=list)
    past: list[SlurmError] = field(default_factory=list)
    cancel: list[SlurmError] = field(default_factory=list)

    def strike(self, what: str) -> None:
        if waiting := getattr(self, what):
            raise waiting.pop(0)


class FakeSlurm(Slurm):
    """Knows what was submitted to it, and what a test says of that."""

    def __init__(self) -> None:
        super().__init__(timeout=1.0, environ={})
        self.entries: dict[str, Entry] = {}
        self.recorded: dict[str, str] = {}
        """What accounts say, by number."""
        self.orders: list[tuple[list[str], str]] = []
        """What it was given, flags and script."""
        self.cancelled: list[str] = []
        self.faults = Faults()
        self.next_number = 1

    def submit(self, flags: Sequence[str], script: str) -> str:
        self.orders.append((list(flags), script))
        self.faults.strike("submit")
        number = str(self.next_number)
        self.next_number += 1
        name = _value(flags, "--job-name") or ""
        last = _value(flags, "--array")
        ids = [number] if last is None else [f"{number}_{element}" for element in range(int(last[2:]) + 1)]
        self.entries.update({each: Entry(name) for each in ids})
        self.faults.strike("lost")
        return number

    def jobs(self) -> list[Row]:
        self.polls += 1
        self.faults.strike("jobs")
        return [
            Row(
                number, states.because(states.parse(each.state), each.reason), each.reason, "main", each.node, each.name
            )
            for number, each in self.entries.items()
        ]

    def cancel(self, ids: Iterable[str]) -> bool:
        self.faults.strike("cancel")
        for number in ids:
            self.cancelled.append(number)
            if number in self.entries:
                self.entries[number].state = "CANCELLED"
        return True

    def past(self, ids: Sequence[str]) -> dict[str, str]:
        self.faults.strike("past")
        return {number: self.recorded[number] for number in ids if number in self.recorded}

    # --- What a test says ---

    def say(self, number: str, state: str, reason: str = "None", node: str | None = "n1") -> None:
        """This became of a job."""
        self.entries[number].state, self.entries[number].reason, self.entries[number].node = state, reason, node


def _value(flags: Sequence[str], name: str) -> str | None:
    return next((flag.partition("=")[2] for flag in flags if flag.startswith(f"{name}=")), None)
