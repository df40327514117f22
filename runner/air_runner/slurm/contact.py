"""What the daemon has of Slurm: which of its jobs are there, and the process that sees to them.

A process of its own, because Slurm's commands are its children: the daemon reaps all of its own, ends those that it
does not know, and waits for none. If it dies, another takes up all jobs from their files.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable

from air_executor import backoff, model, processes, runners, store
from air_executor.errors import CorruptFileError, NotFoundError
from air_executor.paths import Home
from air_executor.settings import Settings
from air_executor.sightings import Sightings
from air_executor.slurm import condition, record
from air_runner import taskloop
from air_runner.channel import Channel
from air_runner.slurm import commands

log = logging.getLogger(__name__)

MODULE = "air_runner.slurm.process"
MAX_UNANSWERED = 50
"""Messages that are sent before the first of them is answered: a socket holds some 90 long ones."""
FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0
"""Seconds before a process that died is replaced, at first and at most."""
OTHERS_INTERVAL = 10.0
"""Seconds between two looks at who else could submit what this host cannot."""
CLOSE_WAIT = 2.0
"""Seconds to wait until what was not submitted is back in its queue; the process may be waiting for Slurm."""


class Contact:
    """The jobs of a runner that are in Slurm or go there. They take none of its slots.

    Args:
        chosen: what config.toml says of Slurm and of queues, and how the runner runs its jobs.
        selector: where the process is heard.
        left: called with each job that is not here any more.
    """

    def __init__(
        self,
        home: Home,
        runner_id: str,
        chosen: Settings,
        rules: taskloop.Rules,
        selector: selectors.BaseSelector,
        left: Callable[[str], None],
    ) -> None:
        self._home, self._id, self._chosen = home, runner_id, chosen
        self._rules, self._selector, self._left = rules, selector, left
        self._seen, self._look_at_others = Sightings(guess=True), 0.0
        self._left_to_others: frozenset[str] = frozenset()
        self._names: dict[str, None] = {}
        """In the order in which they came, which is that of their priority."""
        self._with_pilots = ""
        """The queues to whose pilots it sees."""
        self._unsent: deque[dict[str, str]] = deque()
        self._unanswered = 0
        self._channel: Channel | None = None
        self._pid: int | None = None
        self._failures = 0
        self._started_at = self._not_before = 0.0

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> set[str]:
        """The jobs that are here."""
        return set(self._names)

    @property
    def pids(self) -> set[int]:
        """The process, if there is one."""
        return set() if self._pid is None else {self._pid}

    @property
    def has_room(self) -> bool:
        """Whether it may take more jobs."""
        return len(self._names) < self._chosen.slurm.max_jobs

    @property
    def can_ask(self) -> bool:
        """Whether Slurm's commands are on this host."""
        return commands.are_here()

    def leaves(self, queue: str) -> bool:
        """Whether jobs of a queue are better left to another runner, as this host cannot submit them and that one can.

        Where no other can, this one takes them: they end with what is missing as the reason.
        """
        now = time.monotonic()
        if now >= self._look_at_others:
            self._look_at_others = now + OTHERS_INTERVAL
            others = [] if self.can_ask else runners.alive_runners(self._home, self._seen)
            able = [info for info in others if info.slurm and info.id != self._id and not info.draining]
            self._left_to_others = frozenset(queue for info in able for queue in info.queues)
        return queue in self._left_to_others

    def wants(self, job: model.Job) -> bool:
        """Whether a job goes to Slurm."""
        return self._chosen.slurm_options(job) is not None

    def owns(self, name: str) -> bool:
        """Whether a claimed job that nobody watches is in Slurm, or has to go there; not one that ran here.

        Raises:
            OSError: the home refused.
        """
        try:
            job = store.read(self._home, name)
            submitted = record.read(self._home.job(name), job.attempt) is not None
        except (NotFoundError, CorruptFileError, ValueError):
            return False
        if job.state.terminal:
            return False
        return submitted or (job.state is model.JobState.WAITING and self.wants(job))

    # --- What it is told ---

    def take(self, name: str) -> None:
        """Have a claimed job from now on, submitted already or not."""
        self._names[name] = None
        self._tell("take", name)

    def serve(self, queues: Iterable[str]) -> None:
        """The queues from which the runner takes jobs: pilots are started for some of them. Called now and then."""
        with_pilots = ",".join(queue for queue in queues if queue in self._chosen.pilot_queues)
        if with_pilots != self._with_pilots:
            self._with_pilots = with_pilots
            self._tell("serve", with_pilots)

    def stop(self, name: str) -> None:
        """Somebody has asked for the job's end, in its files."""
        self._tell("stop", name)

    def _tell(self, what: str, name: str) -> None:
        if self._channel is None:
            self.check()  # which tells of all jobs
        else:
            self._unsent.append({what: name})
            self._send()

    def _send(self) -> None:
        while self._channel is not None and self._unsent and self._unanswered < MAX_UNANSWERED:
            self._unanswered += 1
            self._channel.send(dict(self._unsent.popleft()))

    # --- The process ---

    def check(self) -> None:
        """See to it that there is one, if it has anything to do; called now and then."""
        if self._channel is None and (self._names or self._with_pilots) and time.monotonic() >= self._not_before:
            try:
                self._start()
            except OSError as error:
                self._start_later(str(error))

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        argv = [sys.executable, "-m", MODULE, "--home", str(self._home.root), "--runner", self._id]
        argv += [*self._rules.flags, "--socket", str(theirs.fileno())]
        own = self._chosen.runner
        argv += ["--launcher", own.launcher, "--heartbeat", str(own.heartbeat)]
        argv += [word for module in own.preload for word in ("--preload", module)]
        self._started_at = time.monotonic()
        try:
            process = subprocess.Popen(  # noqa: S603
                argv, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        process.returncode = 0  # reaped by the daemon
        self._pid, self._channel = process.pid, Channel(ours)
        self._selector.register(self._channel, selectors.EVENT_READ, self._read)
        self._unanswered = 0
        self._unsent = deque([{"serve": self._with_pilots}, *({"take": name} for name in self._names)])
        self._send()

    def _start_later(self, why: str) -> None:
        if time.monotonic() - self._started_at > MAX_PAUSE:
            self._failures = 0
        self._failures += 1
        pause = backoff.pause(self._failures, FIRST_PAUSE, MAX_PAUSE)
        self._not_before = time.monotonic() + pause
        log.error("the process for Slurm: %s; the next in %.0f s, jobs in Slurm go on", why, pause)

    def _read(self) -> None:
        channel = self._channel
        if channel is None:
            return
        for message in channel.receive():
            if "heard" in message:
                self._unanswered -= 1
            elif "left" in message:
                self._names.pop(message["left"], None)
                self._left(message["left"])
        self._send()
        if channel.closed:
            self._drop("it ended")

    def died(self, pid: int) -> None:
        """The daemon reaped the process."""
        self._read()
        if pid == self._pid:
            self._pid = None
            self._drop("it died")

    def _drop(self, why: str) -> None:
        if self._channel is not None:
            self._selector.unregister(self._channel)
            self._channel.close()
            self._channel = None
            self._start_later(why)

    def close(self) -> None:
        """End the process. What is in Slurm goes on; what is not yet goes back into its queue."""
        if self._channel is not None:
            self._channel.send({"end": ""})
            self._selector.unregister(self._channel)
            self._channel.close()
            self._channel = None
            if self._pid is not None:
                processes.wait_gone([self._pid], CLOSE_WAIT)
                with contextlib.suppress(ProcessLookupError):  # it waits for Slurm, and others may take its jobs over
                    os.kill(self._pid, signal.SIGKILL)
        condition.remove(self._home, self._id)
