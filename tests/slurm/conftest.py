"""One Slurm for all tests of this directory, which run in one process (tests/conftest.py).

It is three nodes with four processors each; a test ends the jobs that it has submitted, and what it kills of the
cluster is started again after it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster

LIVE: list[Cluster] = []


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    LIVE.append(Cluster())
    yield LIVE[0]
    LIVE.pop().close()


@pytest.fixture(autouse=True)
def _mended() -> Iterator[None]:
    yield
    for started in LIVE:
        started.mend()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failure is told together with the ends of the daemons' logs."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        for started in LIVE:
            report.sections.extend((f"{name} (end of log)", tail) for name, tail in started.tails())
