"""`doctor` and a real Slurm: it is asked, and with a probe a node looks at the home."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor import _files, doctor, store
from air_executor.doctor.findings import Level
from air_executor.paths import Home
from tests.slurm.cluster import Cluster

CONFIG = b"""
[queues.well]
launcher = "slurm"

[queues.nowhere]
launcher = "slurm"
partition = "nowhere"

[queues.wrong]
launcher = "slurm"
python = "/nowhere/python"
"""


def test_queues_are_looked_at_from_here_and_from_a_node(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    _files.replace(home.config, CONFIG)
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    monkeypatch.setattr("air_executor.doctor.slurm.util.find_spec", lambda name: None)  # of Airflow: seconds
    before = _left(home, cluster)
    found = list(doctor.check_slurm(home, doctor.ask_airflow, probe=True))
    wrong = [each.text for each in found if each.level is Level.PROBLEM]
    assert "names the partition nowhere, which Slurm does not have" in wrong[0]
    assert "[queues.nowhere]: Slurm does not take its jobs" in wrong[1] and "invalid partition" in wrong[1]
    assert "[queues.wrong]: a probe ended without an answer" in wrong[2] and "/nowhere/python" in wrong[2]
    assert len(wrong) == 3 and found[-3].level is Level.OK
    assert "[queues.well]:" in found[-3].text and "sees the home and its locks" in found[-3].text
    assert _left(home, cluster) <= before


def _left(home: Home, cluster: Cluster) -> set[str]:
    """What is in the home, and in Slurm, where another test may have left a job."""
    living = {row.id for row in cluster.squeue() if row.state in ("PENDING", "RUNNING")}
    return living | {path.name for path in home.root.iterdir()}
