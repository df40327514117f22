"""What these tests ask of Airflow's public REST API (/api/v2): runs, task instances, logs, events.

Only HTTP lives here; starting the server does not.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from tests.airflow import waiting

FINISHED = ("success", "failed")
PAGE = 100


@dataclass(frozen=True)
class Run:
    """One DAG run."""

    dag_id: str
    run_id: str


@dataclass(frozen=True)
class TaskInstance:
    """One task instance as the API shows it."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    queue: str | None
    executor: str | None
    id: str

    @property
    def label(self) -> str:
        """`task` or `task[3]`."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


class Rest:
    """A client of one API server. It fetches its token when it first needs it."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def log_in(self) -> str:
        token = str(self._checked(self._http.get("/auth/token")).json()["access_token"])
        self._http.headers["Authorization"] = f"Bearer {token}"
        return token

    def get(self, path: str, headers: Mapping[str, str] | None = None, **params: Any) -> Any:
        return self._checked(self._http.get(f"/api/v2/{path}", params=params, headers=headers)).json()

    def post(self, path: str, body: object) -> Any:
        return self._checked(self._http.post(f"/api/v2/{path}", json=body)).json()

    def patch(self, path: str, body: object) -> Any:
        return self._checked(self._http.patch(f"/api/v2/{path}", json=body)).json()

    def delete(self, path: str) -> None:
        self._checked(self._http.delete(f"/api/v2/{path}"))

    def pages(self, path: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        """All rows of a listing; the server caps a page at 100 rows."""
        offset = 0
        while True:
            page = self.get(path, limit=PAGE, offset=offset, **params)
            yield from page[key]
            offset += PAGE
            if offset >= page["total_entries"]:
                return

    def healthy(self, *components: str) -> bool:
        health = self.get("monitor/health")
        return all((health.get(name) or {}).get("status") == "healthy" for name in components)

    def dag_ids(self) -> set[str]:
        return {row["dag_id"] for row in self.pages("dags", "dags", exclude_stale=True)}

    def import_errors(self) -> list[str]:
        return [f"{row['filename']}: {row['stack_trace']}" for row in self.pages("importErrors", "import_errors")]

    def pause(self, dag_id: str, paused: bool) -> None:
        self.patch(f"dags/{dag_id}", {"is_paused": paused})

    def trigger(self, dag_id: str, *, logical_date: str | None = None, conf: Mapping[str, Any] | None = None) -> Run:
        run_id = f"test-{uuid.uuid4().hex[:8]}"
        self.pause(dag_id, False)
        body = {"dag_run_id": run_id, "logical_date": logical_date, "conf": dict(conf or {})}
        self.post(f"dags/{dag_id}/dagRuns", body)
        return Run(dag_id, run_id)

    def run_states(self, dag_id: str = "~") -> dict[Run, str]:
        rows = self.pages(f"dags/{dag_id}/dagRuns", "dag_runs")
        return {Run(row["dag_id"], row["dag_run_id"]): row["state"] for row in rows}

    def run_state(self, run: Run) -> str:
        return str(self.get(f"dags/{run.dag_id}/dagRuns/{run.run_id}")["state"])

    def finished(self, run: Run, seconds: float = 60) -> str:
        """Wait for the run's end and return its state."""
        done = waiting.until(lambda: (s := self.run_state(run)) in FINISHED and s, f"{run} to finish", seconds, 0.3)
        return str(done)

    def tasks(self, run: Run) -> list[TaskInstance]:
        rows = self.pages(f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances", "task_instances")
        names = TaskInstance.__dataclass_fields__
        return [TaskInstance(**{name: row[name] for name in names}) for row in rows]

    def states(self, run: Run) -> dict[str, str | None]:
        """State by `task` or `task[map index]`."""
        return {task.label: task.state for task in self.tasks(run)}

    def log(self, run: Run, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """The log as the UI reads it: a stream of JSON lines."""
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/logs/{try_number}"
        headers = {"Accept": "application/x-ndjson"}
        answer = self._checked(self._http.get(path, params={"map_index": map_index}, headers=headers))
        lines = (json.loads(line) for line in answer.text.splitlines() if line)
        return "\n".join(f"{line.get('event')} {line.get('error_detail') or ''}" for line in lines)

    def events(self, run: Run, task_id: str) -> list[dict[str, Any]]:
        """The audit log (event log) of one task."""
        return list(self.pages("eventLogs", "event_logs", dag_id=run.dag_id, run_id=run.run_id, task_id=task_id))

    @staticmethod
    def _checked(answer: httpx.Response) -> httpx.Response:
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:500]}",
                request=answer.request,
                response=answer,
            )
        return answer
