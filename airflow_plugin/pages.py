"""What the API server of Airflow answers about jobs, to people who are logged in there: facts, and nothing secret."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, HTTPException

from air_executor import model
from air_executor.client import AirExecutorClient
from air_executor.errors import AirExecutorError, InvalidNameError, NotFoundError
from airflow_plugin import hook

app = FastAPI(title="Air-Executor", docs_url=None, redoc_url=None, openapi_url=None)

JOB = ("name", "id", "state", "attempt", "queue", "trigger", "labels", "usage")
JOB_TIMES = ("created_at", "queued_at", "started_at", "finished_at")
TASK = ("id", "status", "exit_code", "started_at", "completed_at", "dependencies")


# A mounted app has no authentication but its own: each route asks for it.
@app.get("/jobs/{name}", dependencies=[Depends(requires_access_view(AccessView.JOBS))])
def show_job(name: str) -> dict[str, Any]:
    """A job of the home that Airflow is configured with, and its tasks."""
    try:
        client = AirExecutorClient(hook.configured_home())
        return facts(client.get_job(name), client.get_tasks(name))
    except (InvalidNameError, NotFoundError):
        raise HTTPException(404, "there is no such job") from None
    except (AirExecutorError, OSError) as error:
        raise HTTPException(503, str(error)) from None


def facts(job: model.Job, tasks: list[model.Task]) -> dict[str, Any]:
    """What anybody may know of a job: no environment, no command line, no workload."""
    return {
        **{name: getattr(job, name) for name in (*JOB, *JOB_TIMES)},
        "reason": job.exit.reason if job.exit else None,
        "tasks": [{name: getattr(task, name) for name in TASK} for task in tasks],
    }
