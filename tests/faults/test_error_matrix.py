"""Whatever system call in the home fails: who asked is told so, nothing is lost, and it works again afterwards."""

from __future__ import annotations

import pytest

from tests.conftest import POINT
from tests.faults import operations, points, workers
from tests.faults.conftest import Recorder


@pytest.mark.parametrize("name", operations.BY_NAME)
def test_errors_at_calls(name: str, all_faults: bool, record_property: Recorder) -> None:
    [plan] = workers.call_with_each(points.plan, [name])
    tried = points.everything(plan) if all_faults else points.select(plan)
    results = workers.call_with_each(points.try_error, tried)
    wrong = [f"{point}, {error}: {why}" for (point, error), why in zip(tried, results, strict=True) if why]
    assert not wrong, "\n".join(wrong)
    for point, error in tried:
        record_property(POINT, (f"failed with {error}", point.phase, point.call.name))
