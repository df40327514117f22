"""Taking over from runners that are gone: what lives is watched from now on, what does not is brought to rest.

Which is which, `recovery` finds out.
"""

from __future__ import annotations

import logging
import time

from air_executor.sightings import Sightings
from air_runner import metrics, recovery
from air_runner.enforcement import Enforcement
from air_runner.reaping import Reaper
from air_runner.stops import Stops
from air_runner.trouble import safely
from air_runner.work import Work

log = logging.getLogger(__name__)

LONGEST = 1.0
"""Seconds of recovery after which the loop does everything else once."""


class Takeover:
    """Finds the jobs that nobody sees to.

    Args:
        limits: what running jobs are held to.
        reaper: who sees to the ends of their processes.
        stops: who sees to requests that came while nobody did.
    """

    def __init__(self, work: Work, limits: Enforcement, reaper: Reaper, stops: Stops) -> None:
        self._work, self._limits, self._reaper, self._stops = work, limits, reaper, stops
        self._seen = Sightings()
        """What this runner has seen of the others."""

    def recover(self) -> None:
        """Look once; again soon, if there is more than can be done at once."""
        work, deadline = self._work, time.monotonic() + LONGEST
        watched = work.running.names | set(work.endings)
        watched |= work.cluster.names if work.cluster is not None else set()
        others = not work.pilot  # what it took over would have to end with it
        for found in recovery.recover(work.home, work.runner_id, watched, self._seen, work.cluster, others=others):
            if isinstance(found, recovery.Submitted):
                if work.cluster is not None:
                    work.cluster.take(found.job)
            elif isinstance(found, recovery.Adopted):
                safely(f"the takeover of {found.job.name}", self._adopt, found)
            else:
                log.warning("recovered %s", found)
                work.tally.recovered(found)
                work.clock.look_soon()
            if time.monotonic() >= deadline:  # each dead job costs a look at all processes; heartbeats must not wait
                work.clock.soon("recover")
                return

    def _adopt(self, found: recovery.Adopted) -> None:
        """Watch a process that is not ours."""
        running = self._limits.watch_adopted(found.job, found.process)
        self._work.running.add(running)
        self._work.tally.add(metrics.TAKEOVERS)
        self._reaper.watch(running, found.process.pid)
        log.info("took over %s (pid %d)", found.job.name, found.process.pid)
        self._stops.stop_if_asked(found.job.name)
