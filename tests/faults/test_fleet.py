"""Three runners on one home, one of them killed -9 every second: every body runs exactly once, and nothing is left.

The long version, of 10,000 jobs, is `benchmarks/fleet.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import fleet, world


@pytest.mark.parametrize(("jobs", "new_names"), [(240, False), (80, True)], ids=["same names", "new names"])
def test_one_of_three_runners_killed_every_second(tmp_path: Path, jobs: int, new_names: bool) -> None:
    runners = fleet.Fleet(world.World(tmp_path), long_each=10, new_names=new_names)
    try:
        runners.start()
        runners.flow(jobs, kill_every=1.0, seconds=90)
        runners.stop()
    finally:
        runners.end()
    print(runners.summary())
    assert runners.problems() == []
    assert any(kill.claimed for kill in runners.kills), "no kill hit anything"
