"""How the tests are spread over three processes, as scripts/test.sh runs them, and what they tell.

Two Airflows at a time are too much for two cores, so all tests of one stay in one process, and so do those of a Slurm;
the others have the rest, file by file. What takes long begins first. Most tests wait rather than work: three processes
keep two cores busy for about half of the time.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

HERE = Path(__file__).parent
SHARING = (HERE / "airflow", HERE / "slurm")
"""Directories whose tests share something of which there is one: a stack, a cluster."""
LONG = (
    "tests-airflow",
    "tests-slurm",
    "faults-test_error_matrix",
    "scripts-test_cycle",
    "faults-test_damage",
)
"""The groups that take longest, in the order in which they begin."""
POINT = "point covered"
"""A property of a test: what was done, operation and system call."""


def pytest_configure() -> None:
    """Started in the background, or by nohup, this process ignores signals, and so would what tests send them to."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    # How long an example takes is the machine's: the first text of a fresh checkout alone needs a table of all letters.
    too_slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=too_slow)
    hypothesis.settings.load_profile("any machine")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Here, because pytest-xdist reads the groups before any conftest's `pytest_collection_modifyitems`."""
    item.add_marker(pytest.mark.xdist_group(_group(item)))


@pytest.hookimpl(hookwrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """After all others, which order the tests of a group."""
    yield
    items.sort(key=lambda item: [*LONG, _group(item)].index(_group(item)))


def _group(item: pytest.Item) -> str:
    group = next((directory for directory in SHARING if directory in item.path.parents), item.path)
    return f"{group.parent.name}-{group.stem}"


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
