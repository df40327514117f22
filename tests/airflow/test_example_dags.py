"""Airflow's own example DAGs end under AirExecutor exactly as they do under LocalExecutor."""

from __future__ import annotations

import pytest

from tests.airflow import databases, examples, record_expected, stack

# Where the recorded states are of other versions, LocalExecutor runs the examples too.
pytestmark = [databases.ON_POSTGRES, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def outcomes(shared_airflow: stack.Stack) -> dict[str, examples.Outcome]:
    shared_airflow.use_scheduler()
    return examples.run_all(shared_airflow, examples.to_run(shared_airflow), 300)


def test_at_least_forty_examples_run(outcomes: dict[str, examples.Outcome]) -> None:
    assert len(outcomes) >= 40


def test_examples_end_as_under_local_executor(outcomes: dict[str, examples.Outcome]) -> None:
    expected = examples.recorded() or record_expected.record("LocalExecutor")
    assert examples.differences(expected, outcomes) == {}


def test_no_component_logged_an_exception(shared_airflow: stack.Stack, outcomes: dict[str, examples.Outcome]) -> None:
    shared_airflow.assert_no_exception()
