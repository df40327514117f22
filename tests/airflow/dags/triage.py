"""The example's triage for one week, and with a shorter pause between tries."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

from airflow.sdk import DAG, CronDataIntervalTimetable

sys.path.insert(0, str(Path(__file__).parents[3] / "examples" / "triage"))

from triage_steps import steps

with DAG(
    "triage_week",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime.datetime(2026, 3, 2, tzinfo=datetime.timezone.utc),
    end_date=datetime.datetime(2026, 3, 8, tzinfo=datetime.timezone.utc),
    catchup=True,
    max_active_runs=3,
):
    steps(retry_delay=datetime.timedelta(seconds=1))
