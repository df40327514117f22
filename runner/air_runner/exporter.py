"""Tells others of the metrics of a runner, beside its loop: as a file, and over HTTP if that is wanted.

A thread of its own, so that neither a client nor a slow filesystem is waited for. The daemon only leaves `Values` here,
with each heartbeat; what waits in the queues of the home, the thread finds out. It never holds a lock, and takes at
most a fiftieth of a processor for looking at queues, however long they are.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import selectors
import threading
import time
from collections.abc import Callable, Iterable

from air_executor import _files, exposition, pauses, preloads, spool
from air_executor.errors import CorruptFileError
from air_executor.paths import Home
from air_executor.settings import RunnerSettings
from air_executor.slurm import condition
from air_runner import metrics, scrape

log = logging.getLogger(__name__)

FRESH = 1.0
"""Seconds for which a text is served again."""
LOOK_SHARE = 0.02
"""The part of its time that the thread may take for looks at the queues."""
TROUBLE_PAUSE = 15.0
LONGEST_PAUSE = 3600.0
"""Seconds; the system refuses to wait for many days."""
JOIN_TIMEOUT = 2.0
"""Seconds to wait for the end of the thread, which may hang in a filesystem."""


class Exporter:
    """Writes `metrics/<runner id>.prom` now and then, and answers `GET /metrics`."""

    def __init__(self, home: Home, runner_id: str, settings: RunnerSettings) -> None:
        self._home, self._id, self._settings = home, runner_id, settings
        self._path = home.runner_metrics(runner_id)
        self._values: tuple[metrics.Values, ...] = ()
        self._text, self._text_at = "", -math.inf
        self._write_at = 0.0
        self._queues = QueueLooks(home, settings.queues)
        self._server: scrape.Server | None = None
        self._ended = threading.Event()
        self._troubled = False
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    @property
    def wanted(self) -> bool:
        """Whether anybody is told."""
        return self._settings.metrics_interval > 0 or self._settings.metrics_port > 0

    def change(self, settings: RunnerSettings) -> None:
        """Which queues come first from now on. Called from the daemon's thread."""
        self._settings = settings

    def publish(self, *values: metrics.Values) -> None:
        """What is to be told from now on; nobody may change it any more. Called from the daemon's thread."""
        self._values = values

    def start(self) -> None:
        """Begin, if anybody is to be told."""
        if not self.wanted:
            return
        self._selector = selectors.DefaultSelector()
        self._reader, self._writer = os.pipe()
        self._selector.register(self._reader, selectors.EVENT_READ, lambda: None)
        if self._settings.metrics_port:
            host, port = self._settings.metrics_host, self._settings.metrics_port
            self._server = scrape.Server(self._selector, host, port, self.text)
        self._thread.start()

    def stop(self) -> None:
        """Tell nobody any more: the port is free for another runner, and the file is gone."""
        if not self._thread.is_alive():
            return
        self._ended.set()
        os.write(self._writer, b"\0")
        self._thread.join(JOIN_TIMEOUT)
        if not self._thread.is_alive():  # one that hangs needs what it has until the process ends
            self._selector.close()
            os.close(self._reader)
            os.close(self._writer)

    def text(self) -> str:
        """All metrics; made anew if what there is is older than a second."""
        moment = time.monotonic()
        if moment - self._text_at >= FRESH:
            queues = metrics.describe_queues(self._queues.look(moment), self._settings.queues, time.time())
            slurm = metrics.describe_slurm(condition.read(self._home, self._id))
            learned = _describe_learned(self._home, self._values)
            families = metrics.families(self._id, *self._values, queues, learned, slurm)
            self._text, self._text_at = exposition.render(families), moment
        return self._text

    # --- The thread ---

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._safely(self._turn)
        finally:
            if self._server is not None:
                self._server.close()
            self._safely(lambda: self._path.unlink(missing_ok=True))

    def _turn(self) -> None:
        moment = time.monotonic()
        if self._settings.metrics_interval and moment >= self._write_at:
            self._write_at = moment + self._settings.metrics_interval
            self._write()
        pauses = [LONGEST_PAUSE, self._write_at - moment] if self._settings.metrics_interval else [LONGEST_PAUSE]
        if self._server is not None:
            pauses.append(self._server.tend(moment))
        for key, _ in self._selector.select(max(0.0, min(pauses))):
            if not self._ended.is_set():
                key.data()

    def _write(self) -> None:
        try:
            _files.make_directory(self._path.parent)
            _files.replace(self._path, self.text().encode())
        except OSError as error:
            if not self._troubled:
                log.error("cannot write %s: %s; trying again", self._path, error.strerror)
            self._troubled = True
        else:
            self._troubled = False

    def _safely(self, action: Callable[[], object]) -> None:
        """Whatever goes wrong with metrics is no trouble of jobs, and the next attempt may go well."""
        try:
            action()
        except Exception:
            log.exception("trouble with metrics; trying again in %.0f s", TROUBLE_PAUSE)
            self._ended.wait(TROUBLE_PAUSE)


class QueueLooks:
    """Knows what waits in the queues of a home, and which are paused, as of a moment ago.

    Args:
        served: queues that are told of although they may have no directory yet.
    """

    def __init__(self, home: Home, served: Iterable[str]) -> None:
        self._home, self._served = home, tuple(served)
        self._found: dict[str, metrics.QueueCondition] = {}
        self._paused: frozenset[str] = frozenset()
        self._due = -math.inf

    def look(self, moment: float) -> dict[str, metrics.QueueCondition]:
        """Look, unless the last look was so long, and so short a time ago, that it has to do."""
        if moment >= self._due:
            with contextlib.suppress(OSError):  # as the loop does, which logs that: what was known last goes on
                self._paused = pauses.names(self._home)
            names = {*self._served, *spool.queues(self._home), *self._paused}
            self._found = {name: self._look_at(name) for name in names}
            took = time.monotonic() - moment
            self._due = moment + took / LOOK_SHARE
        return self._found

    def _look_at(self, queue: str) -> metrics.QueueCondition:
        moments = [marker.queued_at for marker in spool.waiting(self._home, queue)]
        return metrics.QueueCondition(len(moments), min(moments, default=None), queue in self._paused)


def _describe_learned(home: Home, values: Iterable[metrics.Values]) -> metrics.Values:
    """How many modules the templates preload beside their own."""
    modules = [module for each in values for (module,) in each.numbers.get(metrics.TEMPLATE_UP, {})]
    try:
        known = preloads.read(preloads.own_file(home)).templates
    except (CorruptFileError, OSError):  # templates see to that, and begin anew
        known = {}
    learned: metrics.Numbers = {
        (module,): (len(known[module].having(preloads.Verdict.PRELOADED)) if module in known else 0)
        for module in modules
    }
    return metrics.Values({metrics.TEMPLATE_MODULES: learned})
