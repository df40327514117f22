"""How an ephemeral runner comes to life.

A launcher is asked to launch a job and tells the daemon by events what became of it, because a template answers later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from air_executor import model


@dataclass(frozen=True)
class Launched:
    """The ephemeral runner of a job lives."""

    job: str
    pid: int


@dataclass(frozen=True)
class Exited:
    """A process ended; `status` is what waitpid said, None if nobody can know."""

    pid: int
    status: int | None


@dataclass(frozen=True)
class Refused:
    """The launcher cannot launch this job; another has to."""

    job: str


Event = Launched | Exited | Refused


class Launcher(Protocol):
    """What the daemon knows of a launcher."""

    @property
    def name(self) -> str:
        """As in `[runner] launcher`."""

    def accepts(self, job: model.Job) -> bool:
        """Whether this launcher can launch the job now."""

    def launch(self, job: model.Job) -> list[Event]:
        """Bring the job's ephemeral runner to life."""

    def close(self) -> None:
        """The runner ends; ephemeral runners go on."""


__all__ = ["Event", "Exited", "Launched", "Launcher", "Refused"]
