"""Starts the components, watches them, and ends everything that came of them.

::

    starting ── all are up ──> watching ── SIGTERM, SIGINT, SIGHUP ──> stopping ──> over
        └────── one died, or time is up: say which ─────────────────────┘

Each component leads a session of its own, so Ctrl-C reaches only the supervisor, which ends them in order. On Linux
the supervisor adopts what loses its parent, so nothing escapes the end; and if it is itself killed, the kernel
tells the components.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import datetime
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import psutil

from air_executor import processes, store
from air_executor.paths import Home
from dev import components, pipelines, signals, state, terminal
from dev.checkout import Checkout, Ports
from dev.errors import DevError

START_TIMEOUT = 180.0
"""Seconds until all components must be up; about 15 on two cores, several times that when much else runs."""
DRAIN = 1.0
"""Seconds between the first SIGTERM to the runner, which lets jobs go on, and the second, which stops them."""
AT_ONCE = max(2, os.cpu_count() or 1)
"""How many components do the work of starting at a time."""
TICK = 0.1
HEALTH_INTERVAL = 0.5
RESTARTS = 3
"""How often one component is started again before all is given up."""

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclasses.dataclass
class Member:
    """A component and the process that runs it now."""

    component: components.Component
    process: subprocess.Popen[bytes]
    log: terminal.Follower
    restarts: int = 0

    @property
    def name(self) -> str:
        return self.component.name

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ended(self) -> bool:
        return self.process.returncode is not None


class Supervisor:
    """The components of one checkout."""

    def __init__(
        self, checkout: Checkout, ports: Ports, environment: dict[str, str], screen: terminal.Screen, *, relay: bool
    ) -> None:
        self._checkout = checkout
        self._ports = ports
        self._environment = environment
        self._screen = screen
        self._relay = relay
        self._members: list[Member] = []
        self._healthy = False

    def run(self, stop: signals.StopSignals, on_healthy: Callable[[], None]) -> None:
        """Run everything until somebody asks for the end.

        Raises:
            StopRequested: somebody did.
            DevError: a component did not come up, or died too often.
        """
        processes.become_subreaper()
        store.ensure_home(Home(self._checkout.home))
        pipelines.offer(self._checkout)
        try:
            self._start_all(stop)
            self._healthy = True
            self._record()
            on_healthy()
            self._watch(stop)
        finally:
            self._stop_all(stop)

    # Starting

    def _start_all(self, stop: signals.StopSignals) -> None:
        since = datetime.datetime.now(datetime.timezone.utc)
        began = time.monotonic()
        waiting = components.all_components()
        missing = {component.name for component in waiting}
        next_look = 0.0
        while missing:
            if time.monotonic() >= next_look:
                self._start_next(waiting, missing, since)
                found = missing & components.up(self._checkout, self._ports, since)
                missing -= found
                self._report_up(found, time.monotonic() - began)
                next_look = time.monotonic() + HEALTH_INTERVAL
            self._tick(stop)
            self._refuse_dead()
            if missing and time.monotonic() - began > START_TIMEOUT:
                raise DevError(self._describe_late(missing))

    def _start_next(self, waiting: list[components.Component], missing: set[str], since: datetime.datetime) -> None:
        """As many at once as there are processors: more would take from the API server, which all wait for."""
        starting = {member.name for member in self._members} & missing - components.started(self._checkout, since)
        while waiting and len(starting) < AT_ONCE:
            component = waiting.pop(0)
            self._members.append(self._spawn(component))
            self._record()
            starting.add(component.name)

    def _spawn(self, component: components.Component) -> Member:
        log = self._checkout.log(component.name)
        terminal.keep_previous(log)
        supervisor = os.getpid()
        with log.open("wb") as output:
            process = subprocess.Popen(
                component.argv,
                cwd=self._checkout.root,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=lambda: end_with(supervisor),  # safe: the supervisor has one thread
            )
        return Member(component, process, terminal.Follower(log))

    def _report_up(self, names: Iterable[str], seconds: float) -> None:
        for name in sorted(names):
            self._say(f"{name} is up after {seconds:.1f} s")

    def _refuse_dead(self) -> None:
        for member in self._members:
            if member.ended:
                raise DevError(self._describe_death(member))

    def _describe_death(self, member: Member) -> str:
        log = self._checkout.log(member.name)
        code = member.process.returncode
        how = f"exit code {code}" if code >= 0 else processes.describe_signal(-code)
        return f"{member.name} ended with {how}; the last lines of {log}:\n{terminal.last_lines(log)}"

    def _describe_late(self, missing: set[str]) -> str:
        texts = [
            f"{name} is not up after {START_TIMEOUT:.0f} s; the last lines of {log}:\n{terminal.last_lines(log)}"
            for name in sorted(missing)
            if (log := self._checkout.log(name))
        ]
        return "\n".join(texts)

    def _record(self) -> None:
        members = {member.name: processes.identify(member.pid) for member in self._members}
        state.record(self._checkout, state.State(self._ports.web, os.getpid(), self._healthy, members))

    # Watching

    def _watch(self, stop: signals.StopSignals) -> None:
        while True:
            self._tick(stop)
            for member in self._members:
                if member.ended:
                    self._restart(member)

    def _restart(self, member: Member) -> None:
        """A crash is part of what one develops against, so everything else goes on meanwhile."""
        if member.restarts == RESTARTS:
            raise DevError(f"given up after {RESTARTS} restarts: {self._describe_death(member)}")
        self._say(f"{self._describe_death(member)}\nstarting {member.name} again")
        self._kill_session(member.pid)
        new = self._spawn(member.component)
        member.process, member.log = new.process, new.log
        member.restarts += 1
        self._record()

    def _kill_session(self, leader: int) -> None:
        """End what a dead component left: it would keep ports. Jobs have sessions of their own and live on."""
        for process in psutil.Process().children():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(process.pid) == leader:
                    processes.kill_tree(process.pid)

    def _tick(self, stop: signals.StopSignals) -> None:
        time.sleep(TICK)
        stop.check()
        self._collect()
        if self._screen.gone:
            stop.request(signal.SIGHUP)

    def _collect(self) -> None:
        self._reap()
        for member in self._members if self._relay else ():
            for line in member.log.lines():
                self._screen.relay(member.name, line)

    def _reap(self) -> None:
        """Also the orphans that were adopted, so `Popen.wait` cannot be used."""
        pid = 1
        while pid:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            for member in self._members:
                if member.pid == pid:
                    member.process.returncode = os.waitstatus_to_exitcode(status)

    def _say(self, text: str) -> None:
        """Among the lines of the components, ours need a name too."""
        for line in text.splitlines():
            if self._relay:
                self._screen.relay(terminal.OURSELVES, line)
            else:
                self._screen.say(line)

    # Stopping

    def _stop_all(self, stop: signals.StopSignals) -> None:
        """The API server goes last: tasks that are being stopped still report to it."""
        self._stop([member for member in self._members if member.name != components.API_SERVER], stop)
        self._stop([member for member in self._members if member.name == components.API_SERVER], stop)
        self._sweep()
        state.forget(self._checkout, [member.name for member in self._members])

    def _stop(self, members: list[Member], stop: signals.StopSignals) -> None:
        # Where nothing adopts orphans, a look before the end is the only way to find them after it.
        families = [process for member in members for process in processes.tree(member.pid)]
        began = time.monotonic()
        nudged = False
        _terminate(members)
        while left := [member for member in members if not member.ended]:
            time.sleep(TICK)
            self._collect()
            elapsed = time.monotonic() - began
            if elapsed > DRAIN and not nudged:
                nudged = True
                _terminate(member for member in left if member.name == components.RUNNER)
            for member in left:
                if elapsed > member.component.grace or stop.hurry:
                    processes.kill_tree(member.pid)
        processes.send([process for process in families if process.is_running()], signal.SIGKILL)
        for member in members:
            self._say(f"stopped {member.name} (pid {member.pid})")

    def _sweep(self) -> None:
        """Kill and collect whatever is left below this process, until nothing is."""
        while left := psutil.Process().children(recursive=True):
            processes.send(left, signal.SIGKILL)
            self._collect()
            time.sleep(TICK / 10)


def _terminate(members: Iterable[Member]) -> None:
    for member in members:
        if not member.ended:
            member.process.terminate()


def end_with(supervisor: int) -> None:
    """In the new process: be told when the supervisor dies, also if it has just died."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(1)
