"""A task that Airflow ends is gone with all its processes, whatever they do about it: within 15 s with the defaults."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import psutil
import pytest

from tests.airflow import databases, rest, stack, waiting

LIMIT = 15.0
"""Seconds from Airflow's decision to the end of the last process."""
TREE_SIZE = 3
TASK_TIMEOUT = 3.0
HEARTBEAT_TIMEOUT = 20
SETTINGS = {
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT),
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
}


@pytest.mark.own_scheduler
@databases.ON_POSTGRES
def test_what_airflow_ends_is_gone_with_all_its_processes(shared_airflow: stack.Stack) -> None:
    airflow = shared_airflow
    airflow.use_scheduler(**SETTINGS)
    run, deleted = airflow.rest.trigger("stubborn"), airflow.rest.trigger("stubborn_run")
    names = {task_id: f"{task_id}-{run.run_id}" for task_id in ("failed", "cleared", "silent")}
    names["deleted"] = f"deleted-{deleted.run_id}"
    for name in names.values():
        waiting.until(lambda name=name: len(members(name)) == TREE_SIZE, f"the tree of {name}", 100, 0.5)
    late = airflow.rest.trigger("stubborn_late")
    names["late"] = f"late-{late.run_id}"
    clock = Clock(names.values())
    silence(airflow, run)
    # Each decision of Airflow, and from when on its processes have to go.
    airflow.rest.patch(f"{path(run)}/taskInstances/failed", {"new_state": "failed"})
    clock.starts(names["failed"])
    body = {"dry_run": False, "dag_run_id": run.run_id, "task_ids": ["cleared"], "only_failed": False}
    airflow.rest.post(f"dags/{run.dag_id}/clearTaskInstances", body)
    clock.starts(names["cleared"])
    airflow.rest.patch(path(deleted), {"state": "failed"})  # one that runs cannot be deleted
    airflow.rest.delete(path(deleted))
    clock.starts(names["deleted"])

    def look() -> None:
        """Start the clocks of those for which Airflow decides by itself."""
        if airflow.rest.states(run)["silent"] != "running":
            clock.starts(names["silent"])
        if airflow.marks(names["late"]):
            clock.starts(names["late"], TASK_TIMEOUT)

    clock.run(look)
    print("seconds until the last process was gone:", {name: clock.figure(names[name]) for name in names})
    assert all(clock.took[name] < LIMIT for name in names.values())
    assert [airflow.rest.finished(each, 60) for each in (run, late)] == ["failed", "failed"]
    assert airflow.rest.states(run) == {"failed": "failed", "cleared": "success", "silent": "failed"}


def silence(airflow: stack.Stack, run: rest.Run) -> None:
    """Stop all processes of the task, its supervisor first: no heartbeats any more, and no signal but KILL is heard."""
    supervisor = psutil.Process(airflow.home.job_of(run, "silent").state["runner"]["pid"])
    for process in [supervisor, *supervisor.children(recursive=True)]:
        process.suspend()


def path(run: rest.Run) -> str:
    return f"dags/{run.dag_id}/dagRuns/{run.run_id}"


def members(name: str) -> list[psutil.Process]:
    """The processes of a tree, wherever they are by now."""
    return [process for process in psutil.process_iter(["cmdline"]) if (process.info["cmdline"] or [""])[-1] == name]


class Clock:
    """Measures how long the processes of each tree go on after the decision to end them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self.began: dict[str, float] = {}
        self.took: dict[str, float] = {}

    def starts(self, name: str, after: float = 0.0) -> None:
        self.began.setdefault(name, time.monotonic() + after)

    def run(self, look: Callable[[], object]) -> None:
        """Until all trees are gone."""

        def all_gone() -> bool:
            look()
            alive = {(process.info["cmdline"] or [""])[-1] for process in psutil.process_iter(["cmdline"])}
            for name in self.names:
                if name in self.began and name not in alive:
                    self.took.setdefault(name, time.monotonic() - self.began[name])
            return len(self.took) == len(self.names)

        waiting.until(all_gone, "all trees to be gone", HEARTBEAT_TIMEOUT + 90)

    def figure(self, name: str) -> float:
        return round(self.took[name], 1)
