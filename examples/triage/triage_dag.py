"""The triage of each day, after its end. See README.md beside this file.

With `TRIAGE_FIRST_DAY` in the environment of the DAG processor, the days since then that nobody ran are caught up with,
two at a time. Without it only the latest day is run: what is un-paused here speaks to real servers and real people.
"""

from __future__ import annotations

import datetime
import os

from airflow.sdk import DAG, CronDataIntervalTimetable
from triage_errors import SettingError
from triage_settings import checked
from triage_steps import steps

EARLIEST = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
"""Airflow wants a day on which a schedule begins, also where it catches up with none."""


def first_day() -> datetime.datetime | None:
    """With which day catching up begins; None: there is none."""
    text = os.environ.get("TRIAGE_FIRST_DAY", "").strip()
    try:
        return datetime.datetime.fromisoformat(checked(text)).replace(tzinfo=datetime.timezone.utc) if text else None
    except SettingError as error:
        raise SettingError(f"TRIAGE_FIRST_DAY: {error}") from None


FIRST_DAY = first_day()

with DAG(
    "triage",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=FIRST_DAY or EARLIEST,
    catchup=FIRST_DAY is not None,
    max_active_runs=2,
    doc_md=__doc__,
    tags=["air-executor", "example"],
) as dag:
    steps()
