"""Kills at random while jobs flow through Slurm: of the runner, of its process for Slurm, of the controller, of a node.

What was killed is started again, as a service manager does. What must hold in the end is in `problems`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from air_executor import AirExecutorClient, JobState, store, testing
from air_executor.model import ExitKind
from air_executor.paths import Home
from air_executor.slurm import states
from air_executor.testing import wait_for
from air_runner.slurm import contact
from tests.airflow import waiting
from tests.slurm.cluster import CONTROLLER, Cluster

CONFIG = """
[queues.slurm]
launcher = "slurm"

[slurm]
poll = 1
patience = 0.5
"""
BODY = 'say() {{ echo "$AIR_EXECUTOR_JOB $SLURM_JOB_NAME $1" >>{lines}; }}; say start; sleep {seconds}; say end'
"""The name that the job has in Slurm is another one for each submission."""
STARTS = 10
"""How often the start of a daemon is tried."""
MAX_ATTEMPTS = 20
"""Of one job; more says that something is wrong."""


class Storm:
    """Jobs, and who is killed meanwhile.

    Args:
        place: a directory for all files.
        chosen: decides what is killed, and when.
    """

    what: Sequence[str] = ("runner", "process", "controller", "node", "steps")

    def __init__(self, place: Path, cluster: Cluster, chosen: random.Random) -> None:
        self._cluster, self._random, self.home = cluster, chosen, Home(place / "home")
        self._lines = place / "lines"
        store.ensure_home(self.home)
        self.home.config.write_text(CONFIG)
        self._client = AirExecutorClient(self.home.root)
        self._runners = [self._start()]
        self.names: list[str] = []
        self.failures: Counter[str] = Counter()
        """Of each job, attempts that failed and were made anew, as Airflow does."""
        self.reasons: Counter[str] = Counter()
        """Why."""
        self.kills: Counter[str] = Counter()

    def _start(self) -> testing.RunnerProcess:
        os.environ["SLURM_CONF"] = self._cluster.environment["SLURM_CONF"]
        return testing.RunnerProcess(self.home, ["--grace", "1"])

    def submit(self, count: int, longest: float) -> None:
        """Jobs of one line of shell, each of which says when it starts and ends."""
        for number in range(len(self.names), len(self.names) + count):
            body = BODY.format(lines=self._lines, seconds=round(self._random.uniform(0, longest), 1))
            task = {"id": "body", "command": "sh", "args": ["-c", body]}
            self.names.append(f"storm-{number}")
            self._client.create_job(self.names[-1], [task], queue="slurm")

    def kill(self, what: str, pause: float) -> None:
        """Wait for a while, kill, and start it again."""
        self._pass(self._random.uniform(0, pause))
        self.kills[what] += 1
        if what == "runner":
            self._runners[-1].kill()
            self._runners.append(self._start())
        elif what == "process":
            for process in self._slurm_processes():
                process.send_signal(signal.SIGKILL)
        else:
            daemon = choose_daemon(self._cluster, what, self._random)
            self._cluster.kill(daemon, steps=what == "steps")
            self._pass(self._random.uniform(0, pause))
            bring_back(self._cluster, daemon)

    def _slurm_processes(self) -> list[psutil.Process]:
        children = psutil.Process(self._runners[-1].popen.pid).children()
        return [child for child in children if contact.MODULE in child.cmdline()]

    def _pass(self, seconds: float) -> None:
        """Do what Airflow does meanwhile."""
        deadline = time.monotonic() + seconds
        wait_for(lambda: self._try_again() or time.monotonic() >= deadline, seconds + 60, "the moment to kill")

    def _try_again(self) -> None:
        """Another attempt of what has failed."""
        for name in self.names:
            job = store.read(self.home, name)
            if job.state in (JobState.FAILED, JobState.CANCELLED) and self.failures[name] < MAX_ATTEMPTS:
                self.failures[name] += 1
                self.reasons[f"{job.exit.kind.value}: {job.exit.reason}" if job.exit else "?"] += 1
                self._client.retry(name)

    def finish(self, seconds: float) -> None:
        """Wait until all is over; what is not is named by `problems`."""

        def over() -> bool:
            self._try_again()
            resume_nodes(self._cluster)
            return all(store.read(self.home, name).state is JobState.COMPLETED for name in self.names)

        waiting.until(over, "the end of all jobs", seconds, 0.3)
        wait_for(lambda: not list(self._left()), 30, "nothing to be left")

    def problems(self) -> list[str]:
        """Everything that is not as it should be."""
        return [*self._wrong_bodies(), *self._wrong_reasons(), *self._left()]

    def _wrong_bodies(self) -> Iterator[str]:
        """No submission starts a body twice; and no more of them start one than attempts that failed, and one."""
        said = Counter(self._lines.read_text().splitlines())
        yield from (f"{count} times: {line}" for line, count in said.items() if count > 1)
        seen = Counter((line.split()[0], line.split()[2]) for line in said)
        for name in self.names:
            starts, ends, most = seen[name, "start"], seen[name, "end"], 1 + self.failures[name]
            if not 1 <= ends <= starts <= most:
                yield f"{name} started {starts} times and ended {ends} times in {most} attempts"

    def _wrong_reasons(self) -> Iterator[str]:
        """Nobody has cancelled anything, and no body fails by itself."""
        for reason in self.reasons:
            if not reason.startswith(f"{ExitKind.RUNNER_LOST.value}: "):
                yield f"this is not why it failed: {reason}"

    def _left(self) -> Iterator[str]:
        yield from (name for name in living(self._cluster) if name.rpartition(".")[0] in self.names)
        yield from (str(path) for path in self.home.spool.glob("*/*/*") if path.parent.parent.name != "told")
        known = {child.pid for child in psutil.Process(self._runners[-1].popen.pid).children(recursive=True)}
        known.add(self._runners[-1].popen.pid)
        yield from (f"process {pid}" for pid in testing.processes_of(self.home) if pid not in known)

    def summary(self) -> dict[str, object]:
        states_of = Counter(store.read(self.home, name).state.value for name in self.names)
        attempts = {"failed attempts": sum(self.failures.values()), "reasons": dict(self.reasons)}
        return {"kills": dict(self.kills), "jobs": dict(states_of), **attempts}

    def end(self) -> None:
        """Nothing that was started is there any more."""
        testing.end_everything(self.home, *self._runners)


def choose_daemon(cluster: Cluster, what: str, chosen: random.Random) -> str:
    """The controller, or a node where something runs, if anything does."""
    if what == "controller":
        return CONTROLLER
    busy = {row.nodes for row in cluster.squeue("--states=RUNNING")}
    return chosen.choice(sorted(busy) or cluster.daemons[1:])


def bring_back(cluster: Cluster, daemon: str) -> None:
    """Slurm's controller (22.05) may die as it recovers a job that was completing; the next start is fine."""
    for _ in range(STARTS - 1):
        with contextlib.suppress(AssertionError):
            cluster.restart(daemon)
            return
    cluster.restart(daemon)


def resume_nodes(cluster: Cluster) -> None:
    """An administrator's part: a controller that has lost its last seconds gives numbers of jobs a second time, and
    drains the nodes that have the first ones."""
    said = cluster.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %t").stdout
    drained = [line.split()[0] for line in said.splitlines() if line.split()[1].startswith(("drain", "drng"))]
    if drained:
        cluster.run("scontrol", "update", f"NodeName={','.join(drained)}", "State=RESUME", code=None)


def living(cluster: Cluster) -> list[str]:
    """Names of what has not ended for Slurm."""
    return [row.name for row in cluster.squeue() if not states.parse(row.state).over]
