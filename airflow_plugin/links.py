"""The button on a task's page that leads to its job."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk.bases.operatorlink import BaseOperatorLink

HERE = "air-executor"
PATH = f"/{HERE}"
"""Where `pages` answers, below the address of Airflow."""


class AirJobLink(BaseOperatorLink):
    """Leads from a task to what `pages` says of its job.

    The address is stored as XCom when the task has its job, so that it can be followed while the job runs.
    """

    name = "Air-Executor job"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address; none as long as the operator has no job."""
        job = getattr(operator, "job_linked", None)
        return job_address(job) if job else ""


def is_shown(home: str | None) -> bool:
    """Whether `pages` answers for the jobs of a home: it knows that of the executor alone, and none over HTTP."""
    if home is None:
        return False
    from airflow_plugin.hook import configured_home

    return os.path.realpath(home) == os.path.realpath(configured_home())


def job_address(name: str) -> str:
    """Where to look at a job in a browser."""
    from airflow.configuration import conf

    base = conf.get("api", "base_url", fallback=None) or ""
    return f"{base.rstrip('/')}{PATH}/job/{name}"
