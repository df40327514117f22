"""Noticing markers: a watch on the spool wakes the daemon. Where watching does not work, it looks more often.

Only "a file was written and closed" is asked for: a new marker gives exactly that, while claims, which are renames, do
not wake anybody.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from air_executor.paths import Home

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)


class SpoolWatch:
    """Collects the paths of new files below `spool/`.

    Args:
        wake: called from another thread when there is something to `take`.
    """

    def __init__(self, home: Home, wake: Callable[[], None]) -> None:
        self._home = home
        self._wake = wake
        self._seen: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._observer: BaseObserver | None = None

    @property
    def works(self) -> bool:
        """Whether new markers are noticed without looking."""
        return self._observer is not None and self._observer.is_alive()

    def start(self) -> None:
        """Begin to watch; a system that cannot is said so once, and `works` is False."""
        from watchdog.events import FileClosedEvent, FileCreatedEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        notice = self._notice

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: Any) -> None:
                notice(event)

        observer = Observer()
        wanted = FileClosedEvent if "Inotify" in type(observer).__name__ else FileCreatedEvent
        try:
            observer.schedule(Handler(), str(self._home.spool), recursive=True, event_filter=[wanted])
            observer.start()
        except OSError as error:
            log.warning("cannot watch %s (%s); looking every second instead", self._home.spool, error)
            return
        self._observer = observer

    def take(self) -> list[Path]:
        """The files that appeared since the last call."""
        paths = []
        while True:
            try:
                paths.append(self._seen.get_nowait())
            except queue.Empty:
                return paths

    def stop(self) -> None:
        """End the watch."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def _notice(self, event: Any) -> None:
        self._seen.put(self._home.spool / event.src_path)  # which is absolute
        self._wake()
