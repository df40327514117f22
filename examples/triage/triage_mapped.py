"""The triage of a day as mapped tasks of Airflow, a task instance for each issue. When to do so: docs/composing.md.

The settings are variables of the workers' environment: thousands of task instances would each ask Airflow for them.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, Param, task

DAY = "{{ params.day }}"


@task
def list_issues(day: str) -> list[str]:
    import triage_items
    from triage_settings import checked, settings_from

    return triage_items.listed(checked(day), settings_from(os.environ))


@task(retries=2)
def issue(day: str, text: str) -> dict[str, Any]:
    import triage_items
    from triage_settings import checked, settings_from

    return triage_items.handled(checked(day), settings_from(os.environ), text)


@task
def gather(day: str, ends: list[dict[str, Any]]) -> dict[str, Any]:
    import triage_items
    from triage_settings import checked, settings_from

    return triage_items.gathered(checked(day), settings_from(os.environ), ends)


with DAG(
    "triage_mapped",
    schedule=None,
    params={"day": Param("2026-01-01", type="string", format="date")},
    max_active_tasks=32,
    doc_md=__doc__,
    tags=["air-executor", "example"],
) as dag:
    gather(DAY, issue.partial(day=DAY).expand(text=list_issues(DAY)))  # type: ignore[arg-type]
