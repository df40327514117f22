"""How much is tried, and the table of it at the end of a test session."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from air_executor import runners

WORKERS = 3
POINT = "point covered"
"""A property of a test: what was done, operation and system call."""
Recorder = Callable[[str, object], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-faults", action="store_true", help="every error at every point, not a selection (minutes)")


@pytest.fixture(scope="session")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, because they fork what is traced."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="session")
def all_faults(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--all-faults")) or os.environ.get("AIR_EXECUTOR_TEST_ALL_FAULTS") == "1"


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    """In this process, a damaged file of what looks like another host's runner is not watched for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runners, "MAX_WATCH", 0.0)
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Points covered, per operation and call. Tests of other processes tell them with their reports."""
    passed = [report for report in terminalreporter.getreports("passed") if report.when == "call"]
    covered = Counter(point for report in passed for name, point in report.user_properties if name == POINT)
    for what in sorted({what for what, _, _ in covered}):
        found = {(operation, call): count for (kind, operation, call), count in covered.items() if kind == what}
        terminalreporter.section(f"{what}: {sum(found.values())} points")
        for operation in sorted({operation for operation, _ in found}):
            calls = {call: count for (name, call), count in found.items() if name == operation}
            line = "  ".join(f"{call} {count}" for call, count in sorted(calls.items()))
            terminalreporter.write_line(f"{operation:<14}{sum(calls.values()):>4}  {line}")
