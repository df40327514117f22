"""Whatever system call in the home fails: who asked is told so, nothing is lost, and it works again afterwards."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.conftest import POINT
from tests.faults import operations, points
from tests.faults.conftest import Recorder


@pytest.mark.parametrize("name", operations.BY_NAME)
def test_errors_at_calls(name: str, pool: ProcessPoolExecutor, all_faults: bool, record_property: Recorder) -> None:
    plan = pool.submit(points.plan, name).result()
    tried = points.everything(plan) if all_faults else points.select(plan)
    results = pool.map(points.try_error, *zip(*tried, strict=True))
    wrong = [f"{point}, {error}: {why}" for (point, error), why in zip(tried, results, strict=True) if why]
    assert not wrong, "\n".join(wrong)
    for point, error in tried:
        record_property(POINT, (f"failed with {error}", point.phase, point.call.name))
