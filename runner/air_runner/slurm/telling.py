"""What a runner tells people of Slurm: whether it answers, what it refused, how many jobs it has, in which states."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TypeVar

from air_executor import model
from air_executor.paths import Home
from air_executor.slurm import condition
from air_runner.slurm import decisions
from air_runner.slurm.commands import Slurm, SlurmError
from air_runner.slurm.decisions import Stage, Tracked

log = logging.getLogger(__name__)

MAX_REFUSALS = 10
T = TypeVar("T")


class Teller:
    """Asks Slurm, and keeps `slurm/runners/<runner id>.json` as things are."""

    def __init__(self, home: Home, runner_id: str, slurm: Slurm) -> None:
        self._home, self._slurm = home, slurm
        self._now = condition.Condition(runner_id, "")
        self._written: condition.Condition | None = None

    def ask(self, question: Callable[[], T]) -> T | None:
        """The answer; None if there is none, which is noted."""
        try:
            answer = question()
        except SlurmError as error:
            self.trouble(error)
            return None
        self.answered()
        return answer

    def answered(self) -> None:
        """It did what it was asked for."""
        if self._now.trouble is not None:
            log.info("Slurm answers again")
        self._now = replace(self._now, answered_at=model.now(), trouble=None, trouble_since=None)

    def trouble(self, error: SlurmError) -> None:
        """It did not."""
        if self._now.trouble is None:
            log.warning("Slurm: %s; jobs that it has go on, all others wait", error)
        since = self._now.trouble_since or model.now()
        self._now = replace(self._now, trouble=str(error), trouble_since=since)

    def refused(self, name: str, queue: str, why: str) -> None:
        """A job or a pilot could not be submitted, or not be started."""
        log.warning("%s on Slurm: %s", name, why)
        refusal = condition.Refusal(model.now(), name, queue, why)
        refusals = (*self._now.refusals, refusal)[-MAX_REFUSALS:]
        self._now = replace(self._now, refusals=refusals, refused=self._now.refused + 1)

    def write(
        self,
        jobs: Collection[Tracked],
        pilots: Collection[condition.Pilot] = (),
        failing: Collection[condition.Failing] = (),
    ) -> None:
        """Bring the file up to date, if there is something new."""
        by_state, by_reason = decisions.count_states(jobs)
        for each in pilots:
            if each.reason:
                by_reason[each.reason] = by_reason.get(each.reason, 0) + 1
        stages = [decisions.stage(each) for each in jobs]
        now = replace(
            self._now,
            to_submit=stages.count(Stage.TO_SUBMIT),
            unsure=stages.count(Stage.UNSURE),
            held_on=sum(each.held_on for each in jobs),
            limits=decisions.count_limits(jobs),
            states=by_state,
            reasons=dict(sorted(by_reason.items())),
            pilots=tuple(pilots),
            failing=tuple(failing),
            polls=self._slurm.polls,
        )
        if now.limits and not (self._written and self._written.limits):
            log.warning("Slurm takes no more jobs for now: %s; they are submitted later", "; ".join(now.limits))
        if self._written is None or replace(now, at=self._written.at) != self._written:
            self._written = replace(now, at=model.now())
            condition.write(self._home, self._written)

    def close(self) -> None:
        """The runner has ended."""
        condition.remove(self._home, self._now.runner)
