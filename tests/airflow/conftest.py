"""The stacks that the tests of this directory share: starting one takes ten seconds of two cores.

There is one SQLite stack and one PostgreSQL stack. A test that takes `airflow` runs on both, unless it is marked with
`databases.ON_POSTGRES`; all tests of one stack run together, so that only one is up at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.airflow import databases, examples, stack
from tests.airflow.postgres import Postgres

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session", params=databases.NAMES)
def shared_airflow(request: pytest.FixtureRequest) -> Iterator[stack.Stack]:
    """A running Airflow with AirExecutor, whatever scheduler the last test left."""
    with tempfile.TemporaryDirectory(prefix="air-stack-") as directory:
        root = Path(directory)
        database: databases.Database
        if request.param == "sqlite":
            database, settings = databases.SqliteDatabase(root / "airflow.db"), {}
        else:
            server = request.getfixturevalue("postgres_server")
            # The examples run on this stack too.
            database, settings = databases.PostgresDatabase(server, "airflow"), examples.SETTINGS
        with stack.Stack(root, database, executor="airflow_plugin.AirExecutor", settings=settings) as started:
            yield started


@pytest.fixture
def airflow(shared_airflow: stack.Stack) -> stack.Stack:
    """A running Airflow with AirExecutor and the stack's own settings."""
    shared_airflow.use_scheduler()
    return shared_airflow


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One stack after the other; pytest itself orders by the number of a parameter, not by its value."""
    items.sort(key=_stack_of)


def _stack_of(item: pytest.Item) -> tuple[int, bool]:
    """Tests that need a scheduler of their own come last on their stack, for going back costs a restart."""
    callspec = getattr(item, "callspec", None)
    if HERE not in item.path.parents or callspec is None or "shared_airflow" not in callspec.params:
        return (-1, False)
    own_scheduler = item.get_closest_marker("own_scheduler") is not None
    return (databases.NAMES.index(callspec.params["shared_airflow"]), own_scheduler)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "own_scheduler: restarts the scheduler with other settings")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failure is told together with the ends of the components' logs."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        for started in stack.LIVE:
            report.sections.extend((f"{name} (end of log)", tail) for name, tail in started.tails())
