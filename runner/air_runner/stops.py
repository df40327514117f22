"""How running jobs are told to stop: why, in the job's own files; then the signals, whose steps are in `jobs`."""

from __future__ import annotations

import contextlib
import logging
import time

from air_executor import model, repair, spool, store
from air_executor.client import AirExecutorClient
from air_executor.errors import AirExecutorError, CorruptFileError, NotFoundError
from air_runner import limits
from air_runner.jobs import Running
from air_runner.trouble import safely
from air_runner.work import Work

log = logging.getLogger(__name__)


class Stops:
    """Stops jobs of a runner.

    Args:
        grace: seconds between TERM and KILL.
    """

    def __init__(self, work: Work, grace: float) -> None:
        self._work, self._grace = work, grace
        self._client = AirExecutorClient(work.home.root)

    def stop(self, running: Running, outcome: model.Exit) -> None:
        """Ask in the job's own files first, so that whoever writes its end knows why."""
        try:
            self._client.stop(running.job.name, by=self._work.by, outcome=outcome)
        except (OSError, AirExecutorError) as error:
            log.error("cannot note why %s is stopped: %s", running.job.name, error)
        if outcome.kind in limits.AT_ONCE:
            running.end(time.monotonic())
        else:
            running.stop(self._grace)

    def look(self) -> None:
        """Do what somebody else asked for."""
        for name in spool.cancel_requests(self._work.home):
            safely(f"the request to stop {name}", self.stop_if_asked, name)

    def stop_if_asked(self, name: str) -> None:
        """The same for one job."""
        running = self._work.running.get(name)
        if running is not None:
            if repair.read_stop_request(self._work.home, name):
                running.stop(self._grace)
        elif self._work.cluster is not None and name in self._work.cluster:
            self._work.cluster.stop(name)
        else:
            self._drop_stale_request(name)

    def _drop_stale_request(self, name: str) -> None:
        with contextlib.suppress(CorruptFileError, NotFoundError, ValueError):
            if not store.read(self._work.home, name).state.terminal:
                return
        (self._work.home.cancel_requests / name).unlink(missing_ok=True)
