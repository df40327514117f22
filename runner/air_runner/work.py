"""The work of a runner: what waits for it, what it runs, what is over and not settled. All its parts share this.

What is done about it is elsewhere: `launching` starts jobs, `stops` stops them, `reaping` and `takeover` learn of their
ends and of those that another runner has left.
"""

from __future__ import annotations

from collections.abc import Iterable

from air_executor.paths import Home
from air_executor.settings import Settings
from air_runner.clock import Clock
from air_runner.course import Course
from air_runner.endings import Endings
from air_runner.jobs import RunningJobs
from air_runner.queues import Queues
from air_runner.slurm.contact import Contact
from air_runner.tally import Tally


class Work:
    """What a runner has to do, and what it makes of that.

    Args:
        served: the queues that it serves at first.
        chosen: what config.toml says.
        pilot: whether this is the runner of a pilot, which runs what it takes itself.
    """

    def __init__(
        self,
        home: Home,
        runner_id: str,
        served: Iterable[str],
        chosen: Settings | None = None,
        *,
        pilot: bool = False,
    ) -> None:
        self.home, self.runner_id, self.pilot = home, runner_id, pilot
        self.by = f"runner {runner_id}"
        """Who does something, in the journals."""
        self.course = Course()
        self.clock = Clock()
        chosen = chosen or Settings()
        self.queues = Queues(home, served, chosen.far_queues, chosen.pilot_queues)
        self.running = RunningJobs()
        self.endings = Endings(home, runner_id, self.by)
        """Of jobs whose ephemeral runner is gone, and whose end could not be written yet. They keep their slots."""
        self.tally = Tally(home, tuple(served))
        self.cluster: Contact | None = None
        """Of the jobs that go to Slurm; they take no slots."""

    def has(self, job_name: str) -> bool:
        """Whether a job is in the hands of this runner, running or not quite over."""
        return job_name in self.running or job_name in self.endings or self.has_in_slurm(job_name)

    def has_in_slurm(self, job_name: str) -> bool:
        """Whether a job is in Slurm, or about to be."""
        return self.cluster is not None and job_name in self.cluster

    @property
    def busy(self) -> int:
        """How many jobs it has in its hands."""
        return len(self.running) + len(self.endings)

    @property
    def has_any(self) -> bool:
        """Whether a job is in its hands, wherever it runs, or waits for it."""
        waiting = self.queues.backlog.known or self.queues.far.known
        return bool(self.running) or bool(waiting) or bool(self.cluster)

    @property
    def is_over(self) -> bool:
        """Whether the runner may end."""
        if self.course.leaving:  # a job that a template was asked for has no process yet that could go on alone
            return all(running.pid is not None for running in self.running)
        return self.course.stopping and not self.busy
