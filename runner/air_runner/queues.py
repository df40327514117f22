"""What waits in the queues that a runner serves, as far as it knows: by the watch, which may miss some, and by looks.

Which job may start next is answered here; whether one may start now is `launching`'s business.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator

from air_executor import pauses, spool
from air_executor.paths import Home
from air_executor.places import Places
from air_runner.scheduling import Backlog

log = logging.getLogger(__name__)


class Queues:
    """The queues of a runner, some of which may be paused.

    Args:
        served: their names.
        far: those of them whose jobs go to Slurm, and take no slot here.
        left: those of them that pilots drain.
    """

    def __init__(
        self, home: Home, served: Iterable[str], far: Collection[str] = (), left: Collection[str] = ()
    ) -> None:
        self._home, self._served = home, tuple(served)
        self._is_far, self._is_left = frozenset(far), frozenset(left)
        self._paused: frozenset[str] | None = None
        self._early: dict[str, spool.Marker] = {}
        self._others: set[spool.Marker] = set()
        """Jobs that wait for another runner."""
        self.backlog, self.far = Backlog(), Backlog()
        self.places = Places(home, ())

    @property
    def paused(self) -> frozenset[str] | None:
        """The queues of which no job may start; None until that is known, and then none may start at all."""
        return self._paused

    def serve(self, queues: Iterable[str]) -> None:
        """Other queues from now on; what waits in them is found by the next look."""
        self._served = tuple(queues)
        self.backlog.keep_only(self._served)
        self.far.keep_only(self._served)
        self._serve_places()

    def note(self, queue: str, file_name: str) -> None:
        """There is a new file in a queue."""
        marker = spool.parse_marker(queue, file_name)
        if marker and queue in self._served and queue not in self._is_left:
            self.add(marker)

    def add(self, marker: spool.Marker) -> None:
        """A job waits that this runner may start."""
        if marker not in self._others:
            (self.far if marker.queue in self._is_far else self.backlog).add(marker)

    def leave(self, marker: spool.Marker) -> None:
        """A job waits that is for another runner."""
        self._others.add(marker)

    def look(self) -> None:
        """Look at the spool itself, for what the watch did not say."""
        found = set(self._waiting(set(self._served) - self._is_far - self._is_left))
        self._others &= found
        self.backlog.replace(found - self._others)
        self.far.replace(self._waiting(self._is_far & set(self._served)))
        self.places.look()

    def _waiting(self, queues: Iterable[str]) -> Iterator[spool.Marker]:
        return (marker for queue in queues for marker in spool.waiting(self._home, queue))

    def heed_pauses(self) -> None:
        """Look which queues are paused."""
        paused = pauses.names(self._home)
        if paused != self._paused:
            log.info("paused queues: %s", ", ".join(sorted(paused)) or "none")
            self._paused = paused
            self.backlog.pause(paused)
            self.far.pause(paused)
            self._serve_places()

    def _serve_places(self) -> None:
        self.places.serve(frozenset(self._served) - self._is_left - (self._paused or frozenset()))

    def hold(self, marker: spool.Marker) -> None:
        """Let a job wait that waits again although the process of its last attempt has not quite gone."""
        self._early[marker.job] = marker

    def release(self, job_name: str) -> None:
        """The last attempt of a job has gone."""
        if marker := self._early.pop(job_name, None):
            self.add(marker)
