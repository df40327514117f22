"""Which job starts now, which task starts now. Plain data, no I/O."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from air_executor import backoff, model, spool

_order = attrgetter("order")

MAX_RETRY_DELAY = 3600.0
"""Seconds between two tries of a task, however often it has failed."""


class Backlog:
    """The waiting jobs that this runner knows of: highest priority first, then oldest, whatever the queue.

    A marker that is gone when it is claimed was somebody else's; so it does no harm to know one too many. Most come in
    the order in which they start: they stand in a line, so that the next of 100,000 is as near as the next of ten.
    """

    def __init__(self) -> None:
        self._line: deque[spool.Marker] = deque()
        """In order."""
        self._heap: list[spool.Marker] = []
        """What came too late for the line."""
        self._known: set[spool.Marker] = set()
        self._paused: frozenset[str] = frozenset()

    def __len__(self) -> int:
        """How many may start."""
        return len(self._line) + len(self._heap)

    @property
    def known(self) -> int:
        """How many wait, those of paused queues with them."""
        return len(self._known)

    def add(self, marker: spool.Marker) -> None:
        """Note a waiting job."""
        if marker in self._known:
            return
        self._known.add(marker)
        if marker.queue in self._paused:
            return
        if not self._line or self._line[-1] < marker:
            self._line.append(marker)
        else:
            heapq.heappush(self._heap, marker)

    def replace(self, markers: Iterable[spool.Marker]) -> None:
        """Know exactly these."""
        known = set(markers)
        if known != self._known:
            self._known = known
            self._arrange()

    def pause(self, queues: Iterable[str]) -> None:
        """Let jobs of exactly these queues wait."""
        paused = frozenset(queues)
        if paused != self._paused:
            self._paused = paused
            self._arrange()

    def keep_only(self, queues: Container[str]) -> None:
        """Forget the jobs of all other queues."""
        self.replace([marker for marker in self._known if marker.queue in queues])

    def _arrange(self) -> None:
        waiting = (marker for marker in self._known if marker.queue not in self._paused)
        self._line = deque(sorted(waiting, key=_order))  # what came in the same microsecond, as it happens
        self._heap = []

    def pop(self) -> spool.Marker | None:
        """The job to start next; None if there is none."""
        if not self:
            return None
        from_heap = self._heap and (not self._line or self._heap[0] < self._line[0])
        marker = heapq.heappop(self._heap) if from_heap else self._line.popleft()
        self._known.discard(marker)
        return marker


@dataclass
class TaskGraph:
    """The order of the tasks of a job: a task is ready when all it depends on are completed."""

    ready: deque[str] = field(default_factory=deque)
    missing: dict[str, int] = field(default_factory=dict)
    """How many dependencies of a task are not completed yet."""
    dependents: dict[str, list[str]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    """Those that are completed."""
    lost: set[str] = field(default_factory=set)
    """Those that did not go well, or can never run."""

    @classmethod
    def of(cls, tasks: Sequence[model.Task]) -> TaskGraph:
        """The graph of tasks, some of which may be over already."""
        graph = cls(done={task.id for task in tasks if task.status is model.TaskStatus.COMPLETED})
        graph.add(task for task in tasks if task.status is model.TaskStatus.PENDING)
        return graph

    def add(self, tasks: Iterable[model.Task]) -> list[str]:
        """More tasks. Returns those that can never run, because something they depend on did not go well."""
        broken: dict[str, None] = {}
        for task in tasks:
            needed = {dependency for dependency in task.dependencies if dependency not in self.done}
            broken |= dict.fromkeys(needed & self.lost)
            self.missing[task.id] = len(needed)
            for dependency in needed:
                self.dependents.setdefault(dependency, []).append(task.id)
            if not needed:
                self.ready.append(task.id)
        return [skipped for dependency in broken for skipped in self.failed(dependency)]

    def completed(self, task_id: str) -> None:
        """A task went well: those that waited for it alone become ready."""
        self.done.add(task_id)
        for dependent in self.dependents.pop(task_id, ()):
            if dependent in self.missing:
                self.missing[dependent] -= 1
                if self.missing[dependent] == 0:
                    self.ready.append(dependent)

    def failed(self, task_id: str) -> list[str]:
        """A task did not go well: all that depend on it, directly or not, can never run. Returns them."""
        skipped: dict[str, None] = {}
        pending = deque(self.dependents.pop(task_id, ()))
        while pending:
            name = pending.popleft()
            if self.missing.pop(name, None) is not None:
                skipped[name] = None
                pending.extend(self.dependents.pop(name, ()))
        self.lost |= {task_id, *skipped}
        return list(skipped)


def pause_before_retry(task: model.Task) -> float | None:
    """Seconds until a task that has failed starts again; None if it has had all its tries. Pure."""
    if task.tries > task.retries:
        return None
    return backoff.pause(task.tries, task.retry_delay, MAX_RETRY_DELAY)
