"""Which tasks only wait, by what is in their jobs."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest

from air_executor import model, pauses, processes, store, usage
from air_executor.errors import HomeError
from air_executor.model import JobState
from air_executor.paths import Home
from airflow_plugin import patience
from airflow_plugin.executor import AirExecutor
from tests.plugin import fleet

TIMEOUT = 600.0
SERVED = patience.Served(frozenset({"served"}))
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
    assert patience.waits(job, "this", SERVED, TIMEOUT, working_for) is expected


@pytest.mark.parametrize(
    ("in_slurm", "runner", "expected"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_what_slurm_has_waits_also_for_a_runner_that_takes_no_more(
    in_slurm: bool, runner: bool, expected: bool
) -> None:
    job, served = model.Job("job", queue="drained", external_id="this"), patience.Served(frozenset(), slurm=runner)
    assert patience.waits(job, "this", served, TIMEOUT, 0.0, in_slurm=in_slurm) is expected


def test_a_task_of_a_paused_queue_is_not_given_up_though_nobody_serves_it(
    executor: AirExecutor, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[set[str]] = []
    monkeypatch.setattr(patience, "_start_clocks_anew", lambda _, external_ids: told.append(external_ids))
    task = fleet.make_task()
    [name] = fleet.hand_over(executor, task)
    pauses.pause(home, "default")
    with pytest.raises(NotImplementedError, match="waits for its turn"):
        executor.revoke_task(ti=task.ti)  # type: ignore[arg-type]
    assert told == [{task.ti.external_executor_id}]
    pauses.resume(home, "default")
    executor.revoke_task(ti=task.ti)  # type: ignore[arg-type]
    assert store.read(home, name).state is JobState.CANCELLED


def test_pauses_that_cannot_be_seen_decide_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_home: Home) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(pauses, "names", refuse)
    with pytest.raises(HomeError, match="Input/output error"):
        patience._paused(home)


@pytest.mark.parametrize(("seconds", "expected"), [(59, True), (61, False)])
def test_a_start_may_take_a_minute_however_short_the_timeout_is(seconds: float, expected: bool) -> None:
    job = model.Job("job", queue="served", external_id="this", state=JobState.WORKING, started_at=STARTED)
    assert patience.waits(job, "this", SERVED, 5.0, seconds) is expected


@pytest.mark.parametrize("started", ["2001-01-01T00:00:00Z", "2101-01-01T00:00:00Z"])
def test_how_long_a_job_works_is_not_read_from_a_clock_that_may_have_been_set(started: str) -> None:
    me = processes.identify(os.getpid())
    job = model.Job("job", state=JobState.WORKING, started_at=started, runner=me)
    assert usage.working_for(job) == pytest.approx(processes.age(me), abs=1.0)
    job.runner = replace(me, host="elsewhere")
    assert usage.working_for(job) == 0.0 if started > "2050" else usage.working_for(job) > 1e6
