"""What Slurm is to end: jobs that are cancelled, and submissions that no job wants. It is told again until it has.

A number alone does not say whose it is, for a controller that has lost its state begins to count anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from air_executor.paths import Home
from air_executor.slurm import record
from air_runner.slurm import submitting
from air_runner.slurm.commands import Row

TELL_AGAIN = 10.0
"""Seconds after which Slurm is told once more to end what has not ended, if it has just said so."""


@dataclass
class Doom:
    """The submissions of a home that Slurm is to end.

    Args:
        patience: seconds until it is believed that no job wants a submission: another host may just have written whose
            it is.
    """

    home: Home
    patience: float
    _told: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    """Their names and when Slurm was told, by number."""
    _strays: dict[str, float] = field(default_factory=dict)
    """Submissions that no job wants, by number, and since when."""
    _lost_at: float | None = None
    """When a submission was given up of which it is not known whether Slurm has it, and it may still appear."""

    @property
    def is_open(self) -> bool:
        """Whether what Slurm has must be looked at."""
        return bool(self._told) or bool(self._strays) or self._lost_at is not None

    def add(self, number: str, name: str) -> None:
        """This one."""
        self._told.setdefault(number, (name, None))

    def lost(self) -> None:
        """A submission was given up that had no answer."""
        self._lost_at = time.monotonic()

    def due(self, now: float) -> list[str]:
        """The numbers of which Slurm is to be told now, and will be."""
        due = [number for number, (_, at) in self._told.items() if at is None]
        self._told.update({number: (self._told[number][0], now) for number in due})
        return due

    def not_told(self, numbers: Sequence[str]) -> None:
        """It was away: these are due again when it has said that it still has them."""
        self._told.update({number: (self._told[number][0], -math.inf) for number in numbers})

    def heard(self, rows: Sequence[Row], mine: Collection[str | None], asked_at: float) -> None:
        """Slurm has said what it has.

        Args:
            mine: the numbers of submissions that are wanted here.
            asked_at: when it was asked.

        Raises:
            OSError: the home refused.
        """
        living = {(row.id, row.name): row for row in rows if not row.state.over}
        self._told = {
            number: (name, None if at is None or asked_at - at >= TELL_AGAIN else at)
            for number, (name, at) in self._told.items()
            if at is None or (number, name) in living
        }
        if self._lost_at is not None and asked_at - self._lost_at >= self.patience:
            self._lost_at = None
        self._find_strays([row for row in living.values() if row.id not in mine and row.id not in self._told])

    def _find_strays(self, rows: Sequence[Row]) -> None:
        """Made twice, or of a job that is over or has begun anew."""
        now, seen = time.monotonic(), {}
        own = record.home_id(self.home)
        for row in rows:
            if submitting.is_stray(self.home, own, row):
                seen[row.id] = self._strays.get(row.id, now)
                if now - seen[row.id] >= self.patience:
                    self.add(row.id, row.name)
        self._strays = {number: since for number, since in seen.items() if number not in self._told}
