"""Airflow's own example DAGs end under AirExecutor exactly as they do under LocalExecutor."""

from __future__ import annotations

import importlib.metadata

import pytest

from tests.airflow import databases, examples, stack

pytestmark = pytest.mark.timeout(420)

EXPECTED = examples.expected()


@pytest.fixture(scope="module")
def outcomes(shared_airflow: stack.Stack) -> dict[str, examples.Outcome]:
    shared_airflow.use_scheduler()
    return examples.run_all(shared_airflow, examples.to_run(shared_airflow), 300)


def test_the_recorded_states_are_those_of_this_airflow() -> None:
    installed = {name: importlib.metadata.version(name) for name in EXPECTED["versions"]}
    assert installed == EXPECTED["versions"], "run python -m tests.airflow.record_expected"


@databases.ON_POSTGRES
def test_every_example_is_run_or_left_out_with_a_reason(outcomes: dict[str, examples.Outcome]) -> None:
    assert outcomes.keys() == EXPECTED["dags"].keys()
    assert len(outcomes) >= 40


@databases.ON_POSTGRES
@pytest.mark.parametrize("dag_id", sorted(EXPECTED["dags"]))
def test_example_ends_as_under_local_executor(outcomes: dict[str, examples.Outcome], dag_id: str) -> None:
    assert outcomes[dag_id] == EXPECTED["dags"][dag_id]


@databases.ON_POSTGRES
def test_no_component_logged_an_exception(shared_airflow: stack.Stack, outcomes: dict[str, examples.Outcome]) -> None:
    shared_airflow.assert_no_exception()
