"""scripts/slurm-testcluster: up, used, broken, mended, down, and nothing left."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor.testing import wait_for
from tests.airflow import processes
from tests.slurm import cluster as clusters
from tests.slurm.cluster import Cluster

PAGE = Path(__file__).parents[2] / "docs" / "slurm.md"
ODD_CHILDREN = """
sleep 600 &
env -i setsid sh -c 'sleep 600; true' "$STARTED" &
(setsid sleep 600 &)
touch "$STARTED"
wait
"""
"""Below the step without the environment of the job; with it, and no longer below the step."""


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A directory that is short enough for Slurm, beside the cluster."""
    made = cluster.place / "tests"
    made.mkdir()
    yield made
    made.rmdir()


def script(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [clusters.SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def working_for(marker: str) -> list[str]:
    """Processes that have `marker` in their environment or command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid() and processes.exists(int(entry.name)):
            try:
                said = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in said:
                found.append(f"{entry.name} {said[-300:]!r}")
    return found


def test_the_documented_commands(tmp_path: Path, place: Path) -> None:
    """A cluster of its own beside the one of the other tests, from its start to its end."""
    section = PAGE.read_text().partition("## A throw-away cluster")[2]
    block = re.search(r"^```sh.*?\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert block is not None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    done = subprocess.run(
        ["bash", "-e", "-c", block[1]],
        cwd=PAGE.parents[1],
        env={**environment, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "n2" in done.stdout.split()
    assert list(place.iterdir()) == []
    assert working_for(str(place)) == []


def test_killed_node_and_its_jobs(cluster: Cluster, tmp_path: Path) -> None:
    started = tmp_path / "started"
    flags = ("--nodelist=n2", f"--export=STARTED={started},PATH", "--no-requeue")
    job_id = cluster.submit(ODD_CHILDREN, *flags)
    wait_for(started.exists, what="a job that runs")
    assert len(working_for(str(started))) >= 4
    cluster.kill("n2", steps=True)
    assert working_for(str(started)) == []
    assert "n2" not in {name for name in cluster.daemons if cluster._process(name)}
    cluster.restart("n2")
    cluster.run("scancel", job_id)
    assert cluster.run("srun", "--nodelist=n2", "printenv", "SLURMD_NODENAME").stdout == "n2\n"


def test_controller_that_is_restarted_keeps_its_jobs(cluster: Cluster) -> None:
    job_id = cluster.submit("sleep 600")
    wait_for(lambda: cluster.state(job_id) == "RUNNING", what="a running job")
    cluster.restart(clusters.CONTROLLER)
    assert cluster.state(job_id) == "RUNNING"
    cluster.run("scancel", job_id)


def test_killed_controller_comes_back(cluster: Cluster) -> None:
    """Without what it was told last: Slurm writes its jobs to disk some seconds later."""
    cluster.kill(clusters.CONTROLLER)
    assert "does not run" in script("kill", str(cluster.root), clusters.CONTROLLER).stderr
    cluster.mend()
    cluster.squeue()


def test_frozen_controller_answers_again(cluster: Cluster) -> None:
    with cluster.frozen(), pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["squeue"], env=cluster.environment, timeout=0.5, capture_output=True, check=False)
    cluster.squeue()


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        ((), {}, "says nothing of what to do"),
        (("sideways",), {}, "unknown action 'sideways'"),
        (("up",), {}, "up takes DIR"),
        (("up", "x", "0"), {}, "NODES is not a whole number from 1: '0'"),
        (("up", "x", "2", "many"), {}, "CPUS is not a whole number from 1: 'many'"),
        (("up", "x", "99"), {}, "NODES is at most 32: 99"),
        (("up", "x"), {"AUTH": "magic"}, "AUTH is none or munge, not 'magic'"),
        (("up", "x"), {"REQUEUE_WAIT": "3"}, "REQUEUE_WAIT is at least 5"),
        (("up", "x"), {"EXTRA": "MinJobAge=3\n clustername = theirs"}, "EXTRA cannot set any of ClusterName, Slurm"),
        (("kill", "x", "n1", "--everything"), {}, "kill takes DIR and slurmctld or a node"),
        (("restart", "x"), {}, "restart takes DIR and slurmctld or a node"),
        (("down",), {}, "down takes DIR"),
    ],
)
def test_bad_calls(arguments: tuple[str, ...], variables: dict[str, str], says: str) -> None:
    done = script(*arguments, **variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("slurm-testcluster: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_refusals(cluster: Cluster, tmp_path: Path) -> None:
    root = str(cluster.root)
    inside = {"SLURM_CLUSTER_NAME": re.findall(r"ClusterName=(\S+)", (cluster.root / "slurm.conf").read_text())[0]}
    long = tmp_path / ("x" * 100)
    for arguments, variables, says in [
        (("up", root), {}, "has a cluster already"),
        (("up", str(cluster.place)), {}, "is not an empty directory"),
        (("up", f"{cluster.place}/a b"), {}, "Slurm cannot use the path"),
        (("up", str(long)), {}, "too many for Slurm's sockets"),
        (("up", f"{tmp_path}/no/such"), {}, "there is no directory"),
        (("down", str(tmp_path)), {}, "there is no cluster of this script"),
        (("down", root), inside, "this is a job of the cluster"),
        (("kill", root, "n9"), {}, "there is no 'n9'"),
        (("kill", root, "n1/.."), {}, "there is no 'n1/..'"),
    ]:
        done = script(*arguments, **variables)
        assert done.returncode != 0
        assert says in done.stderr, (arguments, done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_fails_says_why_and_leaves_nothing(place: Path) -> None:
    done = script("up", str(place / "c"), EXTRA="PartitionName=x Nodes=nobody")
    assert done.returncode == 1
    assert "Invalid node names in partition x" in done.stderr
    assert list(place.iterdir()) == []
    assert working_for(str(place)) == []
