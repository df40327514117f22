"""Whatever system call in the home is a process's last: no job is lost, run twice or stuck, and nothing is left."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.conftest import POINT
from tests.faults import operations, points
from tests.faults.conftest import Recorder


@pytest.mark.parametrize("name", operations.BY_NAME)
def test_killed_at_every_call(name: str, pool: ProcessPoolExecutor, record_property: Recorder) -> None:
    plan = points.kill_points(pool.submit(points.plan, name).result())
    wrong = [f"{point}: {why}" for point, why in zip(plan, pool.map(points.try_kill, plan), strict=True) if why]
    assert not wrong, "\n".join(wrong)
    for point in plan:
        record_property(POINT, ("killed", point.phase, point.call.name))
