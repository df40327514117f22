"""What an executor says in the log of a task, read by what Airflow shows logs with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.utils.log.file_task_handler import FileTaskHandler

from air_executor import held, model
from air_executor.model import ExitKind, JobState
from air_executor.paths import Home
from air_executor.slurm import condition, record
from airflow_plugin import tasknotes
from airflow_plugin.executor import AirExecutor
from tests.plugin import fleet
from tests.plugin.test_logs import on_host

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""Airflow's reader leaves it to the garbage collector to close files."""
NOW = "2026-01-02T03:04:05.000000Z"
Read = Callable[[str], list[tuple[str | None, str]]]


@pytest.fixture
def log_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path / "logs"))
    return tmp_path / "logs"


@pytest.fixture
def task(log_folder: Path) -> Any:
    return fleet.make_task()


@pytest.fixture
def read(log_folder: Path, task: Any, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Levels and texts, as the log is shown of a task in a state. Its template would be in Airflow's database."""
    handler = FileTaskHandler(str(log_folder))
    monkeypatch.setattr(handler, "_render_filename", lambda *_: task.log_path)
    monkeypatch.setattr(handler, "_read_from_logs_server", lambda *_: ([], []))

    def read(state: str) -> list[tuple[str | None, str]]:
        ti = SimpleNamespace(state=state, try_number=1, executor=None)
        stream, _ = handler._read(ti, 1)  # type: ignore[arg-type]
        found = [(getattr(each, "level", None), each.event) for each in _messages(stream)]
        return [each for each in found if not each[1].startswith("::") and not each[1].startswith(str(log_folder))]

    return read


def _messages(stream: Any) -> Iterator[Any]:
    return iter(stream)


def in_slurm(home: Home, name: str, **changes: Any) -> None:
    record.write(home.job(name), record.Record(1, f"{name}.aaaaaaaabbbbbbbb", NOW, **changes), durable=False)


def refuse(home: Home, name: str, why: str) -> None:
    """As a runner does with what Slurm does not take."""
    fleet.claim(home, name)
    with held.HeldJob.acquire(home, name) as job:
        job.finish(JobState.FAILED, model.Exit(ExitKind.START_FAILED, why), by=fleet.RUNNER)


def test_why_slurm_did_not_take_a_task_is_in_its_log(executor: AirExecutor, home: Home, task: Any, read: Read) -> None:
    [name] = fleet.hand_over(executor, task)
    assert read("queued") == []
    refuse(home, name, "Slurm does not take it: sbatch: invalid partition specified: nope")
    executor.sync()
    assert fleet.events_of(executor)[-1][0] == "job failed"
    [(level, text)] = read("failed")
    assert level == "error" and text.startswith(f"The job {name} failed: Slurm does not take it: sbatch: invalid part")


def test_an_adopted_task_has_its_reason_too(executor: AirExecutor, home: Home, task: Any, read: Read) -> None:
    [name] = fleet.hand_over(executor, task)
    later = fleet.start_executor()
    ti = SimpleNamespace(**vars(task.ti), key=task.ti.key, state="queued")
    assert later.try_adopt_task_instances([ti]) == []  # type: ignore[list-item]
    refuse(home, name, "no such account")
    later.sync()
    assert "no such account" in read("failed")[0][1]


def test_what_the_node_said_is_in_the_log(
    executor: AirExecutor, home: Home, task: Any, read: Read, log_folder: Path
) -> None:
    """The log in Airflow's folder is that of the node, and stays as it is."""
    [name] = fleet.hand_over(executor, task)
    in_slurm(home, name, id="12")
    log = log_folder / task.log_path
    with fleet.begin(home, name) as job:
        log.parent.mkdir(parents=True)
        log.write_text('{"timestamp": "2026-01-02T03:04:05Z", "level": "info", "event": "of the task"}\n')
        home.job(name).slurm_log.write_text("slurmstepd: error: *** JOB 12 CANCELLED DUE TO TIME LIMIT ***\n")
        fleet.end(job, model.Exit(ExitKind.TIMEOUT, "the Slurm job 12 reached its time limit"))
    on_host(home, name, "far-away")
    before = log.read_bytes()
    executor.sync()
    assert [text for _, text in read("failed")] == [
        "of the task",
        "slurmstepd: error: *** JOB 12 CANCELLED DUE TO TIME LIMIT ***",
        f"The job {name} failed: the Slurm job 12 reached its time limit",
    ]
    assert log.read_bytes() == before


def test_where_airflow_has_no_log_there_is_that_of_the_job(
    executor: AirExecutor, home: Home, task: Any, read: Read
) -> None:
    """A node that does not share Airflow's folder of logs."""
    [name] = fleet.hand_over(executor, task)
    in_slurm(home, name, id="12")
    with fleet.begin(home, name) as job:
        home.job(name).log("workload").write_text("ModuleNotFoundError: No module named 'pandas'\n")
        fleet.end(job, fleet.ended(1, "exit code 1"))
    on_host(home, name, "far-away")
    executor.sync()
    assert next(text for _, text in read("failed")).startswith("ModuleNotFoundError")


@pytest.mark.parametrize("has_log", [True, False])
def test_a_log_elsewhere_is_not_hidden_and_a_reason_not_said_twice(
    executor: AirExecutor, home: Home, task: Any, log_folder: Path, has_log: bool
) -> None:
    [name] = fleet.hand_over(executor, task)
    with fleet.begin(home, name) as job:
        if has_log:
            (log_folder / task.log_path).parent.mkdir(parents=True)
            (log_folder / task.log_path).touch()
        fleet.end(job, fleet.ended(1, "the body failed"))
    on_host(home, name, "far-away")
    executor.sync()
    assert list(log_folder.rglob(f"*{tasknotes.SUFFIX}")) == []


def test_a_task_that_slurm_never_starts_says_so_while_it_waits(
    executor: AirExecutor, home: Home, task: Any, read: Read
) -> None:
    fleet.serve(home, "default")
    [name] = fleet.hand_over(executor, task)
    fleet.claim(home, name)
    noted = condition.Condition(fleet.RUNNER, NOW, answered_at=NOW, states={"PENDING": 1})
    for reason in ("Resources", "PartitionDown", "PartitionDown"):
        in_slurm(home, name, id="12", state="PENDING", reason=reason)
        condition.write(home, condition.Condition(**{**vars(noted), "reasons": {reason: 1}}))
        executor._next_queues = 0.0
        executor.sync()
    [(level, text)] = read("queued")
    assert level == "warning" and "its partition is down (PartitionDown); that does not pass by waiting" in text
    assert [event for event, _ in fleet.events_of(executor)] == ["job waits"]


def test_a_task_that_was_refused_says_so(executor: AirExecutor, task: Any, read: Read) -> None:
    ti = task.ti.model_copy(update={"executor_config": {"slurm": {"time": "abc"}}})
    assert fleet.hand_over(executor, task.model_copy(update={"ti": ti})) == []
    [(level, text)] = read("failed")
    assert level == "error" and text.startswith("No job was submitted: ") and "'time' must be minutes" in text


def test_a_task_says_once_in_each_outage_that_slurm_does_not_answer(
    executor: AirExecutor, home: Home, task: Any, read: Read
) -> None:
    fleet.serve(home, "default")
    [name] = fleet.hand_over(executor, task)
    fleet.claim(home, name)
    later = NOW.replace("04:05", "05:00")
    for since in (NOW, NOW, later, None):
        trouble = "squeue did not answer within 30 s" if since else None
        condition.write(home, condition.Condition(fleet.RUNNER, NOW, trouble=trouble, trouble_since=since))
        executor._next_queues = 0.0
        executor.sync()
    for (_, text), since in zip(read("queued"), (NOW, later), strict=True):
        assert f"waits: Slurm has not answered since {since} (squeue did not answer within 30 s)" in text


def test_a_task_in_a_queue_that_nobody_serves_says_so_until_another_host_has_its_log(
    executor: AirExecutor, home: Home, log_folder: Path, read: Read
) -> None:
    fleet.serve(home, "default")
    [name] = fleet.hand_over(executor, fleet.make_task(queue="slrum"))
    for _ in range(2):
        executor._next_queues = 0.0
        executor.sync()
    [(level, text)] = read("queued")
    assert level == "warning" and "no living runner serves the queue 'slrum'" in text
    with fleet.begin(home, name) as job:
        fleet.end(job, fleet.ended(1, "the body failed"))
    on_host(home, name, "far-away")
    executor.sync()
    assert list(log_folder.rglob(f"*{tasknotes.SUFFIX}")) == [], "it would hide what that host serves"


def test_a_task_whose_pilots_come_to_nothing_says_so_while_it_waits(
    executor: AirExecutor, home: Home, task: Any, read: Read
) -> None:
    fleet.serve(home, "default")
    fleet.hand_over(executor, task)
    failing = condition.Failing("default", 3, "Slurm does not take it: sbatch: Invalid partition", NOW, refused=True)
    condition.write(home, condition.Condition(fleet.RUNNER, NOW, answered_at=NOW, failing=(failing,)))
    for _ in range(2):
        executor._next_queues = 0.0
        executor.sync()
    [(level, text)] = read("queued")
    assert level == "warning" and "its pilots have come to nothing 3 times" in text and "Invalid partition" in text
    assert [event for event, _ in fleet.events_of(executor)] == ["job waits"]


@pytest.mark.parametrize("path", [None, "", "../x.log", "/etc/x.log", "a/../../x.log"])
def test_nothing_is_written_outside_of_the_folder(
    home: Home, log_folder: Path, tmp_path: Path, path: str | None
) -> None:
    log_folder.mkdir()
    before = sorted(tmp_path.iterdir())
    tasknotes.tell_wait(path, "job", "something")
    assert sorted(tmp_path.iterdir()) == before and list(log_folder.iterdir()) == []
