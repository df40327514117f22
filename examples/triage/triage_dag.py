"""The triage of each day, after its end. See README.md beside this file.

Days that nobody ran are caught up with, two at a time.
"""

from __future__ import annotations

import datetime
import os

from airflow.sdk import DAG, CronDataIntervalTimetable
from triage_steps import steps

FIRST_DAY = datetime.date.fromisoformat(os.environ.get("TRIAGE_FIRST_DAY", "2026-01-01"))

with DAG(
    "triage",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime.datetime.combine(FIRST_DAY, datetime.time(), datetime.timezone.utc),
    catchup=True,
    max_active_runs=2,
    doc_md=__doc__,
    tags=["air-executor", "example"],
):
    steps()
