"""What can be asked of the index, against the same worked out in Python from plain jobs."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor import _json, model, store
from air_executor.index import EVERYTHING, Filter, Group, Index, JobRow, Spread
from air_executor.index.history import Times, normalise, percentile
from air_executor.index.rows import row_of
from air_executor.paths import Home

START = 1_800_000_000.0
STATES = list(model.JobState)
REASONS = [
    "task t1 failed with exit code 3",
    "task t22 failed with exit code 3",
    "100% of /tmp\\x is full",
    "under_score",
]


def job_of(number: int, chance: random.Random) -> model.Job:
    """One of which all that can be asked for differs, and some of which share the time of their creation."""
    created = START + number // 2 * 60.0
    state = STATES[number % len(STATES)]
    started = None if state is model.JobState.WAITING else created + chance.random() * 10
    finished = created + 10 + chance.random() * 100 if state.terminal else None
    labels = {"team": f"team {number % 3}"} if number % 4 else {}
    if number % 5:
        labels |= {"dag_id": f"dag_{number % 7}", "task_id": "it's"}
    job = model.Job(f"job-{number:03d}", state=state, labels=labels, queue=["default", "heavy"][number % 2])
    job.trigger = ["cli", "executor", "api"][number % 3]
    job.created_at = job.updated_at = job.queued_at = model.from_timestamp(created)
    job.started_at = model.from_timestamp(started) if started else None
    job.finished_at = model.from_timestamp(finished) if finished else None
    if state is model.JobState.FAILED:
        job.exit = model.Exit(model.ExitKind.EXIT_CODE, REASONS[number % len(REASONS)], 3)
    if state.terminal and number % 11:
        job.usage = {"wall_s": chance.random() * 50, "cpu_s": 1.5, "max_rss_mb": number, "max_tree_rss_mb": 2 * number}
    return job


@pytest.fixture(scope="module")
def jobs() -> list[model.Job]:
    chance = random.Random(1)
    return [job_of(number, chance) for number in range(120)]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, jobs: list[model.Job]) -> Iterator[Index]:
    home = Home(tmp_path_factory.mktemp("home"))
    store.ensure_home(home)
    for job in jobs:
        write(home, job)
    with Index(home) as index:
        index.catch_up()
        yield index


def write(home: Home, job: model.Job) -> None:
    home.job(job.name).root.mkdir()
    home.job(job.name).state.write_bytes(_json.pretty(store.state_content(job)))


def fits(row: JobRow, chosen: Filter) -> bool:
    dag = row.labels.get("dag_id")
    return (
        (not chosen.states or row.state in chosen.states)
        and (not chosen.queues or row.queue in chosen.queues)
        and (not chosen.triggers or row.trigger in chosen.triggers)
        and all(row.labels.get(name) == value for name, value in chosen.labels.items())
        and chosen.text.lower() in f"{row.name}\n{row.id}\n{row.reason}".lower()
        and (chosen.since is None or row.created >= chosen.since)
        and (chosen.until is None or row.created < chosen.until)
        and (chosen.dags is None or dag in chosen.dags or (chosen.without_dag and dag is None))
    )


MANY = [f"dag_{number}" for number in range(3, 5003)]
FILTERS = [
    EVERYTHING,
    Filter(states=["failed"]),
    Filter(states=["failed", "waiting"], queues=["heavy"]),
    Filter(queues=["nowhere", "default"]),
    Filter(triggers=["cli", "api"]),
    Filter(labels={"team": "team 1"}),
    Filter(labels={"team": "team 1", "dag_id": "dag_3", "task_id": "it's"}),
    Filter(labels={"team": "team 1' OR 1 --"}),
    Filter(labels={"dag_id": "\udc80"}),
    Filter(text="JOB-01"),
    Filter(text="%"),
    Filter(text="_"),
    Filter(text="\\x is"),
    Filter(text="'; DROP TABLE job; --"),
    Filter(text="\udc80"),
    Filter(since=START + 600, until=START + 1200),
    Filter(dags=["dag_1", "dag_2"]),
    Filter(dags=["dag_1"], without_dag=True),
    Filter(dags=[]),
    Filter(dags=[], without_dag=True),
    Filter(dags=MANY),
    Filter(dags=MANY, without_dag=True, states=["completed"]),
    Filter(dags=MANY, labels={"dag_id": "dag_1"}),
    Filter(without_dag=True),
]


@pytest.mark.parametrize("chosen", FILTERS)
def test_filters_pages_and_counts(index: Index, jobs: list[model.Job], chosen: Filter) -> None:
    expected = sorted((row_of(job) for job in jobs), key=lambda row: (row.created, row.name), reverse=True)
    expected = [row for row in expected if fits(row, chosen)]
    found: list[JobRow] = []
    key = None
    for _ in range(30):
        page = index.page(chosen, limit=11, before_key=key)
        found += page.jobs
        if (key := page.next_key) is None:
            break
    assert found == expected
    counts = Counter(row.state for row in expected)
    assert index.count(chosen) == {state.value: counts[state.value] for state in STATES}
    facets = index.facets(chosen)
    assert facets.queues == sorted({row.queue for row in expected})
    assert facets.triggers == sorted({row.trigger for row in expected})


@pytest.mark.parametrize("chosen", [EVERYTHING, Filter(queues=["heavy"]), Filter(dags=MANY), Filter(dags=[])])
def test_history(index: Index, jobs: list[model.Job], chosen: Filter) -> None:
    since, until, step = START + 100, START + 3000, 700
    rows = [row for row in map(row_of, jobs) if fits(row, chosen)]
    ended = [row for row in rows if row.finished is not None and since <= row.finished < until]
    history = index.history(chosen, since, until, step)
    assert [each.start for each in history.steps] == [since + number * step for number in range(5)]
    for each in history.steps:
        mine = [row for row in ended if each.start <= (row.finished or 0) < each.start + step]
        states = Counter(row.state for row in mine)
        assert (each.completed, each.failed, each.cancelled) == tuple(
            states[s] for s in ("completed", "failed", "cancelled")
        )
        assert each.wait == times_of([row.wait for row in mine])
        assert each.run == times_of([row.run for row in mine])
    assert history.total.run == times_of([row.run for row in ended])
    failed = [row for row in ended if row.state == "failed"]
    assert history.failures == ({"exit_code": len(failed)} if failed else {})
    assert dict(history.reasons) == Counter(normalise(row.reason or "") for row in failed)


def times_of(values: list[float | None]) -> Times | None:
    known = sorted(value for value in values if value is not None)
    return Times(*(percentile(known, part) for part in (50, 95, 99))) if known else None


def test_percentiles_are_values_that_were_there() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert [percentile(hundred, part) for part in (50, 95, 99)] == [50, 95, 99]
    assert [percentile([7.0], part) for part in (50, 95, 99)] == [7, 7, 7]
    assert [percentile([1.0, 2.0], part) for part in (50, 95, 99)] == [1, 2, 2]


def test_reasons_that_differ_by_numbers_are_one() -> None:
    assert normalise("exit code 3 after 12.5 s") == normalise("exit code 137 after 1 s") == "exit code N after N s"
    assert normalise("the job 3f2a90b1c4d5 failed") == "the job N failed"
    assert normalise("decade deadbeef") == "decade deadbeef"


def test_usage_by_labels(index: Index, jobs: list[model.Job]) -> None:
    rows = [row for row in map(row_of, jobs) if row.finished is not None]
    groups = {group.key: group for group in index.usage(["dag_id", "queue"])}
    assert groups.keys() == {(row.labels.get("dag_id"), row.queue) for row in rows}
    for key, group in groups.items():
        mine = [row for row in rows if (row.labels.get("dag_id"), row.queue) == key]
        peaks = [row.peak for row in mine if row.peak is not None]
        states = Counter(row.state for row in mine)
        assert (group.runs, group.completed, group.failed) == (len(mine), states["completed"], states["failed"])
        assert (group.peak.max if group.peak else None) == max(peaks, default=None)
        good = [row.run for row in mine if row.state == "completed" and row.run is not None]
        assert (group.completed_wall.max if group.completed_wall else None) == max(good, default=None)
    only = index.usage(["name"], Filter(text="job-002"))
    assert [group.key for group in only] == [("job-002",)]


def spread(value: float, count: int = 10) -> Spread:
    return Spread(count, value * count, value, value, value)


@pytest.mark.parametrize(
    ("peak", "limit"), [(0, 64), (42, 64), (43, 128), (682, 1024), (683, 1280), (5462, 9216), (100_000, 150_528)]
)
def test_limits_of_memory_have_headroom_and_are_round(peak: float, limit: int) -> None:
    assert group_of(completed_peak=spread(peak)).memory_mb == limit


@pytest.mark.parametrize(
    ("longest", "limit"), [(0.01, 60), (20, 60), (20.5, 120), (1200, 3600), (1201, 4200), (12_001, 39_600)]
)
def test_limits_of_time_have_headroom_and_are_round(longest: float, limit: int) -> None:
    assert group_of(completed_wall=spread(longest)).timeout == limit


def test_few_runs_give_no_limit() -> None:
    few = group_of(completed_peak=spread(10, 9), completed_wall=None)
    assert (few.memory_mb, few.timeout) == (None, None)


def group_of(completed_peak: Spread | None = None, completed_wall: Spread | None = None) -> Group:
    return Group((), 10, 10, 0, None, None, None, None, completed_wall, completed_peak, 0)


BAD_FILTERS: list[dict[str, Any]] = [
    {"states": ["done"]},
    {"states": "failed"},
    {"queues": 1},
    {"queues": ["x"] * 201},
    {"triggers": [b"cli"]},
    {"labels": ["a"]},
    {"labels": {"a": 1}},
    {"labels": {"a": "x" * 10_001}},
    {"text": None},
    {"text": "x" * 501},
    {"since": "yesterday"},
    {"since": float("nan")},
    {"until": float("inf")},
    {"until": True},
    {"dags": "dag"},
    {"dags": [None]},
]


@pytest.mark.parametrize("options", BAD_FILTERS, ids=lambda options: next(iter(options)))
def test_bad_filters_are_refused_with_a_reason(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w+ .{10,}"):
        Filter(**options)


@pytest.mark.parametrize("limit", [0, -1, 1001, 2**70, 1.5, True, "5", None])
def test_bad_limits_are_refused(index: Index, limit: Any) -> None:
    with pytest.raises(ValueError, match="from 1 to 1000"):
        index.page(limit=limit)


@pytest.mark.parametrize("key", ["", "x", "1~", "x~job", "nan~job", "inf~job", 5, "1e400~job", "~", "1" * 9999])
def test_bad_keys_are_refused_or_give_a_page(index: Index, key: Any) -> None:
    try:
        page = index.page(before_key=key)
    except ValueError as error:
        assert "not the key of a page" in str(error)
    else:
        assert key == "1~"
        assert page.jobs == []


@pytest.mark.parametrize(
    ("since", "until", "step"),
    [(2, 1, 1), (1, 1, 1), (0, 1e9, 1), (0, 10, 0), (0, 10, -1), (0, 10, float("nan")), ("a", 2, 1), (0, 1e13, 1e12)],
)
def test_bad_histories_are_refused(index: Index, since: Any, until: Any, step: Any) -> None:
    with pytest.raises(ValueError, match=r"\w+ .{10,}"):
        index.history(EVERYTHING, since, until, step)


@pytest.mark.parametrize("by", [[], "dag_id", [""], [1], ["a"] * 9])
def test_bad_groups_are_refused(index: Index, by: Any) -> None:
    with pytest.raises(ValueError, match="grouped by"):
        index.usage(by)


def test_a_bad_question_leaves_a_good_index(index: Index, jobs: list[model.Job]) -> None:
    with pytest.raises(ValueError, match="budget"):
        index.refresh(0)
    with pytest.raises(ValueError, match="key"):
        index.page(before_key="x")
    assert sum(index.count().values()) == len(jobs)


def test_odd_values_of_a_file_are_kept_or_left_out(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    job = dataclasses.replace(job_of(2, random.Random(1)), labels={"k": "\udc80", "dag_id": "a\0b"}, id="odd")
    job.usage = {"wall_s": 10**400, "cpu_s": True, "max_rss_mb": float("nan"), "max_tree_rss_mb": [1]}
    job.exit = model.Exit(model.ExitKind.SIGNAL, "\udcff and \0", 2**70, -(2**70))
    job.priority = 2**53 - 1
    write(home, job)
    with Index(home) as index:
        index.refresh()
        (row,) = index.page(Filter(labels={"k": "\udc80", "dag_id": "a\0b"}, dags=["a\0b"])).jobs
    assert (row.id, row.wall, row.cpu, row.peak, row.exit_code, row.priority) == (
        "odd",
        None,
        None,
        None,
        None,
        2**53 - 1,
    )
    assert row.labels == job.labels


def test_every_field_of_a_row_has_its_column(index: Index, jobs: list[model.Job]) -> None:
    rows = {row.name: row for row in itertools.chain(index.page(limit=1000).jobs)}
    assert rows == {job.name: row_of(job) for job in jobs}
