"""How the tests are spread over two processes (`-n 2 --dist loadgroup`, as scripts/test.sh has it).

Starting an Airflow takes ten seconds of two cores, so all tests of one stay in one process. They are the largest group,
which begins first; the other process has the rest, file by file.
"""

from __future__ import annotations

from pathlib import Path

import pytest

AIRFLOW = Path(__file__).parent / "airflow"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        group = AIRFLOW if AIRFLOW in item.path.parents else item.path
        item.add_marker(pytest.mark.xdist_group(group.stem))
