"""Runs the example DAG over the REST API, as anyone could with curl, and shows what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from air_executor import client
from dev import rest, settings, terminal
from dev.checkout import Checkout, Ports
from dev.errors import DevError

DAG_ID = "hello_air_executor"
APPEAR_TIMEOUT = 60.0
"""Seconds until the DAG processor must have found the example."""
RUN_TIMEOUT = 120.0
"""Seconds until the run must be over; it takes about 8."""
POLL = 0.3
OVER = ("success", "failed")


class Demo:
    """One run of the example DAG.

    Args:
        check: called often; raises to end the wait.
    """

    def __init__(self, checkout: Checkout, ports: Ports, screen: terminal.Screen, check: Callable[[], None]) -> None:
        self._checkout = checkout
        self._url = ports.url
        self._screen = screen
        self._check = check
        credentials = {"username": settings.USER, "password": settings.password(checkout)}
        self._token = rest.call("POST", f"{self._url}/auth/token", credentials)["access_token"]

    def run(self) -> bool:
        """Trigger the DAG, wait until it is over, show tasks and jobs; whether it succeeded.

        Raises:
            DevError: the DAG does not appear, or the run does not end.
        """
        self._wait("the DAG processor found it", self._is_known, APPEAR_TIMEOUT)
        self._call("PATCH", "", {"is_paused": False})
        run_id = self._call("POST", "/dagRuns", {"logical_date": None})["dag_run_id"]
        self._screen.say(f"triggered {DAG_ID}: {self._url}/dags/{DAG_ID}/runs/{run_id}")
        self._wait("it was over", lambda: self._run_state(run_id) in OVER, RUN_TIMEOUT)
        final = self._run_state(run_id)
        self._screen.say(f"\nDAG run {run_id}: {final}")
        self._show_tasks(run_id)
        self._show_jobs(run_id)
        return final == "success"

    def _is_known(self) -> bool:
        try:
            self._call("GET", "")
        except rest.RestError as error:
            if error.status == 404:
                return False
            raise
        return True

    def _run_state(self, run_id: str) -> str:
        return str(self._call("GET", f"/dagRuns/{run_id}")["state"])

    def _show_tasks(self, run_id: str) -> None:
        for task in self._call("GET", f"/dagRuns/{run_id}/taskInstances")["task_instances"]:
            seconds = f"{task['duration']:.2f} s" if task["duration"] is not None else ""
            self._screen.say(f"  {task['task_id']:<12} {task['state'] or 'none':<10} {seconds}")

    def _show_jobs(self, run_id: str) -> None:
        labels = {"dag_id": DAG_ID, "run_id": run_id}
        jobs = list(client.AirExecutorClient(self._checkout.home).list_jobs(labels=labels))
        if not jobs:
            self._screen.say("\nNo job directories: another executor ran the tasks")
            return
        self._screen.say("\nJob directories:")
        for job in reversed(jobs):
            directory = (self._checkout.home / "jobs" / job.name).relative_to(self._checkout.root)
            self._screen.say(f"  {job.state:<10} {directory}")

    def _wait(self, what: str, condition: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise DevError(f"{DAG_ID}: {timeout:.0f} s went by before {what}; see {self._checkout.logs}")
            time.sleep(POLL)
            self._check()

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return rest.call(method, f"{self._url}/api/v2/dags/{DAG_ID}{path}", body, self._token)
