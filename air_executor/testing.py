"""For the tests of those who build on Air-Executor: a real runner for a while, and waiting for conditions."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from air_executor import processes, runners, store
from air_executor.paths import Home

T = TypeVar("T")

READY_TIMEOUT = 30.0
END_TIMEOUT = 30.0


def wait_for(condition: Callable[[], T], seconds: float = 20.0, what: str = "the condition") -> T:
    """Call `condition` until it returns something true; return that.

    Raises:
        AssertionError: it did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what} did not come true within {seconds:g} s")
        time.sleep(0.01)


@dataclass
class RunnerProcess:
    """A runner in a process of its own, started with `python -m air_runner` and the given flags."""

    home: Home
    flags: list[str] = field(default_factory=list)
    wrapper: list[str] = field(default_factory=list)
    """A command that executes the one that follows it, as `nice` does."""
    output: Path | None = None
    """Where to write what it says; None: where this process does."""

    def __post_init__(self) -> None:
        store.ensure_home(self.home)
        argv = [*self.wrapper, sys.executable, "-m", runners.RUNNER_MODULE, "--home", str(self.home.root), *self.flags]
        with contextlib.ExitStack() as files:
            said = None if self.output is None else files.enter_context(self.output.open("ab"))
            self.popen = subprocess.Popen(  # noqa: S603
                argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        found = wait_for(self._find, READY_TIMEOUT, "a ready runner")
        assert found is not None  # noqa: S101
        self.info = found

    def _find(self) -> runners.RunnerInfo | None:
        if self.popen.poll() is not None:
            raise AssertionError(f"the runner ended with exit code {self.popen.returncode}")
        return next((info for info in runners.all_runners(self.home) if info.process.pid == self.popen.pid), None)

    @property
    def id(self) -> str:
        return self.info.id

    def signal(self, number: signal.Signals) -> None:
        """Send it to the runner alone."""
        self.popen.send_signal(number)

    def wait(self, seconds: float = END_TIMEOUT) -> int:
        """Its exit code, once it has ended."""
        return self.popen.wait(seconds)

    def kill(self) -> None:
        """KILL to the runner alone: its templates end by themselves, its ephemeral runners go on."""
        self.popen.kill()
        self.popen.wait()


@contextlib.contextmanager
def running_runner(home: Home, *flags: str) -> Iterator[RunnerProcess]:
    """A runner that is there inside the `with`; afterwards nothing that it started is."""
    runner = RunnerProcess(home, list(flags))
    try:
        yield runner
    finally:
        end_everything(home, runner)


def end_everything(home: Home, *started: RunnerProcess) -> None:
    """KILL runners and all they started, also what outlived a runner."""
    for runner in started:
        processes.kill_tree(runner.popen.pid)
        runner.popen.wait()
    for pid in processes_of(home):
        processes.kill_tree(pid)
    wait_for(lambda: not processes_of(home), END_TIMEOUT, "the end of all processes of the home")


def processes_of(home: Home) -> list[int]:
    """Processes that name the home in their command line or environment, this one and its parents aside."""
    import psutil

    needle = str(home.root).encode()
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [pid for pid in psutil.pids() if pid not in own and _mentions(pid, needle)]


def _mentions(pid: int, needle: bytes) -> bool:
    if processes.start_time(pid) is None:  # gone, or a zombie that its parent has not collected
        return False
    for name in ("cmdline", "environ"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:  # noqa: PTH123
            if needle in file.read():
                return True
    return False
