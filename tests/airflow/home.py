"""An Air-Executor home as anybody sees it who has `ls` and `cat`.

The files are read raw on purpose: these tests hold the executor to what is on disk, not to its own reader of it.
"""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.airflow import rest, waiting


@dataclass(frozen=True)
class Job:
    """One job directory, read when it is asked."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def state(self) -> dict[str, Any]:
        return _object(self.path / "state.json")

    @cached_property
    def tasks(self) -> dict[str, Any]:
        return _object(self.path / "tasks.json")

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = (self.path / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def labels(self) -> dict[str, Any]:
        return dict(self.state.get("labels") or {})

    @property
    def finished(self) -> bool:
        return self.state["state"] in ("completed", "failed", "cancelled")

    @property
    def mode(self) -> int:
        return mode(self.path)

    @property
    def log(self) -> str:
        return "\n".join(file.read_text(errors="replace") for file in sorted((self.path / "logs").glob("*.log")))

    def of(self, run: rest.Run, task_id: str | None = None) -> bool:
        """Whether this is a job of that DAG run (and task)."""
        ours = (self.labels.get("dag_id"), self.labels.get("run_id")) == (run.dag_id, run.run_id)
        return ours and task_id in (None, self.labels.get("task_id"))


@dataclass(frozen=True)
class Home:
    """The root directory of one installation."""

    path: Path

    def jobs(self) -> Iterator[Job]:
        """Every job; names that start with a dot are jobs on their way to being made."""
        directory = self.path / "jobs"
        found = sorted(directory.iterdir()) if directory.is_dir() else []
        return (Job(path) for path in found if not path.name.startswith("."))

    def jobs_of(self, run: rest.Run, task_id: str | None = None) -> list[Job]:
        return [job for job in self.jobs() if job.of(run, task_id)]

    def job_of(self, run: rest.Run, task_id: str) -> Job:
        (job,) = self.jobs_of(run, task_id)
        return job

    def wait_finished(self, *runs: rest.Run, seconds: float = 20) -> None:
        """Wait until all jobs of these runs are over; there has to be one."""

        def over() -> bool:
            jobs = [job for run in runs for job in self.jobs_of(run)]
            return bool(jobs) and all(job.finished for job in jobs)

        waiting.until(over, f"the jobs of {runs} to be over", seconds)

    def runners(self) -> list[dict[str, Any]]:
        """Every runner that has a file; one that ends meanwhile is none."""
        found = []
        for file in sorted((self.path / "runners").glob("*.json")):
            with contextlib.suppress(FileNotFoundError):
                found.append(_object(file))
        return found

    def token_of(self, job: Job) -> str:
        """The token in the workload of a job that has not ended."""
        return str(_object(job.path / "workload.json")["token"])

    def runners_for(self, queue: str) -> list[dict[str, Any]]:
        return [runner for runner in self.runners() if queue in runner["queues"] and not runner["draining"]]

    def containing(self, needle: str) -> list[Path]:
        """Every file below the home that holds this text."""
        files = (path for path in self.path.rglob("*") if path.is_file())
        return [path for path in files if needle.encode() in path.read_bytes()]


def label(job: Job) -> str:
    """A job's task as `rest.TaskInstance.label` names it."""
    index = int(job.labels["map_index"])
    return str(job.labels["task_id"]) + (f"[{index}]" if index >= 0 else "")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _object(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text()))
