"""Which tasks only wait, by what is in their jobs."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from air_executor import model
from air_executor.model import JobState
from airflow_plugin import patience

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
TIMEOUT = 600.0


def started(seconds_ago: float) -> str:
    return (NOW - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (model.Job("job", queue="served", external_id="this"), True),
        (model.Job("job", queue="other", external_id="this"), False),
        (model.Job("job", queue="served", external_id="another run"), False),
        (model.Job("job", queue="other", external_id="this", state=JobState.WORKING, started_at=started(5)), True),
        (model.Job("job", queue="served", external_id="this", state=JobState.WORKING, started_at=started(601)), False),
        (model.Job("job", queue="served", external_id="this", state=JobState.WORKING), False),
        (model.Job("job", queue="served", external_id="this", state=JobState.COMPLETED), False),
        (model.Job("job", queue="served", external_id="this", state=JobState.FAILED), False),
        (model.Job("job", queue="served", external_id="this", state=JobState.CANCELLED), False),
    ],
)
def test_who_waits(job: model.Job, expected: bool) -> None:
    assert patience.waits(job, "this", {"served"}, TIMEOUT, NOW) is expected


@pytest.mark.parametrize(("seconds", "expected"), [(59, True), (61, False)])
def test_a_start_may_take_a_minute_however_short_the_timeout_is(seconds: float, expected: bool) -> None:
    job = model.Job("job", queue="served", external_id="this", state=JobState.WORKING, started_at=started(seconds))
    assert patience.waits(job, "this", {"served"}, 5.0, NOW) is expected
