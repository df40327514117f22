"""Waiting for the end of a job inside `sync`, so that a finished task wakes the scheduler at once.

Airflow's scheduler sleeps when nothing is to be done, and learns what finished meanwhile only afterwards. Here it is
told by the system when an end is announced. Ends that come while all processors are busy with other tasks are taken
together, as each loop of the scheduler costs as much as a task or two; where a processor is idle, nothing waits.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.executors.executor_loader import ExecutorLoader

from air_executor import _files, load, spool
from air_executor.errors import AirExecutorError
from air_executor.paths import Home
from air_executor.watch import Watch
from airflow_plugin import config

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.executors.base_executor import ExecutorConf

LOOK_INTERVAL = 0.25
"""Seconds between looks while waiting: ends on other hosts, of which the system does not tell."""
TOGETHER = 1.0
"""Seconds in which ends are taken together, as long as all processors are busy; Airflow's own scheduler sleeps so."""
IN_A_CROWD = 3
"""How many times longer, while more jobs wait for a processor than start at a time: what the scheduler could hand over
meanwhile would mostly wait behind them, and each of its rounds loads all task instances of a run."""
AFTER_SENDING = 0.25
"""Seconds to wait after workloads were handed over, if the scheduler has had no more of them right after that."""
CROWD_INTERVAL = 0.25
"""Seconds between looks at how many wait for a processor: each lists their queue."""
BUSY_INTERVAL, IDLE_INTERVAL = 0.1, 0.02
"""Seconds between looks at whether all processors are busy, after one that found them so and after another."""
IDLE_LOOKS = 4
"""How many looks in a row have to find one idle: jobs often all wait for the API server for a moment."""
PAUSE = 0.1
"""Seconds to wait where there are other executors, or things that are to be tried again soon."""


@dataclass(frozen=True)
class Situation:
    """How things are in a heartbeat, when everything known is done."""

    news: bool
    """Whether something happened, since the scheduler last looked, after which something else may start."""
    to_send: int
    """What could not be handed over yet."""
    sent: bool
    """Whether something was handed over: then the scheduler may have more of it."""
    follows: bool
    """Whether it had more, the last time that showed."""
    woken: bool
    """Whether somebody has made work since the scheduler last looked, in which one round finds more."""
    running: int
    free_slots: int


@dataclass(frozen=True)
class Rules:
    """How long may be waited."""

    sync_wait: float
    """Seconds, while something runs."""
    takes_over: bool = False
    """Whether the scheduler does not sleep by itself, so that this has to."""
    alone: bool = True
    """Whether there is no other executor, which could have work to do."""

    def seconds(self, now: Situation) -> float:
        """How long to wait for the end of a job. Pure."""
        if now.news or now.woken:
            return 0.0
        if now.sent and now.free_slots > 0:
            return min(AFTER_SENDING, self.sync_wait) if self.alone and not now.follows else 0.0
        if not self.alone or (now.to_send and now.free_slots > 0):
            return self.pause if self.takes_over else 0.0
        return self.sync_wait if now.running or self.takes_over else 0.0

    @property
    def pause(self) -> float:
        """Seconds that keep a scheduler from going round and round that does not sleep by itself."""
        return min(self.sync_wait, PAUSE)

    @classmethod
    def of(cls, conf: ExecutorConf) -> Rules:
        """As configured; malformed options are told elsewhere."""
        try:
            sync_wait = config.load(conf).sync_wait
        except AirExecutorError:
            sync_wait = config.SYNC_WAIT
        takes_over = float(conf.get("scheduler", "scheduler_idle_sleep_time", fallback=None) or 1) == 0
        return cls(sync_wait, takes_over=takes_over, alone=len(ExecutorLoader.get_executor_names()) <= 1)


class Delivered(dict[Any, Any]):
    """Events that the scheduler takes for work, whatever it has left of them.

    It sleeps after a round in which nothing happened, and counts what is in the buffer when it is through with it, when
    nothing is: it would sleep after each end of a task, and once more after `sync` has waited for one.
    """

    def __len__(self) -> int:
        return max(1, super().__len__())


class Heard(NamedTuple):
    """Who has rung, beside the ends of jobs."""

    work: bool
    """Somebody who has made work."""
    told: list[str]
    """Jobs whose tasks have told Airflow of their success."""


class Bell:
    """Rings when the end of a job or the success of its task is announced, or somebody touches the wake file."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._rung = threading.Event()
        self._watch: Watch | None = None
        self._seen: tuple[object, ...] | None = None
        self._may_have_missed = False
        self._heard: list[Path] = []

    def wait(self, seconds: float) -> None:
        """Wait until it rings, at most so long; where nobody may be able to ring it, until the next look is due."""
        self._begin()
        self._rung.wait(min(seconds, LOOK_INTERVAL))

    def gather(self, queues: Sequence[str], sync_wait: float) -> None:
        """Let others ring, too, while every processor has something to do; until somebody has made work.

        Args:
            queues: in which jobs of this executor may wait for a runner that is there.
            sync_wait: seconds; see `Rules`.
        """
        most = min(TOGETHER, sync_wait)
        began = time.monotonic()
        until, idle = began + most, 0
        while idle < IDLE_LOOKS and self._home.wake not in self._hear():
            moment = time.monotonic()
            if moment >= until:
                if moment >= began + IN_A_CROWD * most or not self._is_crowded(queues):
                    return
                until = moment + CROWD_INTERVAL
            idle = 0 if load.idle_processors() == 0 else idle + 1
            time.sleep(IDLE_INTERVAL if idle else BUSY_INTERVAL)

    def _is_crowded(self, queues: Sequence[str]) -> bool:
        most = load.starts_at_a_time()
        waiting = itertools.chain.from_iterable(spool.waiting(self._home, queue) for queue in queues)
        return sum(1 for _ in itertools.islice(waiting, most + 1)) > most

    def _hear(self) -> list[Path]:
        self._heard += [] if self._watch is None else self._watch.take()
        return self._heard

    def mute(self) -> Heard:
        """What rang so far will be looked at now."""
        self._rung.clear()
        missed, self._may_have_missed = self._may_have_missed, False
        files, self._heard = self._hear(), []
        return Heard(
            missed or self._home.wake in files, [file.name for file in files if file.parent == self._home.told]
        )

    def close(self) -> None:
        """Watch no more."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _begin(self) -> None:
        """Again, when the spool was deleted and made anew: a watch stays with what it began to watch.

        Somebody may have made work between the scheduler's last look and this.
        """
        directories = (self._home.finished, self._home.told, self._home.wake.parent)
        seen = tuple(map(_files.identity, directories))
        if seen != self._seen:
            self.close()
            there = [directory for directory, identity in zip(directories, seen, strict=True) if identity is not None]
            self._watch = Watch(there, self._rung.set)
            self._watch.start()
            self._seen = seen
            self._may_have_missed = True
            self._rung.set()
