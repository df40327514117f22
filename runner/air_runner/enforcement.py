"""The limits of whole jobs: measured for all running jobs in one pass. What is too much is decided in `limits`."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable

from air_executor import cuts, model, processes, store, usage
from air_executor.model import ExitKind
from air_executor.paths import Home, JobPaths
from air_runner import ephemeral, limits, trees
from air_runner.jobs import Running

LAST_OUTPUT = 2**20
"""Bytes that an ephemeral runner may write of its own when all below it was killed for its output."""


class Enforcement:
    """Holds running jobs to their limits.

    Args:
        output_mb: the limit of a log where neither task nor job says one; 0: none.
        stop: called with a job that exceeds a limit, and the end that it shall have.
    """

    def __init__(self, home: Home, output_mb: int, stop: Callable[[Running, model.Exit], None]) -> None:
        self._home = home
        self._output_mb = output_mb
        self._stop = stop
        self._looked_at = -math.inf
        self._look: trees.Look | None = None

    def watch(self, job: model.Job) -> Running:
        """A job that is about to start."""
        paths = self._home.job(job.name)
        start = total_output(paths) if job.attempt > 1 else 0  # one log holds all attempts
        return Running(job, output=self._output_limit(job, paths, start), log_start=start)

    def watch_adopted(self, job: model.Job, process: model.Process) -> Running:
        """A job that runs already; what this attempt wrote so far can be told apart only in the first."""
        running = self.watch(job)
        running.peak_mb = usage.read_peak(self._home.job(job.name))
        running.launched(process.pid, processes.age(process) or 0.0)
        return running

    def _output_limit(self, job: model.Job, paths: JobPaths, start: int) -> limits.OutputLimit | None:
        """Only for a task that may run in its ephemeral runner, which then cannot watch it itself."""
        limit = job.output_mb or self._output_mb
        if job.template is None or not limit:
            return None
        return limits.OutputLimit(limit, lambda: total_output(paths) - start)

    def look(self, jobs: Iterable[Running], moment: float) -> trees.Look | None:
        """One look at all processes, if any job needs it and the last one was long enough ago."""
        due = self._looked_at + limits.until_next_memory(self._last_took())
        if moment < due or not any(running.watches_memory for running in jobs):
            return None
        self._looked_at, self._look = moment, trees.look()
        return self._look

    def _last_took(self) -> float:
        return 0.0 if self._look is None else self._look.took

    def enforce(self, running: Running, moment: float, look: trees.Look | None) -> None:
        """Do what is due for one job."""
        if look is not None and running.watches_memory and running.measure(look):
            with contextlib.suppress(OSError):  # for the record only
                usage.note_peak(self._home.job(running.job.name), running.peak_mb)
        if running.killed and running.output is not None and running.output.written() > running.last_output:
            running.kill_at = moment  # it is the ephemeral runner itself that goes on writing
        running.kill_if_due(moment)
        outcome = running.over_limit(moment)
        if outcome is None or (outcome.kind is ExitKind.OUTPUT and not self._note_cut(running)):
            return
        if running.output is not None:
            running.last_output = running.output.written() + LAST_OUTPUT
        self._stop(running, outcome)

    def _note_cut(self, running: Running) -> bool:
        """Note that the log is to be cut off; False if the job's task has limits of its own, which are not ours."""
        tasks = store.read_tasks(self._home, running.job.name)
        if running.output is None or not ephemeral.is_inline(tasks, running.job.template or ""):
            running.output = None
            return False
        with contextlib.suppress(OSError):  # a log that stays long is better than one that grows on
            cut = cuts.Cut(running.output.limit_mb, {tasks[0].id: running.log_start})
            cuts.note(self._home.job(running.job.name), cut)
        return True


def total_output(paths: JobPaths) -> int:
    """Bytes in all logs of a job."""
    try:
        with os.scandir(paths.logs) as entries:
            return sum(cuts.log_size(paths.logs / entry.name) for entry in entries if entry.name.endswith(".log"))
    except OSError:
        return 0
