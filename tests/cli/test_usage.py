"""`usage`: what a person reads, what a program reads, and what is refused."""

from __future__ import annotations

import shutil

import pytest

from air_executor import _json, model, store
from tests.cli.conftest import Cli
from tests.cli.test_reading import on_terminal


@pytest.fixture
def used(cli: Cli) -> Cli:
    """Twelve runs of one task, and one of another without labels."""
    store.ensure_home(cli.home)
    for number in range(13):
        labels = {"dag_id": "etl", "task_id": "load-\x1b[31m"} if number < 12 else {}
        job = model.Job(f"job-{number}", state=model.JobState.COMPLETED, labels=labels)
        times = [model.from_timestamp(1_700_000_000 + seconds) for seconds in (0, 2, 100)]
        job.created_at = job.updated_at = job.queued_at = times[0]
        job.started_at, job.finished_at = times[1:]
        job.usage = {"wall_s": 90 + number, "cpu_s": 5, "max_rss_mb": 100 + number, "max_tree_rss_mb": 200}
        if number == 3:
            job.state = model.JobState.FAILED
            job.exit = model.Exit(model.ExitKind.MEMORY, "too much")
            job.usage["max_tree_rss_mb"] = 9999
        cli.home.job(job.name).root.mkdir()
        cli.home.job(job.name).state.write_bytes(_json.pretty(store.state_content(job)))
    return cli


def test_usage_by_task_with_limits(used: Cli) -> None:
    of_task, of_other = used.json("usage")
    assert of_task["group"] == {"dag_id": "etl", "task_id": "load-\x1b[31m"}
    assert of_other["group"] == {"dag_id": None, "task_id": None}
    assert (of_task["runs"], of_task["failed"], of_task["wait"]["p95"]) == (12, 1, 2.0)
    assert of_task["wall"] == {"count": 12, "total": 1146.0, "p50": 95.0, "p95": 101.0, "max": 101.0}
    assert of_task["peak"]["max"] == 9999
    assert of_task["suggested"] == {"memory_mb": 320, "timeout": 360}  # from the runs that completed
    assert of_other["suggested"] == {"memory_mb": None, "timeout": None}
    lines = used("usage", "--label", "dag_id=etl").stdout.splitlines()
    assert lines[0].split() == ["DAG_ID", "TASK_ID", "RUNS", "FAILED", "WAIT", "WALL", "CPU", "MEMORY"]
    assert lines[1].split()[2:] == ["12", "1", "2.0s/2.0s", "1m35s/1m41s/1m41s", "1m00s", "9999/9999"]
    assert lines[-1].endswith('11         {"memory_mb": 320, "timeout": 360}')
    assert "\x1b" not in "".join(lines)


def test_without_airflow_jobs_are_told_by_their_names(used: Cli) -> None:
    for number in range(12):
        shutil.rmtree(used.home.job(f"job-{number}").root)
    assert [group["group"] for group in used.json("usage")] == [{"name": "job-12"}]


def test_it_fits_on_a_terminal(used: Cli) -> None:
    assert all(len(line) <= 80 for line in on_terminal(used, "usage", NO_COLOR="1").splitlines()[:5])


def test_groups_are_chosen_sorted_and_cut(used: Cli) -> None:
    done = used("usage", "--by", "name,queue", "--sort", "memory", "--limit", "2", "--queue", "default")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["NAME", "job-3", "job-0"]
    assert done.stderr == "air-executor: there are 13 groups; --limit N shows more (now 2)\n"
    assert used("usage", "--since", "1s", "--by", "name").stderr == "air-executor: no job that is over fits\n"


def test_what_it_refuses(used: Cli) -> None:
    assert "none of these jobs has the label dagid; --by takes queue, trigger, name, dag_id, task_id" in used.refused(
        "usage", "--by", "dagid", code=2
    )
    assert "is no list of different labels" in used.refused("usage", "--by", "dag_id,,x", code=2)
    assert "grouped by 1 to 8" in used.refused("usage", "--by", "a,b,c,d,e,f,g,h,i", code=2)
    assert "does not exist" in used.refused("--home", str(used.home.root / "nowhere"), "usage", code=3)
