"""The `exec` launcher: a fresh Python for every job. Slower than `fork`, and sound everywhere."""

from __future__ import annotations

import subprocess
import sys

from air_executor import model
from air_executor.paths import Home
from air_runner import taskloop
from air_runner.launchers import Event, Launched


class ExecLauncher:
    """Starts `python -m air_runner.ephemeral` in a session of its own."""

    name = "exec"

    def __init__(self, home: Home, runner_id: str, rules: taskloop.Rules) -> None:
        self._argv = [sys.executable, "-m", "air_runner.ephemeral", "--home", str(home.root)]
        self._argv += ["--runner", runner_id, *rules.flags]

    def accepts(self, job: model.Job) -> bool:
        """Every job."""
        return True

    def launch(self, job: model.Job) -> list[Event]:
        """Start it. The daemon reaps it with its other children.

        Raises:
            OSError: the system is out of processes, memory or files.
        """
        process = subprocess.Popen([*self._argv, job.name], stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
        process.returncode = 0  # the daemon reaps all children itself; Popen must not wait for this one, nor warn
        return [Launched(job.name, process.pid)]

    def close(self) -> None:
        """Nothing is open."""
