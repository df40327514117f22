"""The `fork` launcher: ephemeral runners are forked from templates, one template for each preloaded module.

A template that ends (it died, or what it has loaded has changed on disk) is replaced at once; what it was asked and did
not answer is asked of the new one. One that is ill (cannot preload, ends again and again without having launched a job)
never fails a job: what it did not answer is refused, and the daemon turns to `exec`. It is tried again after a while.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Collection

from air_executor import model
from air_executor.paths import Home
from air_runner import metrics, taskloop
from air_runner.channel import Channel
from air_runner.launchers import Event, Exited, Launched, Refused

log = logging.getLogger(__name__)

RETRY_AFTER = 60.0
"""Seconds that an ill template is left alone."""

LIGHT = "air_runner.ephemeral"
"""What the template of jobs that name none has preloaded: nothing but the ephemeral runner itself."""

MAX_UNANSWERED = 50
"""Jobs that a template is asked to launch before it has answered for the first of them."""

READY_TIMEOUT = 60.0
"""Seconds a template may take to preload; Airflow takes about 2."""


MAX_FRUITLESS = 3
"""Templates in a row that end without having launched a job, before their module is declared ill."""


class TemplateProcess:
    """A template as the daemon sees it."""

    def __init__(self, home: Home, runner_id: str, module: str, rules: taskloop.Rules) -> None:
        self.module = module
        self.ready = False
        self.fruitful = False
        """Whether it has launched a job."""
        self.stale: str | None = None
        """Why it has ended: what it has loaded is not what is on disk."""
        self.asked: dict[str, str | None] = {}
        """Jobs it was asked to launch, or will be, and has not answered; and their variants."""
        self._unsent: deque[str] = deque()
        self.started_at = time.monotonic()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.channel = Channel(ours)
        argv = [sys.executable, "-m", "air_runner.template", "--home", str(home.root), "--runner", runner_id]
        argv += ["--module", module, *rules.flags, "--socket", str(theirs.fileno())]
        argv += ["--learn"] if module != LIGHT else []
        with theirs:
            process = subprocess.Popen(  # noqa: S603
                argv, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        process.returncode = 0  # reaped by the daemon
        self.pid = process.pid

    def ask(self, job_name: str, variant: str | None) -> None:
        """Ask for a launch, now or once it is ready."""
        self.asked[job_name] = variant
        self._unsent.append(job_name)
        self._send()

    def end(self, why: str) -> None:
        """Let it launch nothing more, and end."""
        self.fruitful = True  # that it ends is not its fault
        self.channel.send({"end": why})

    def _send(self) -> None:
        """Only so many at a time: a socket holds some 90 long messages, and one that does not fit would be lost."""
        while self.ready and self._unsent and len(self.asked) - len(self._unsent) < MAX_UNANSWERED:
            name = self._unsent.popleft()
            self.channel.send({"launch": name, "variant": self.asked[name]})

    def receive(self) -> list[Event]:
        """What it has to say."""
        events: list[Event] = []
        for message in self.channel.receive():
            if "ready" in message:
                self.ready = True
                log.info("template for %s is ready after %.1f s", self.module, time.monotonic() - self.started_at)
            elif "launched" in message:
                self.fruitful = True
                self.asked.pop(message["launched"], None)
                events.append(Launched(message["launched"], message["pid"]))
            elif "exited" in message:
                events.append(Exited(message["exited"], message["status"]))
            elif "successor" in message:
                self.pid = message["successor"]
            elif "stale" in message:
                self.stale = message["stale"]
        if self.stale is None:
            self._send()
        return events


class ForkLauncher:
    """Keeps templates and asks them.

    Args:
        selector: where the templates' sockets are registered, with `on_events` as their data.
        on_events: called with what a template has to say.
    """

    name = "fork"

    def __init__(
        self,
        home: Home,
        runner_id: str,
        rules: taskloop.Rules,
        selector: selectors.BaseSelector,
        on_events: Callable[[list[Event]], None],
    ) -> None:
        self._home, self._runner_id, self._rules = home, runner_id, rules
        self._selector, self._on_events = selector, on_events
        self._templates: dict[str, TemplateProcess] = {}
        self._ill_until: dict[str, float] = {}
        self._ill_because: dict[str, str] = {}
        self._fruitless: Counter[str] = Counter()
        """How many templates of a module, one after the other, ended without having launched a job."""
        self._ends: Counter[str] = Counter()
        """How many templates of a module ended."""

    def accepts(self, job: model.Job) -> bool:
        """Every job, unless its template is ill."""
        return time.monotonic() >= self._ill_until.get(job.template or LIGHT, 0.0)

    def launch(self, job: model.Job) -> list[Event]:
        """Ask the template; it answers later."""
        module = job.template or LIGHT
        if not self.warm(module):
            return [Refused(job.name)]
        self._templates[module].ask(job.name, job.variant)
        return []

    def warm(self, module: str) -> bool:
        """See to it that there is a template for a module; False if none can be started."""
        if module in self._templates:
            return True
        try:
            process = TemplateProcess(self._home, self._runner_id, module, self._rules)
        except OSError as error:
            self._declare_ill(module, str(error))
            return False
        self._templates[module] = process
        self._selector.register(process.channel, selectors.EVENT_READ, lambda: self._read(process))
        return True

    def warming(self, modules: Collection[str]) -> bool:
        """Whether one of these templates is not ready yet."""
        return any(process.module in modules and not process.ready for process in self._templates.values())

    def renew(self, why: str) -> None:
        """Put new templates in the place of all there are: what is launched from now on is launched by those."""
        for process in self._templates.values():
            process.end(why)

    @property
    def ill(self) -> dict[str, str]:
        """The modules whose jobs are started by `exec`, and why: until a template of theirs has become ready."""
        return {module: why for module, why in self._ill_because.items() if not self._is_ready(module)}

    def _is_ready(self, module: str) -> bool:
        return module in self._templates and self._templates[module].ready

    @property
    def pids(self) -> set[int]:
        """The templates."""
        return {process.pid for process in self._templates.values()}

    def conditions(self) -> list[metrics.TemplateCondition]:
        """What they are like, for the metrics; also of modules that have none at the moment."""
        moment, now = time.monotonic(), time.time()
        found = []
        for module in {**self._templates, **self._ill_until}:
            process = self._templates.get(module)
            started_at = None if process is None else now - (moment - process.started_at)
            up = process is not None and process.ready
            found.append(metrics.TemplateCondition(module, up, started_at, self._ends[module]))
        return found

    def died(self, pid: int) -> None:
        """The daemon reaped a template. Its last words may not have been heard, such as who takes its place."""
        self.listen()
        for process in list(self._templates.values()):
            if process.pid == pid:
                self._discard(process, "it died")

    def listen(self) -> None:
        """Hear what has been said by now."""
        for process in list(self._templates.values()):
            self._read(process)

    def check(self) -> None:
        """Give up templates that are not ready in time; called now and then."""
        moment = time.monotonic()
        for process in list(self._templates.values()):
            if not process.ready and moment - process.started_at > READY_TIMEOUT:
                os.kill(process.pid, signal.SIGKILL)  # one that hangs would never see that it is not wanted
                self._discard(process, f"not ready after {READY_TIMEOUT:.0f} s")

    def close(self) -> None:
        """Let all templates end."""
        for process in list(self._templates.values()):
            self._selector.unregister(process.channel)
            process.channel.close()
        self._templates.clear()

    def _read(self, process: TemplateProcess) -> None:
        events = process.receive()
        if process.fruitful:
            self._fruitless[process.module] = 0
        self._on_events(events)
        if process.stale is not None:
            self._discard(process, process.stale)
        elif process.channel.closed:
            self._discard(process, "it ended")

    def _discard(self, process: TemplateProcess, why: str) -> None:
        """Its children belong to the daemon now, which adopts them; what it did not answer is asked of another."""
        if self._templates.get(process.module) is not process:
            return
        self._selector.unregister(process.channel)
        process.channel.close()
        del self._templates[process.module]
        self._ends[process.module] += 1
        self._fruitless[process.module] += not process.fruitful
        if not process.ready or self._fruitless[process.module] >= MAX_FRUITLESS:
            self._declare_ill(process.module, why)
            self._on_events([Refused(name) for name in process.asked])
        else:
            log.warning("template for %s is replaced: %s", process.module, why)
            self._replace(process)

    def _replace(self, process: TemplateProcess) -> None:
        if self.warm(process.module):
            for name, variant in process.asked.items():
                self._templates[process.module].ask(name, variant)
        else:
            self._on_events([Refused(name) for name in process.asked])

    def _declare_ill(self, module: str, why: str) -> None:
        self._ill_until[module] = time.monotonic() + RETRY_AFTER
        self._ill_because[module] = why
        self._fruitless[module] = 0
        log.warning(
            "no template for %s: %s; its jobs are started by exec for %.0f s, more slowly", module, why, RETRY_AFTER
        )
