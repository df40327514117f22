"""Which tasks only wait, by what is in their jobs."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from air_executor import model, processes, usage
from air_executor.model import JobState
from airflow_plugin import patience

TIMEOUT = 600.0
STARTED = "2026-11-21T12:00:00Z"


@pytest.mark.parametrize(
    ("job", "working_for", "expected"),
    [
        (model.Job("job", queue="served", external_id="this"), 0.0, True),
        (model.Job("job", queue="other", external_id="this"), 0.0, False),
        (model.Job("job", queue="served", external_id="another run"), 0.0, False),
        (model.Job("job", queue="other", external_id="this", state=JobState.WORKING, started_at=STARTED), 5.0, True),
        (model.Job("job", queue="served", external_id="this", state=JobState.WORKING, started_at=STARTED), 601, False),
        (model.Job("job", queue="served", external_id="this", state=JobState.WORKING), 0.0, False),
        (model.Job("job", queue="served", external_id="this", state=JobState.COMPLETED), 0.0, False),
        (model.Job("job", queue="served", external_id="this", state=JobState.FAILED), 0.0, False),
        (model.Job("job", queue="served", external_id="this", state=JobState.CANCELLED), 0.0, False),
    ],
)
def test_who_waits(job: model.Job, working_for: float, expected: bool) -> None:
    assert patience.waits(job, "this", {"served"}, TIMEOUT, working_for) is expected


@pytest.mark.parametrize(("seconds", "expected"), [(59, True), (61, False)])
def test_a_start_may_take_a_minute_however_short_the_timeout_is(seconds: float, expected: bool) -> None:
    job = model.Job("job", queue="served", external_id="this", state=JobState.WORKING, started_at=STARTED)
    assert patience.waits(job, "this", {"served"}, 5.0, seconds) is expected


@pytest.mark.parametrize("started", ["2001-01-01T00:00:00Z", "2101-01-01T00:00:00Z"])
def test_how_long_a_job_works_is_not_read_from_a_clock_that_may_have_been_set(started: str) -> None:
    me = processes.identify(os.getpid())
    job = model.Job("job", state=JobState.WORKING, started_at=started, runner=me)
    assert usage.working_for(job) == pytest.approx(processes.age(me), abs=1.0)
    job.runner = replace(me, host="elsewhere")
    assert usage.working_for(job) == 0.0 if started > "2050" else usage.working_for(job) > 1e6
