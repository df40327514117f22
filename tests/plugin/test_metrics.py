"""What Airflow's statistics hear from an executor; and that they can do the scheduler no harm."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow._shared.observability.metrics.statsd_logger import SafeStatsdLogger
from airflow.observability import stats
from airflow.observability.metrics import stats_utils
from airflow.utils.state import TaskInstanceState

from air_executor import model, store
from air_executor.errors import HomeError
from air_executor.paths import Home
from airflow_plugin.executor import AirExecutor
from airflow_plugin.metrics import MAX_QUEUES, Metrics
from airflow_plugin.workload import ExitCode
from tests.plugin import fleet
from tests.plugin.test_adoption import adopt, instance


class Recorder:
    """In the place of a client for StatsD, or of one for OpenTelemetry."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any, dict[str, str]]] = []
        self.broken = False

    def _hear(self, stat: str, value: Any = 1, *_: Any, tags: dict[str, str] | None = None, **named: Any) -> None:
        if self.broken:
            raise RuntimeError("no statistics today")
        self.heard.append((stat, named.get("count", value), dict(tags or {})))

    incr = gauge = timing = _hear

    def ours(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for stat, value, _ in self.heard:
            if stat.startswith("air_executor."):
                found.setdefault(stat.removeprefix("air_executor."), []).append(value)
        return found


@pytest.fixture
def recorder(executor: AirExecutor) -> Iterator[Recorder]:
    """Hears from an executor that has begun."""
    recorder = Recorder()
    stats.initialize(factory=lambda: recorder, export_legacy_names=False)  # type: ignore[arg-type, return-value]
    yield recorder
    stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)


def test_a_task_is_told_of_from_its_submission_to_its_end(
    executor: AirExecutor, recorder: Recorder, home: Home
) -> None:
    good, bad, other = fleet.make_task(), fleet.make_task(), fleet.make_task(queue="heavy")
    fleet.serve(home, "default", "heavy")
    fleet.hand_over(executor, good, bad, other)
    fleet.finish(home, fleet.name_of(good))
    fleet.finish(home, fleet.name_of(bad), fleet.ended(ExitCode.TASK_FAILED))
    executor._next_runners = 0.0
    executor.heartbeat()
    ours = recorder.ours()
    assert sorted(ours["submitted"]) == [1, 2]
    assert ours["ended.completed.success"] == ours["ended.failed.exit_code"] == [1]
    assert [len(ours[name]) for name in ("wait_time", "run_time")] == [2, 2]
    assert all(isinstance(each, timedelta) and each >= timedelta(0) for each in ours["wait_time"] + ours["run_time"])
    assert ours["runners"][-1] == ours["runner_slots"][-1] == 1 and ours["runner_slots_in_use"][-1] == 0
    assert {"queue": "heavy"} in [tags for stat, _, tags in recorder.heard if stat == "air_executor.submitted"]
    told = {stat for stat, _, _ in recorder.heard}
    assert "executor.running_tasks" in told and not {"air_executor.running", "air_executor.queued"} & told
    assert not any("sales" in str(each) or "load" in str(each) for each in recorder.heard), "names of DAGs or tasks"


def test_what_goes_wrong_is_told(
    executor: AirExecutor, recorder: Recorder, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.hand_over(executor, fleet.make_task(executor_config={"no_such_option": 1}))
    with monkeypatch.context() as patched:
        patched.setattr(store, "submit_batch", lambda *_: (_ for _ in ()).throw(HomeError("read-only")))
        fleet.hand_over(executor, fleet.make_task())
    assert recorder.ours()["refused"] == recorder.ours()["home_refused"] == [1]


def test_an_adoption_is_told(executor: AirExecutor, recorder: Recorder, home: Home) -> None:
    task = fleet.make_task()
    fleet.hand_over(executor, task)
    assert adopt(executor, instance(task, TaskInstanceState.RUNNING))
    assert not adopt(executor, instance(fleet.make_task(), TaskInstanceState.QUEUED))
    assert recorder.ours()["adopted"] == [1]


def test_broken_statistics_reach_neither_the_scheduler_nor_the_tasks(
    executor: AirExecutor, recorder: Recorder, home: Home
) -> None:
    recorder.broken = True
    task = fleet.make_task()
    executor.queue_workload(task, session=None)  # type: ignore[arg-type]
    executor._process_workloads([task])
    fleet.finish(home, fleet.name_of(task))
    executor._next_runners = 0.0
    executor.sync()
    assert executor.get_event_buffer() == {fleet.key_of(task): (fleet.SUCCESS, None)}


def test_tags_are_bounded_and_name_the_team(recorder: Recorder) -> None:
    Metrics("red").submitted([f"q{number}" for number in range(3 * MAX_QUEUES)])
    tags = [tags for _, _, tags in recorder.heard]
    assert len(tags) == MAX_QUEUES + 1 and {each["team_name"] for each in tags} == {"red"}
    assert ("air_executor.submitted", 2 * MAX_QUEUES, {"team_name": "red", "queue": "other"}) in recorder.heard


def test_names_are_such_that_statsd_takes_them() -> None:
    sent: list[str] = []

    class Client:
        def incr(self, stat: str, *_: Any) -> None:
            sent.append(stat)

        gauge = timing = incr

    stats.initialize(factory=lambda: SafeStatsdLogger(Client()), export_legacy_names=True)  # type: ignore[arg-type]
    try:
        metrics, job = Metrics(), model.Job("a", exit=model.Exit(model.ExitKind.RUNNER_LOST, "gone"))
        metrics.ended(job)
        metrics.submitted(["default"])
        metrics.runners([])
        for tell in (metrics.refused, metrics.postponed, metrics.home_refused, metrics.adopted):
            tell()
    finally:
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
    assert sent[0] == "air_executor.ended.waiting.runner_lost" and len(sent) == 9
