"""How much is tried, and with what patience."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from air_executor import runners
from tests.runner.conftest import client, home  # noqa: F401  fixtures

Recorder = Callable[[str, object], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-faults", action="store_true", help="every error at every point, not a selection (minutes)")


@pytest.fixture(scope="session")
def all_faults(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--all-faults")) or os.environ.get("AIR_EXECUTOR_TEST_ALL_FAULTS") == "1"


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    """In this process, a damaged file of what looks like another host's runner is not watched for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runners, "MAX_WATCH", 0.0)
        yield
