"""A real Slurm of this host, made by scripts/slurm-testcluster, and what tests ask of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm-testcluster"
TIMEOUT = 60
CONTROLLER = "slurmctld"


class Row(NamedTuple):
    """A job as squeue shows it."""

    id: str
    name: str
    state: str
    nodes: str
    reason: str
    """Last, for it is text of any kind."""


class Cluster:
    """One that is up until `close`. Its directory holds nothing but what Slurm has of it."""

    def __init__(self, nodes: int = 3, cpus: int = 4, **settings: str) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="air-slurm-"))
        self.root = self.place / "cluster"
        self.daemons = [CONTROLLER, *(f"n{number + 1}" for number in range(nodes))]
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        self.environment["SLURM_CONF"] = str(self.root / "slurm.conf")
        try:
            self._script("up", str(self.root), str(nodes), str(cpus), **settings)
        except BaseException:
            shutil.rmtree(self.place)
            raise

    def _script(self, *arguments: str, **variables: str) -> None:
        environment = {**self.environment, **variables}
        done = subprocess.run(
            [SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert done.returncode == 0, f"slurm-testcluster {' '.join(arguments)}: {done.stderr}"

    def run(self, *command: str, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command of Slurm, or any other in its environment, to its end."""
        options.setdefault("cwd", self.place)
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=TIMEOUT, check=False, **options
        )
        assert code is None or done.returncode == code, (command, done.returncode, done.stdout, done.stderr)
        return done

    def submit(self, command: str, *flags: str) -> str:
        """The id of a new job of one shell command."""
        wanted = ["--parsable", "--output=/dev/null", *flags, "--wrap", command]
        return self.run("sbatch", *wanted).stdout.strip()

    def squeue(self, *flags: str) -> list[Row]:
        """All jobs that Slurm knows, also those that are over."""
        shown = self.run("squeue", "--noheader", "--states=all", "--format=%i|%j|%T|%N|%r", *flags).stdout
        return [Row(*line.split("|", 4)) for line in shown.splitlines()]

    def state(self, job_id: str) -> str:
        """The state of one job, or nothing if Slurm does not know it."""
        return next((row.state for row in self.squeue() if row.id == job_id), "")

    def kill(self, daemon: str, *, steps: bool = False) -> None:
        """KILL to `slurmctld`, or to the daemon of a node, and to the jobs there."""
        self._script("kill", str(self.root), daemon, *(["--steps"] if steps else []))

    def restart(self, daemon: str) -> None:
        """End it gently if it runs, start it, and wait until it answers."""
        self._script("restart", str(self.root), daemon)

    @contextlib.contextmanager
    def frozen(self, daemon: str = CONTROLLER) -> Iterator[None]:
        """It runs and answers nobody: what asks it hangs."""
        process = self._process(daemon)
        assert process is not None, f"{daemon} does not run"
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def mend(self) -> None:
        """Start what a test has killed."""
        for daemon in self.daemons:
            if self._process(daemon) is None:
                self.restart(daemon)

    def _process(self, daemon: str) -> psutil.Process | None:
        try:
            process = psutil.Process(int((self.root / daemon / "pid").read_text()))
            return process if process.cmdline()[-1] == self.environment["SLURM_CONF"] else None
        except (OSError, ValueError, IndexError, psutil.Error):
            return None

    def tails(self) -> list[tuple[str, str]]:
        """The ends of the daemons' logs."""
        logs = [(daemon, self.root / daemon / "log") for daemon in self.daemons]
        return [(name, "\n".join(log.read_text().splitlines()[-20:])) for name, log in logs if log.exists()]

    def close(self) -> None:
        """End it and all its jobs; nothing is left."""
        self._script("down", str(self.root))
        shutil.rmtree(self.place)
