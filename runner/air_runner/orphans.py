"""What an ephemeral runner that was killed leaves behind: its children become the daemon's, which adopts them.

They may have left their session and cleared their environment, so nothing tells whose they were; but the daemon knows
all children that it should have.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection
from pathlib import Path

from air_executor import processes, spool, store
from air_executor.errors import CorruptFileError, NotFoundError
from air_executor.paths import Home

log = logging.getLogger(__name__)

TEMPLATE = b"air_runner.template"


class Orphans:
    """Finds and ends them. Children that this process had before it was a runner are somebody else's.

    Args:
        adopts: whether this process adopts what its descendants leave.
    """

    def __init__(self, home: Home, runner_id: str, *, adopts: bool) -> None:
        self._home, self._id = home, runner_id
        # The first process of a container is given every orphan in it, not only its own.
        self._works = adopts and os.getpid() != 1
        self._before = frozenset(processes.children())

    def kill(self, known: Collection[int]) -> None:
        """KILL all children but the `known` ones, with all below them."""
        if not self._works:
            return
        left = [pid for pid in processes.children() if pid not in known and pid not in self._before]
        doomed = [pid for pid in left if processes.start_time(pid) is not None and not self._is_spared(pid)]
        for pid in doomed:
            log.warning("process %d was left by a job whose ephemeral runner died; killing it", pid)
            processes.kill_tree(pid)
        processes.wait_gone(doomed)

    def _is_spared(self, pid: int) -> bool:
        """An ephemeral runner whose template died before it could say so has a job, or is about to."""
        return _is_fork_of_template(pid) or pid in self._named()

    def _named(self) -> set[int]:
        """The ephemeral runners that the jobs of this runner name."""
        found = set()
        for name in spool.claimed(self._home, self._id):
            with contextlib.suppress(NotFoundError, CorruptFileError, ValueError):
                if (process := store.read(self._home, name).runner) is not None:
                    found.add(process.pid)
        return found


def _is_fork_of_template(pid: int) -> bool:
    """A fork has its parent's command line until it says who it is, which it does when its job names it."""
    try:
        return TEMPLATE in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
