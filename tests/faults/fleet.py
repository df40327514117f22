"""Runners that share a home and are killed in turn while one-line jobs flow; then what must be true of every job.

What must be true of any home in which everything is over is in `world`.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from air_executor import model, processes, runners, spool, store, testing
from air_executor.errors import NotFoundError
from air_executor.model import JobState
from tests.faults import world

BATCH = 100
"""Jobs that are submitted at once."""
TAKEOVER = re.compile(r"took over (\S+)")


@dataclass(frozen=True)
class Kill:
    """What one kill hit."""

    runner: str
    age: float
    """Seconds since the runner was started, from its first line on."""
    claimed: int
    """Jobs that it had."""


@dataclass
class Member:
    """One of the runners, whoever plays it now."""

    name: str
    popen: subprocess.Popen[bytes]
    started: float


@dataclass
class Fleet:
    """Runners on one home.

    Args:
        size: how many runners.
        slots: of each.
        long_each: every so many bodies takes two seconds, so that kills hit running ones; 0: none.
        new_names: a runner that was killed comes back under another name.
    """

    world: world.World
    size: int = 3
    slots: int = 16
    long_each: int = 20
    new_names: bool = False
    members: list[Member] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    ended_early: list[str] = field(default_factory=list)
    """Runners that ended although nobody told them to."""

    @property
    def _output(self) -> Path:
        """What the runners and all that they start write to their terminal."""
        return self.world.root / "runners.out"

    # --- The runners ---

    def start(self) -> None:
        store.ensure_home(self.world.home)
        self.members = [self._start(f"runner-{number}") for number in range(1, self.size + 1)]

    def _start(self, name: str) -> Member:
        argv = [sys.executable, "-m", "air_runner", "--home", str(self.world.home.root), "--name", name]
        argv += ["--slots", str(self.slots)]
        with self._output.open("ab") as output:
            popen = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        return Member(name, popen, time.monotonic())

    def _may_be_killed(self) -> bool:
        """Every fourth kill may hit one that is still starting; the others wait, or a slow machine gets nowhere."""
        member = self.members[len(self.kills) % self.size]
        return len(self.kills) % 4 == 3 or self._serves(member)

    def kill_next(self) -> None:
        """kill -9 of the next in turn, which is started again at once."""
        number = len(self.kills) % self.size
        member = self.members[number]
        claimed = len(spool.claimed(self.world.home, member.name))
        if member.popen.poll() is not None:
            self.ended_early.append(f"{member.name} ended with {member.popen.returncode}")
        member.popen.kill()
        member.popen.wait()
        self.kills.append(Kill(member.name, round(time.monotonic() - member.started, 2), claimed))
        again = f"runner-{number + 1}-{len(self.kills)}" if self.new_names else member.name
        self.members[number] = self._start(again)

    def stop(self) -> None:
        """The orderly end of all."""
        testing.wait_for(self.all_serve, 60, "all runners to be there")
        for member in self.members:
            member.popen.send_signal(signal.SIGTERM)
        codes = {member.name: member.popen.wait(testing.END_TIMEOUT) for member in self.members}
        self.ended_early += [f"{name} ended with {code} when told to" for name, code in codes.items() if code != 0]

    def all_serve(self) -> bool:
        """Whether all are there; a signal that came before would kill one."""
        return all(map(self._serves, self.members))

    def _serves(self, member: Member) -> bool:
        try:
            return runners.read(self.world.home, member.name).process.pid == member.popen.pid
        except NotFoundError:
            return False

    def end(self) -> None:
        """Whatever is left of all is killed."""
        for member in self.members:
            if member.popen.poll() is None:  # else its pid may be another's by now
                processes.kill_tree(member.popen.pid)
                member.popen.wait()
        testing.end_everything(self.world.home)

    # --- The jobs ---

    def flow(self, count: int, kill_every: float | None, seconds: float) -> None:
        """Submit so many jobs, kill meanwhile, and wait until all are over.

        Raises:
            AssertionError: they are not within so many seconds.
        """
        due = time.monotonic() + (kill_every or 0.0)

        def over() -> bool:
            nonlocal due
            if len(self.jobs) < count:
                self._submit(min(BATCH, count - len(self.jobs)))
            if kill_every is not None and time.monotonic() >= due and self._may_be_killed():
                due = time.monotonic() + kill_every
                self.kill_next()
            return len(self.jobs) == count and self._all_ran() and self.at_rest()

        testing.wait_for(over, seconds, f"the end of {count} jobs")

    def _submit(self, count: int) -> None:
        names = [f"job-{number:06}" for number in range(len(self.jobs), len(self.jobs) + count)]
        refused = store.submit_batch(self.world.home, [self._submission(name) for name in names])
        assert not refused, refused
        self.jobs += names

    def _submission(self, name: str) -> store.Submission:
        task = self.world.task()
        if self.long_each and int(name.removeprefix("job-")) % self.long_each == 0:
            task.args[1] += "; exec sleep 2"
        return store.Submission(model.Job(name, notify=False), [task])

    def _all_ran(self) -> bool:
        """All names have the same length, so that nobody need read them."""
        record = self.world.record
        return record.exists() and record.stat().st_size >= sum(len(name) + 1 for name in self.jobs)

    def at_rest(self) -> bool:
        """Whether no job waits and no runner has one. In this order, which is that of a job's way."""
        home = self.world.home
        if any(any(spool.waiting(home, queue)) for queue in spool.queues(home)):
            return False
        return not any(spool.claimed(home, holder) for holder in spool.holders(home))

    # --- What came of it ---

    def problems(self) -> list[str]:
        """What is wrong; nothing, if each body ran once and nothing is left over."""
        wrong = [*self._wrong_bodies(), *self._tracebacks(), *self._left()]
        return [*self.ended_early, *wrong, *world.find_wrong(self.world)]

    def _wrong_bodies(self) -> Iterator[str]:
        ran = Counter(self.world.bodies())
        for name in self.jobs:
            job = store.read(self.world.home, name)
            if ran[name] != 1 or job.state is not JobState.COMPLETED:
                yield f"{name} is {job.state} ({job.exit and job.exit.reason}), and its body ran {ran[name]} times"

    def _tracebacks(self) -> Iterator[str]:
        for path in (self.world.home.runner_log, self._output):
            if count := path.read_text().count("Traceback (most recent"):
                yield f"{count} exceptions are in {path.name}"

    def _left(self) -> Iterator[str]:
        for pid in testing.processes_of(self.world.home):
            yield f"the process {pid} is left"

    def summary(self) -> dict[str, object]:
        """The figures."""
        jobs = [store.read(self.world.home, name) for name in self.jobs]
        bodies = Counter(Counter(self.world.bodies()).values())
        return {
            "jobs": len(jobs),
            "states": dict(Counter(str(job.state) for job in jobs)),
            "jobs whose bodies started so many times": dict(sorted(bodies.items())),
            "jobs by crashes before their start": dict(sorted(Counter(job.crashes for job in jobs).items())),
            "jobs by deaths of their runner before that": dict(sorted(Counter(job.losses for job in jobs).items())),
            "kills": len(self.kills),
            "jobs that killed runners had": sum(kill.claimed for kill in self.kills),
            "takeovers of running jobs": len(TAKEOVER.findall(self.world.home.runner_log.read_text())),
        }
