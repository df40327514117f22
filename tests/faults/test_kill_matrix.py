"""Whatever system call in the home is a process's last: no job is lost, run twice or stuck, and nothing is left."""

from __future__ import annotations

import pytest

from tests.conftest import POINT
from tests.faults import operations, points, workers
from tests.faults.conftest import Recorder


@pytest.mark.parametrize("name", operations.BY_NAME)
def test_killed_at_every_call(name: str, record_property: Recorder) -> None:
    [found] = workers.call_with_each(points.plan, [name])
    plan = points.kill_points(found)
    results = workers.call_with_each(points.try_kill, plan)
    wrong = [f"{point}: {why}" for point, why in zip(plan, results, strict=True) if why]
    assert not wrong, "\n".join(wrong)
    for point in plan:
        record_property(POINT, ("killed", point.phase, point.call.name))
