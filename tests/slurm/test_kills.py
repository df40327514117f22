"""kill -9 of everything while jobs flow through Slurm: each body ends once, and nothing is left.

The long version, and the one with Airflow, is `benchmarks/slurm_kills.py`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm import kills
from tests.slurm.cluster import Cluster

SEED = 7


@pytest.fixture
def restless() -> Iterator[Cluster]:
    """A Slurm that looks after its nodes every second: others miss the jobs of a killed node a minute later."""
    started = Cluster(NODE_TIMEOUT="3")
    yield started
    started.close()


def test_kills_while_jobs_flow(restless: Cluster, tmp_path: Path) -> None:
    storm = kills.Storm(tmp_path, restless, random.Random(SEED))
    try:
        storm.submit(40, longest=1.0)
        for what in ("steps", "runner", "controller", "process"):
            storm.kill(what, pause=1.0)
        storm.finish(120)
        print(storm.summary())
        assert storm.problems() == []
    finally:
        storm.end()
