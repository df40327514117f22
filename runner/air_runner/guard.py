"""The runner's part of the spool. Somebody may delete it, or a part: all that is in it can be made from the jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from air_executor import _files, spool, store
from air_executor.model import JobState
from air_executor.paths import Home


class SpoolGuard:
    """Makes the directories that a runner needs, and knows when they are no longer the same."""

    def __init__(self, home: Home, runner_id: str, queues: Iterable[str]) -> None:
        self._home, self._id = home, runner_id
        self._own = self._needed(queues)
        self._seen: tuple[object, ...] = ()

    def _needed(self, queues: Iterable[str]) -> tuple[Path, ...]:
        return (self._home.claims(self._id), *map(self._home.queue, queues))

    def serve(self, queues: Iterable[str]) -> None:
        """Make the directories of these queues; a change of the spool that nobody has seen yet is seen all the same."""
        changed = self.is_changed()
        self._own, self._seen = self._needed(queues), ()
        for directory in self._own:
            _files.make_directory(directory)
        if not changed:
            self._seen = self._look()

    def make(self) -> None:
        """Make what is not there."""
        store.ensure_home(self._home)
        for directory in self._own:
            _files.make_directory(directory)
        self._seen = self._look()

    def is_changed(self) -> bool:
        """Whether a directory is gone, or is another one, since they were made."""
        return self._look() != self._seen

    def lost_claims(self, running: Mapping[str, int]) -> dict[str, int]:
        """Of these jobs, by their processes, those without a claim of this runner."""
        claimed = set(spool.claimed(self._home, self._id))
        return {name: pid for name, pid in running.items() if name not in claimed}

    def claim_again(self, name: str, pid: int) -> None:
        """Claim a job that this process is running.

        An ephemeral runner drops the claim when it has written the end: then there is nothing to claim, also if the job
        has begun anew by now.
        """
        job = store.read(self._home, name)
        if job.state is JobState.WORKING and job.runner is not None and job.runner.pid == pid:
            spool.claim_again(self._home, self._id, name)

    def _look(self) -> tuple[object, ...]:
        parts = (path for path in self._home.directories if path.is_relative_to(self._home.spool))
        return tuple(_files.identity(path) for path in (*parts, *self._own))
