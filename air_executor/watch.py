"""Being told of new or removed files in a home. Where the system cannot tell, or another host does it, one has to look.

Of new files only "a file was written and closed" is asked for: a new marker gives exactly that, while claims, which are
renames, do not wake anybody. watchdog is imported when a watch begins, not before.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)


class Watch:
    """Collects the paths of new files in some directories, or of those that are removed.

    Args:
        directories: what to watch.
        recursive: whether to watch all below them, too.
        removed: whether it is removed files that count, and not new ones.
        wake: called from another thread when there is something to `take`.
    """

    def __init__(
        self, directories: Iterable[Path], wake: Callable[[], None], *, recursive: bool = False, removed: bool = False
    ) -> None:
        self._directories = list(directories)
        self._recursive = recursive
        self._removed = removed
        self._wake = wake
        self._seen: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._observer: BaseObserver | None = None

    @property
    def works(self) -> bool:
        """Whether what this host does is noticed without looking."""
        return self._observer is not None and self._observer.is_alive()

    def start(self) -> None:
        """Begin to watch; a system that cannot is said so once, and `works` is False."""
        from watchdog.events import FileClosedEvent, FileCreatedEvent, FileDeletedEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        hush()
        notice = self._notice

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: Any) -> None:
                notice(event)

        observer = Observer()
        created = FileClosedEvent if "Inotify" in type(observer).__name__ else FileCreatedEvent
        wanted = FileDeletedEvent if self._removed else created
        try:
            for directory in self._directories:
                observer.schedule(Handler(), str(directory), recursive=self._recursive, event_filter=[wanted])
            observer.start()
        except OSError as error:
            log.warning("cannot watch %s (%s); looking now and then instead", self._directories[0], error)
            return
        self._observer = observer

    def take(self) -> list[Path]:
        """The files that appeared, or were removed, since the last call."""
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
        self._seen.put(self._directories[0] / event.src_path)  # which is absolute
        self._wake()


_NOWHERE = logging.NullHandler()


def hush() -> None:
    """Where nobody has set up logging, watchdog's word that it was stopped as it waited would be on the terminal."""
    logging.getLogger("watchdog").addHandler(_NOWHERE)


def _forget_descriptor() -> None:
    """watchdog has one descriptor for all that a process watches, and a thread that reads it.

    A forked process has the descriptor and not the thread: it would hear nothing, and what it began or ceased to watch
    would be changed for its parent.
    """
    module = sys.modules.get("watchdog.observers.inotify_c")
    if (shared := getattr(module, "InotifyFD", None)) is not None:
        shared._instance = None
        shared._global_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_descriptor)
