"""`dag.test()`, with which people try their DAGs: the examples, in this process, deferred or not, also over HTTP."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from air_executor import testing
from air_executor.client import AirExecutorClient
from air_executor.paths import Home
from tests.plugin.conftest import Way

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def runner(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[testing.RunnerProcess]:
    monkeypatch.setenv("AIR_EXECUTOR_HOME", str(home.root))
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(EXAMPLES / "dags"))
    shutil.copy(EXAMPLES / "pipelines" / "nightly.toml", home.pipelines)
    with testing.running_runner(home) as runner:
        yield runner


def find_dag(name: str) -> DAG:
    """The DAG of an example file; Airflow runs no DAG that its database does not know."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    bag = DagBag(str(EXAMPLES / "dags" / f"{name}.py"))
    assert not bag.import_errors, bag.import_errors
    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(bag, "dags-folder", None)
    return bag.dags[name]


@pytest.mark.parametrize(
    ("name", "way"),
    [("job_with_operator", "files"), ("job_deferrable", "files"), ("job_deferrable", "http")],
    indirect=["way"],
)
def test_an_example_runs(
    name: str, way: Way, database: Any, runner: testing.RunnerProcess, api: AirExecutorClient, home: Home
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Airflow warns of here is not about us
        run = find_dag(name).test()
    assert str(run.state) == "success"
    (job,) = api.list_jobs()
    assert job.labels["dag_id"] == name and job.state == "completed"
