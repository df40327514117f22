"""A scheduler that waits for the ends of tasks is woken by them, and by whoever asks Airflow for something."""

from __future__ import annotations

import pytest

from tests.airflow import databases, stack

pytestmark = databases.ON_POSTGRES
SYNC_WAIT = 25
"""Seconds; a scheduler that nobody woke would take longer than `SOON` for any step."""
SOON = 20


@pytest.mark.own_scheduler
def test_a_run_is_found_at_once_and_so_is_the_end_of_its_task(shared_airflow: stack.Stack) -> None:
    shared_airflow.use_scheduler(SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME="0", AIR_EXECUTOR__SYNC_WAIT=str(SYNC_WAIT))
    # The first may come in the rounds that a scheduler does when it begins.
    for _ in range(2):
        assert shared_airflow.rest.finished(shared_airflow.rest.trigger("one"), SOON) == "success"
    shared_airflow.assert_no_exception("api-server", "scheduler")
