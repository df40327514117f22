"""What follows when the process of a job ends: its slot is free, its job comes to rest, nothing of it is left.

Of children the kernel tells (`signals`), of a template's children the template; of processes that were taken over from
another runner a pidfd, or where there is none, a look now and then.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable

from air_executor import model, processes, repair
from air_runner import endings
from air_runner.jobs import Running
from air_runner.trouble import safely
from air_runner.work import Work


class Reaper:
    """Sees to the ends of processes.

    Args:
        selector: where the pidfds of processes that are no children are waited for.
        kill_orphans: ends what a process may have left.
    """

    def __init__(self, work: Work, selector: selectors.BaseSelector, kill_orphans: Callable[[], None]) -> None:
        self._work, self._selector, self._kill_orphans = work, selector, kill_orphans

    def watch(self, running: Running, pid: int) -> None:
        """Be told of the end of a process that is no child, or look at it now and then."""
        pidfd = processes.open_pidfd(pid)
        if pidfd is not None:
            self._selector.register(pidfd, selectors.EVENT_READ, lambda: self.exited(pid, None))
            running.pidfd = pidfd

    def check_gone(self) -> None:
        """Look for processes of whose end nobody tells."""
        for running in self._work.running:
            safely(f"the process of {running.job.name}", self._check_gone, running)

    def _check_gone(self, running: Running) -> None:
        if running.pid is not None and running.pidfd is None and running.is_gone():
            self.exited(running.pid, None)

    def exited(self, pid: int, status: int | None) -> None:
        """A process ended, maybe one of a job.

        Args:
            status: its wait status; None if it is not known.
        """
        running = self._work.running.remove_pid(pid)
        if running is None:
            return
        if running.pidfd is not None:
            self._selector.unregister(running.pidfd)
            os.close(running.pidfd)
        self._work.queues.places.ended(running.job.name)
        end = endings.explain(pid, status)
        if not end.seen_well:
            safely("what a job left", self._kill_orphans)
        verdict = self._settle(running.job.name, end, running)
        if end.seen_well and verdict is not None:  # it was not: a body that ended the process gave it this exit code
            safely("what a job left", self._kill_orphans)

    def retry(self) -> None:
        """Bring the jobs to rest with which that was not possible before."""
        for name, end in self._work.endings.take_unresolved().items():
            safely(f"the end of {name}", self._settle, name, end)

    def _settle(self, name: str, end: endings.End, running: Running | None = None) -> repair.Verdict | None:
        work = self._work
        verdict = work.endings.settle(name, end)
        work.tally.settled(name, end, verdict, running)
        if verdict is repair.Verdict.QUEUE:
            work.clock.look_soon()
        if end.blame is model.Blame.HOME:
            work.clock.start_later()
        work.queues.release(name)
        work.clock.at_latest("retry", time.monotonic() + work.endings.retry_interval)
        return verdict
