"""Counts what becomes of a runner's jobs. A file is read only for an end of which the ephemeral runner did not tell."""

from __future__ import annotations

import logging

from air_executor import model, repair, store
from air_executor.errors import AirExecutorError
from air_executor.paths import Home
from air_runner import metrics
from air_runner.endings import NOT_OURS, End
from air_runner.jobs import Running

log = logging.getLogger(__name__)


class Tally(metrics.Counts):
    """The counts of a runner.

    Args:
        queues: those that it serves.
    """

    def __init__(self, home: Home, queues: tuple[str, ...]) -> None:
        super().__init__(queues)
        self._home = home

    def started(self, running: Running) -> None:
        """The ephemeral runner of a job lives."""
        self.launched(running.job.queue, running.launcher, running.waited)

    def settled(self, name: str, end: End, verdict: repair.Verdict | None, running: Running | None) -> None:
        """The ephemeral runner of a job ended, and this is what was done about it.

        Args:
            verdict: None if the end was written already, as mostly.
            running: None if this is not the first attempt to settle it.
        """
        if verdict is repair.Verdict.LEAVE:
            return
        seconds = None if running is None else running.age
        if verdict is repair.Verdict.QUEUE:
            self.add(metrics.REQUEUES)
        elif verdict is None and end.kind is not None and running is not None:
            self.ended(running.job.queue, metrics.state_of(end.kind), end.kind, seconds)
        elif verdict is not None or end.pid != NOT_OURS:
            self._read_end(name, seconds)

    def left_slurm(self, name: str) -> None:
        """A job is not in Slurm any more; mostly because it is over."""
        self._read_end(name, None)

    def recovered(self, name: str) -> None:
        """A job of a runner that is gone was brought to rest."""
        self.add(metrics.RECOVERIES)
        self._read_end(name, None)

    def _read_end(self, name: str, seconds: float | None) -> None:
        try:
            job = store.read(self._home, name)
        except (AirExecutorError, OSError) as error:
            log.debug("how %s ended is not counted: %s", name, error)
            return
        if job.state.terminal:
            kind = job.exit.kind if job.exit is not None else model.ExitKind.RUNNER_LOST
            self.ended(job.queue, job.state, kind, seconds)
