"""Airflow's tasks on a real Slurm: the example, a wait that outlives tokens, cancelling, kill -9 of what is ours.

One stack and one cluster for all; a Python that runs a task on a node imports Airflow anew, so there are few of them.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.airflow import databases, kills, rest, stack, waiting
from tests.airflow.home import Job
from tests.airflow.postgres import Postgres
from tests.slurm.cluster import Cluster

HERE = Path(__file__).parent
LIFETIME = 24.0
"""Seconds that a token lives, and that Airflow lets a task be queued."""
LIMIT = 15.0
"""Seconds from what somebody clicks to the last job of Slurm."""
SETTINGS = {
    **kills.SOON,
    "SCHEDULER__TASK_QUEUED_TIMEOUT": str(LIFETIME),
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "1",
    "AIR_EXECUTOR__TOKEN_LIFETIME": str(LIFETIME),
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
}
CONFIG = """
[queues.slurm]
launcher = "slurm"

[slurm]
poll = 3
patience = 1
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes with four processors each."""
    started = Cluster()
    yield started
    started.close()


@pytest.fixture(scope="module")
def airflow(
    cluster: Cluster, postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[stack.Stack]:
    """A running Airflow whose queue `slurm` goes to the cluster."""
    root = tmp_path_factory.mktemp("slurm")
    dags = root / "dags"
    shutil.copytree(HERE / "slurm_dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "dags" / "marks.py", dags)
    shutil.copy(HERE.parents[1] / "examples" / "dags" / "on_slurm.py", dags)
    database = databases.PostgresDatabase(postgres_server, "slurm")
    started = stack.Stack(root, database, executor="airflow_plugin.AirExecutor", dags=dags, settings=SETTINGS)
    started.environment["SLURM_CONF"] = cluster.environment["SLURM_CONF"]
    started.home.path.mkdir()
    (started.home.path / "config.toml").write_text(CONFIG)
    with started:
        wanted = {"on_slurm", "late", "hold_on_n1", "hold_on_n2", "hold_on_n3"}
        waiting.until(lambda: started.rest.dag_ids() >= wanted or started.rest.import_errors(), "all DAGs", 120)
        assert started.rest.import_errors() == []
        yield started


@pytest.fixture(scope="module")
def late(airflow: stack.Stack) -> rest.Run:
    """A run that waits in Slurm for 45 s while the other tests do what they do: no token lives so long."""
    return airflow.rest.trigger("late")


def in_slurm(cluster: Cluster, run: rest.Run) -> list[str]:
    """The states in Slurm of the jobs of a run that are not over."""
    rows = cluster.squeue("--states=PENDING,RUNNING,COMPLETING,SUSPENDED")
    return sorted(row.state for row in rows if run.run_id.replace("-", "_") in row.name)


def hold(airflow: stack.Stack, cluster: Cluster, node: str) -> rest.Run:
    """A run of which one task runs on that node and one waits in Slurm."""
    run = airflow.rest.trigger(f"hold_on_{node}")
    waiting.until(lambda: in_slurm(cluster, run) == ["PENDING", "RUNNING"], "one to run and one to wait", 60)
    return run


def wait_for_body(airflow: stack.Stack, run: rest.Run) -> None:
    waiting.until(lambda: airflow.marks(run.run_id), "the body to start", 60)


@pytest.mark.usefixtures("late")
def test_the_example(airflow: stack.Stack, cluster: Cluster) -> None:
    run = airflow.rest.trigger("on_slurm")
    assert airflow.rest.finished(run, 180) == "success", airflow.rest.states(run)
    tries = {task.label: task.try_number for task in airflow.rest.tasks(run)}
    assert Counter(tries.values()) == {1: len(tries) - 1, 2: 1} and tries["fail_once"] == 2
    total = sum(number * number for number in range(10)) + 2
    path = f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/show/xcomEntries/return_value"
    shown = str(airflow.rest.get(path)["value"])
    assert shown.startswith(f"{total} on n")
    airflow.home.wait_finished(run)
    went = [job for job in airflow.home.jobs_of(run) if (job.path / "slurm.json").exists()]
    assert Counter(job.labels["task_id"] for job in went) == {"square": 10, "fail_once": 2, "add_up": 1, "job": 1}
    assert {row.name.rpartition(".")[0] for row in cluster.squeue()} >= {job.name for job in went}
    assert "this is try 1" in airflow.rest.log(run, "fail_once", 1)
    assert "this is try 2" in airflow.rest.log(run, "fail_once", 2)
    asked = airflow.home.job_of(run, "add_up").state
    assert (asked["queue"], asked["slurm"]) == ("default", {"cpus": 2, "memory": "300M", "time": 10})


@pytest.mark.usefixtures("late")
def test_marked_cleared_or_deleted_runs_leave_slurm(airflow: stack.Stack, cluster: Cluster) -> None:
    marked, cleared, deleted = runs = [hold(airflow, cluster, node) for node in ("n1", "n2", "n3")]
    for run in runs:
        wait_for_body(airflow, run)
    waiting.until(lambda: "it holds here" in airflow.rest.log(marked, "hold", 1, 0), "its log while it runs", 20)
    for run in (marked, deleted):
        airflow.rest.patch(path_of(run), {"state": "failed"})
    airflow.rest.delete(path_of(deleted))
    airflow.rest.pause(cleared.dag_id, True)
    airflow.rest.post(
        f"dags/{cleared.dag_id}/clearTaskInstances",
        {"dry_run": False, "dag_run_id": cleared.run_id, "only_failed": False},
    )
    waiting.until(lambda: not any(in_slurm(cluster, run) for run in runs), "Slurm to have none of them", LIMIT)
    airflow.home.wait_finished(*runs)
    for run in runs:
        assert Counter(job.state["state"] for job in airflow.home.jobs_of(run)) == {"cancelled": 1, "failed": 1}
        assert [job.state["exit"]["reason"] for job in cancelled(airflow, run)] == [
            "cancelled by Airflow: its task was marked, cleared or deleted while it waited"
        ]
        assert len(airflow.marks(run.run_id)) == 1


def path_of(run: rest.Run) -> str:
    return f"dags/{run.dag_id}/dagRuns/{run.run_id}"


def cancelled(airflow: stack.Stack, run: rest.Run) -> list[Job]:
    return [job for job in airflow.home.jobs_of(run) if job.state["state"] == "cancelled"]


@pytest.mark.usefixtures("late")
def test_scheduler_and_runner_killed_while_slurm_has_tasks(airflow: stack.Stack, cluster: Cluster) -> None:
    run = hold(airflow, cluster, "n1")
    wait_for_body(airflow, run)
    airflow.kill_scheduler()
    kills.kill_all(int(info["process"]["pid"]) for info in airflow.home.runners())
    airflow.start_scheduler()
    waiting.until(lambda: in_slurm(cluster, run) == ["PENDING", "RUNNING"], "Slurm to have both still", 20)
    airflow.release(run.run_id)
    assert airflow.rest.finished(run, 90) == "success"
    airflow.home.wait_finished(run)
    assert Counter(line.split()[0] for line in airflow.marks(run.run_id)) == {"start": 2, "end": 2}
    assert [job.state["attempt"] for job in airflow.home.jobs_of(run)] == [1, 1]
    assert {task.try_number for task in airflow.rest.tasks(run)} == {1}


def test_a_wait_in_slurm_outlives_the_token(airflow: stack.Stack, cluster: Cluster, late: rest.Run) -> None:
    assert airflow.rest.finished(late, 90) == "success"
    airflow.home.wait_finished(late)
    [job] = airflow.home.jobs_of(late)
    made, started = (datetime.fromisoformat(job.state[name]) for name in ("created_at", "started_at"))
    assert started - made > timedelta(seconds=LIFETIME + 10)
    assert (job.state["attempt"], [task.try_number for task in airflow.rest.tasks(late)]) == (1, [1])
    events = [event["event"] for event in airflow.rest.events(late, "wait")]
    assert not any("stuck" in event for event in events), events
    waiting.until(lambda: not cluster.squeue("--states=PENDING,RUNNING,COMPLETING"), "Slurm to have nothing", LIMIT)
    airflow.assert_no_exception("scheduler")
