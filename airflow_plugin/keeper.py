"""Keeps an embedded runner running on the scheduler's host. Never blocks, never raises for what the runner does."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

from air_executor import backoff, processes, runners
from air_executor.errors import SettingsError
from air_executor.paths import Home
from air_executor.sightings import Sightings
from airflow_plugin import starter

ALIVE_INTERVAL = 3.0
"""Seconds between two signs of life to the runner."""
CHECK_INTERVAL = 1.0
"""Seconds between two looks whether a runner lives; nobody sees to the jobs of a dead one before."""
FIRST_PAUSE = 5.0
"""Seconds between the first attempt to start a runner and the second."""
MAX_PAUSE = 60.0
"""Seconds between two attempts, once several have failed."""
LINGER = 600.0
"""Seconds that the runner stays after the last scheduler is gone: a restart finds it warm."""

log = logging.getLogger(__name__)


class RunnerKeeper:
    """Starts a runner when none serves the queues, through a process of its own.

    Args:
        wanted: False if somebody else starts runners; then this only says that a submitter is there.
        queues: says which queues the runner shall serve, each time that one is started; without it, those of `options`.
    """

    def __init__(
        self,
        home: Home,
        options: runners.StartOptions,
        *,
        wanted: bool,
        queues: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self.home = home
        self.options = options
        self.wanted = wanted
        self._queues = queues or (lambda: options.queues)
        self.failures = 0
        self.seen = Sightings(guess=True)
        """What this scheduler has seen of the runners."""
        self._renew_before: int | None = processes.now()
        self._next_alive = self._next_check = 0.0
        self._starting: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def starting(self) -> bool:
        """Whether a runner is being started."""
        return self._starting is not None

    def tick(self, now: float | None = None) -> None:
        """Do what is due.

        Raises:
            OSError: the home refused.
        """
        now = time.monotonic() if now is None else now
        if now >= self._next_alive:
            self._next_alive = now + ALIVE_INTERVAL
            runners.keep_alive(self.home)
        if self._starting is not None:
            self._look_after(self._starting, now)
        elif self.wanted and now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL
            if self._renew_before or runners.unserved(self.home, self.options.queues, self.seen):
                self._start()

    def close(self) -> None:
        """Want no runner any more; one that is being started goes on."""
        self.wanted = False
        if self._starting is not None and self._starting.poll() is not None:
            self._starting = None
        if self._output is not None:
            self._output.close()

    def _look_at_queues(self) -> None:
        """As they are now; those of the last time if they cannot be known: a file may be in the middle of an edit."""
        try:
            self.options = dataclasses.replace(self.options, queues=tuple(self._queues()))
        except SettingsError as error:
            log.error("%s; until that is put right, the runner serves %s", error, ", ".join(self.options.queues))

    def _start(self) -> None:
        self._look_at_queues()
        arguments = [str(self.home.root), starter.encode(self.options, self._renew_before)]
        environment = {name: value for name, value in os.environ.items() if name != "_AIRFLOW_PROCESS_CONTEXT"}
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # read and closed when the process is over
        self._starting = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", starter.__name__, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
            env=environment,
        )

    def _look_after(self, process: subprocess.Popen[bytes], now: float) -> None:
        code = process.poll()
        if code is None:
            return
        said = self._read_output()
        self._starting = None
        if code == 0:
            self.failures, self._renew_before = 0, None
            return
        self.failures += 1
        pause = backoff.pause(self.failures, FIRST_PAUSE, MAX_PAUSE)
        self._next_check = now + pause
        log.error("The runner could not be started: %s. Next attempt in %.0f s.", said or f"exit code {code}", pause)

    def _read_output(self) -> str:
        if self._output is None:
            return ""
        with self._output as output:
            output.seek(0)
            lines = output.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""


def start_options(options: Any, parallelism: int, module: str) -> runners.StartOptions:
    """How the embedded runner is started."""
    return runners.StartOptions(
        queues=options.queues,
        slots=options.slots or parallelism,
        preload=[module],
        linger=LINGER,
        embedded=True,
        python=options.python,
    )
