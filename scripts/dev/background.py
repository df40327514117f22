"""The supervisor as a process of its own: started, watched until all is healthy, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from air_executor import client, model, processes
from dev import settings, state, supervisor, terminal
from dev.checkout import Checkout, Ports
from dev.errors import DevError
from dev.signals import StopSignals

ENTRY = Path(__file__).parent.parent / "start_dev.py"
TICK = 0.1
END_TIMEOUT = 60.0
"""Seconds that a supervisor may take to end; more than its own grace for the components."""
LEFTOVER_GRACE = 12.0
"""Seconds that components have to end whose supervisor was killed."""


class Background:
    """A supervisor that this process started."""

    def __init__(self, checkout: Checkout, ports: Ports, lock: int, *, tied: bool) -> None:
        """Start it. `tied`: it ends when this process does, however that happens."""
        self._checkout = checkout
        log = checkout.log("start-dev")
        terminal.keep_previous(log)
        parent = os.getpid()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(ENTRY), "supervise", "--port", str(ports.web), "--lock", str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=[lock],
                preexec_fn=(lambda: supervisor.end_with(parent)) if tied else None,  # safe: this process has one thread
            )
        self._log = terminal.Follower(log)
        self._failed = False

    def wait_until_healthy(self, screen: terminal.Screen, stop: StopSignals) -> None:
        """Show what it says until everything is up.

        Raises:
            StopRequested: somebody asked for the end; it has ended.
            SystemExit: it ended by itself, and has said why.
        """
        try:
            while not self._is_healthy():
                time.sleep(TICK)
                stop.check()
                ended = self._process.poll() is not None
                self._show(screen)
                if ended:
                    raise SystemExit(self._process.returncode or 1)
        except BaseException:
            self.end(screen)
            raise

    def check(self) -> None:
        """Raises: DevError: it has ended."""
        if self._process.poll() is not None:
            raise DevError(f"the components ended meanwhile: see {self._checkout.log('start-dev')}")

    def end(self, screen: terminal.Screen) -> None:
        """End it and everything that it started."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            end_leftovers(self._checkout)
        self._show(screen)

    def _is_healthy(self) -> bool:
        current = state.read(self._checkout)
        return current is not None and current.supervisor == self._process.pid and current.healthy

    def _show(self, screen: terminal.Screen) -> None:
        for line in self._log.lines():
            # The reason of a failure is the last that it says, and may have several lines.
            self._failed = self._failed or line.startswith(terminal.FAILED)
            show = screen.complain if self._failed else screen.say
            show(line)


def stop(checkout: Checkout) -> list[str]:
    """End what runs in this checkout; returns what that was.

    Raises:
        DevError: it does not end.
    """
    pid = state.holder(checkout)
    current = state.read(checkout)
    if pid is not None:
        _end(checkout, pid)
    names = [f"{name} (pid {process.pid})" for name, process in current.components.items()] if current else []
    end_leftovers(checkout)
    if pid is not None and not names:
        return [f"a start that was still preparing (pid {pid})"]
    return names


def _end(checkout: Checkout, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + END_TIMEOUT
    while state.holder(checkout) is not None:
        if time.monotonic() > deadline:
            raise DevError(f"pid {pid} does not end: end it with kill -9 {pid}, then run ./start-dev.sh --stop again")
        time.sleep(TICK)


def end_leftovers(checkout: Checkout) -> None:
    """End what a supervisor left that was killed: its components, the jobs that still run, and whatever else."""
    current = state.read(checkout)
    if current is None:
        return
    _end_all(list(current.components.values()), LEFTOVER_GRACE)
    jobs = client.AirExecutorClient(checkout.home).list_jobs(state=model.JobState.WORKING)
    _end_all([job.runner for job in jobs if job.runner is not None], 0.0)
    _end_all([processes.identify(pid) for pid in _marked(checkout)], 0.0)
    state.forget(checkout, current.components)


def _marked(checkout: Checkout) -> Iterator[int]:
    """The processes that say in their environment that they were started here, except this one."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # it has ended, or is somebody else's
            if process.pid != os.getpid() and process.environ().get(settings.MARK) == str(checkout.root):
                yield process.pid


def _end_all(identities: list[model.Process], grace: float) -> None:
    """SIGTERM every second, as the runner stops its jobs at the second one; SIGKILL after `grace` seconds."""
    began = time.monotonic()
    while left := [process for process in identities if processes.is_alive(process)]:
        for process in left:
            if time.monotonic() - began < grace:
                processes.send(processes.tree(process.pid)[:1], signal.SIGTERM)
            else:
                processes.kill_tree(process.pid)
        _wait_for_ends(left, 1.0)


def _wait_for_ends(identities: list[model.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(map(processes.is_alive, identities)):
        time.sleep(TICK)
