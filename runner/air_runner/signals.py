"""Signals as bytes on a descriptor, so that a loop waits for signals and for everything else in one place."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable

from air_executor import processes

_WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGURG)


class SignalPipe:
    """Collects signals; `fileno` is readable while some wait to be read."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _note)

    def fileno(self) -> int:
        """For selectors."""
        return self._reader

    def wake(self) -> None:
        """Make `fileno` readable; may be called from any thread."""
        with contextlib.suppress(OSError):  # full: it is readable already; closed: nobody listens any more
            os.write(self._writer, b"\0")

    def read(self) -> set[int]:
        """The signals that arrived; empty after a mere `wake`."""
        seen: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reader, 4096):
                seen.update(data)
        return seen - {0}

    def close(self) -> None:
        """Give signals back to their defaults."""
        reset()
        reader, writer = self._reader, self._writer
        self._reader = self._writer = -1  # first: a thread that wakes it now must not write into another's file
        os.close(reader)
        os.close(writer)


def reset() -> None:
    """As in a fresh process: no handler, no wake-up descriptor, nothing blocked. For forked children."""
    signal.set_wakeup_fd(-1)
    for number in _WATCHED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def reap() -> dict[int, int]:
    """The children that ended, with their wait status; also those adopted from descendants that died."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = status
    return ended


def has_no_children() -> bool:
    """Whether this process has no child, not even one that ended and was not reaped."""
    if not hasattr(os, "waitid"):  # macOS, before Python 3.13
        return not processes.children()
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _note(_number: int, _frame: object) -> None:
    """Something must be installed for the wake-up descriptor to be written."""
