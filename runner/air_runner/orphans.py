"""What an ephemeral runner that was killed leaves behind: its children become the daemon's, which adopts them.

They may have left their session and cleared their environment, so nothing tells whose they were; but the daemon knows
all children that it should have.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection

from air_executor import processes
from air_runner import ours

log = logging.getLogger(__name__)


class Orphans:
    """Finds and ends them. Children that this process had before it was a runner are somebody else's.

    Args:
        adopts: whether this process adopts what its descendants leave.
    """

    def __init__(self, *, adopts: bool) -> None:
        # The first process of a container is given every orphan in it, not only its own.
        self._works = adopts and os.getpid() != 1
        self._before = frozenset(processes.children())

    def kill(self, known: Collection[int]) -> None:
        """KILL all children but the `known` ones, with all below them.

        An ephemeral runner whose template died before it could say so is not known, and has a job, or is about to.
        """
        if not self._works:
            return
        left = [pid for pid in processes.children() if pid not in known and pid not in self._before]
        doomed = [pid for pid in left if processes.start_time(pid) is not None and not ours.is_ours(pid)]
        for pid in doomed:
            log.warning("process %d was left by a job whose ephemeral runner died; killing it", pid)
            processes.kill_tree(pid)
        processes.wait_gone(doomed)
