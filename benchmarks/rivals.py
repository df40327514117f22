"""Other engines that run command lines on one machine, for comparison: HyperQueue and task-spooler."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

PAUSE = 0.02


class System(Protocol):
    """What is measured of an engine."""

    def starts(self, count: int) -> Iterator[float]:
        """Submit jobs one after the other; the seconds from the submission to the job's first action."""

    def run_jobs(self, count: int) -> None:
        """Run so many jobs of one `true` to their ends."""

    def run_tasks(self, count: int) -> None:
        """Run one job of so many `true` to its end."""

    def close(self) -> None:
        """End it."""


def missing() -> dict[str, str]:
    """What is not installed, and how to install it."""
    found: dict[str, str] = {}
    if importlib.util.find_spec("hyperqueue") is None:
        found["hyperqueue"] = "pip install hyperqueue==0.27"
    if shutil.which("tsp") is None:
        found["task-spooler"] = "apt install task-spooler"
    return found


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """It prints a table, past Python."""
    before = os.dup(1)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


class HyperQueue:
    """A server and a worker with all cores, in this process, as its Python package starts them."""

    def __init__(self, root: Path) -> None:
        from hyperqueue.cluster import LocalCluster, WorkerConfig

        self._root, self._numbers = root, itertools.count()
        with _silent():
            self._cluster = LocalCluster(str(root / "server"), WorkerConfig())
        self._client: Any = self._cluster.client()

    def close(self) -> None:
        self._cluster.stop()

    def starts(self, count: int) -> Iterator[float]:
        for _ in range(count):
            job, output = self._job(), self._root / f"date-{next(self._numbers)}"
            job.program(["/bin/date", "+%s.%N"], stdout=str(output))
            began = time.time()
            self._wait([self._client.submit(job)])
            yield float(output.read_text()) - began
            time.sleep(PAUSE)

    def run_jobs(self, count: int) -> None:
        jobs = []
        for _ in range(count):
            jobs.append(self._job())
            jobs[-1].program(["true"])
        self._wait([self._client.submit(job) for job in jobs])

    def run_tasks(self, count: int) -> None:
        job = self._job()
        for _ in range(count):
            job.program(["true"])
        self._wait([self._client.submit(job)])

    def _job(self) -> Any:
        from hyperqueue.job import Job

        return Job(default_workdir=str(self._root))

    def _wait(self, submitted: list[Any]) -> None:
        failed = self._client.connection.wait_for_jobs([each.id for each in submitted], lambda _: None)
        assert not failed, failed


class TaskSpooler:
    """A server with as many slots as cores. It knows single commands only, and is asked for each by a process."""

    def __init__(self, root: Path) -> None:
        self._environment = {**os.environ, "TMPDIR": str(root), "TS_SOCKET": str(root / "socket")}
        self._environment["TS_MAXFINISHED"] = "100"
        self._tsp("-S", str(os.cpu_count()))

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tsp("-K")

    def starts(self, count: int) -> Iterator[float]:
        for _ in range(count):
            began = time.time()
            number = self._tsp("/bin/date", "+%s.%N")
            self._tsp("-w", number)
            yield float(Path(self._tsp("-o", number)).read_text()) - began
            time.sleep(PAUSE)

    def run_jobs(self, count: int) -> None:
        for _ in range(count):
            self._tsp("-n", "true")
        self._tsp("-w")  # for the last

    run_tasks = run_jobs

    def _tsp(self, *arguments: str) -> str:
        run = subprocess.run(["tsp", *arguments], env=self._environment, capture_output=True, text=True, check=True)
        return run.stdout.strip()
