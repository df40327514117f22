"""The process that sends the events of webhooks: a runner of a home that has any sees to it that there is one.

A process of its own, because it waits for receivers, resolves names and loads TLS: none of that belongs into a daemon
which must answer at once. Of all runners of a home one has it, whoever was first; if it dies, or its runner does,
another runner starts the next. What was not taken is in files.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from air_executor import _files, backoff, processes
from air_executor.errors import AirExecutorError
from air_executor.paths import Home
from air_executor.webhooks import routes
from air_runner import logs

log = logging.getLogger(__name__)

FIRST_PAUSE, MAX_PAUSE = 0.5, 60.0
"""Seconds before a process that died is replaced, at first and at most: twice as long each time."""
STEADY = 10.0
"""Seconds of life after which its death is not one more of a row: what it sends, it could have sent by then."""
CLOSE_WAIT = 2.0
"""Seconds that it may take to end; one that waits for a receiver is killed then, and sends that event again."""


def pause(failures: int) -> float:
    """Seconds before the next one after so many deaths in a row. Pure."""
    return backoff.pause(failures, FIRST_PAUSE, MAX_PAUSE)


class Sending:
    """The process, if this runner has it."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._pid: int | None = None
        self._failures = 0
        self._started_at = self._not_before = 0.0

    @property
    def pids(self) -> set[int]:
        """The process, if there is one."""
        return set() if self._pid is None else {self._pid}

    def check(self) -> None:
        """Start it, if there are webhooks and nobody sends; called now and then.

        Raises:
            OSError: it cannot be started now.
        """
        if self._pid is not None or time.monotonic() < self._not_before or not routes.of_home(self._home):
            return
        if not _files.is_locked(self._home.webhook_sender_lock):
            self._start()

    def _start(self) -> None:
        argv = [sys.executable, "-m", __name__, "--home", str(self._home.root)]
        self._started_at = time.monotonic()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
        process.returncode = 0  # reaped by the daemon
        self._pid = process.pid

    def died(self, moment: float) -> float:
        """The daemon reaped the process; returns when to check again, as `moment` by `time.monotonic`."""
        self._pid = None
        self._failures = 1 if moment - self._started_at > STEADY else self._failures + 1
        seconds = pause(self._failures)
        self._not_before = moment + seconds
        log.info("the process that sends the events of webhooks ended; the next in %g s", seconds)
        return self._not_before

    def close(self) -> None:
        """End the process; another runner starts the next."""
        for pid in self.pids:
            try:
                os.kill(pid, signal.SIGTERM)
                processes.wait_gone([pid], CLOSE_WAIT)
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def main(arguments: list[str] | None = None) -> int:
    """`python -m air_runner.sending`: started by a runner, and by nobody else."""
    from air_executor.webhooks.sender import Sender

    parser = argparse.ArgumentParser(prog=f"python -m {__name__}", description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True)
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a Ctrl-C the daemon tells
    processes.end_with_parent()
    home = Home(given.home)
    logs.begin(home, terminal=False)
    sender = Sender(home)
    signal.signal(signal.SIGTERM, lambda *_: sender.end())
    try:
        sender.run()  # if another was quicker, there is nothing to do
    except (AirExecutorError, OSError) as error:
        log.error("the events of webhooks cannot be sent: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
