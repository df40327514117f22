"""The process of a task: noticed the moment it ends, and remembered for what it said."""

from __future__ import annotations

import gc
import json
import os
import select
import selectors
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from airflow.sdk.api.client import Client, ServerResponseError, TaskInstanceOperations
from airflow.sdk.api.datamodels._generated import TaskInstance
from airflow.sdk.execution_time import supervisor
from airflow.sdk.execution_time.comms import RetryTask, SucceedTask
from airflow.sdk.execution_time.coordinator import get_coordinator_manager, reset_coordinator_manager

from air_executor import load, processes, spool
from air_executor.paths import HOME_VARIABLE, JOB_VARIABLE, Home
from airflow_plugin import coordinator
from airflow_plugin.coordinator import AirCoordinator, Outcome, Recorder, TaskProcess
from airflow_plugin.workload import ExitCode, judge
from tests.plugin.api_server import CONTEXT

# Airflow leaves its copy of the child's end of a socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")


class Watcher(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    """Notes how long the supervisor was ready to sleep with nothing that could wake it."""

    def __init__(self) -> None:
        super().__init__()
        self.blind: list[float] = []

    def select(self, timeout: float | None = None) -> Any:
        if not self.get_map():
            self.blind.append(timeout or 0.0)
        return super().select(timeout)


def client() -> Client:
    """One that answers as Airflow would, without a server."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=CONTEXT if request.url.path.endswith("/run") else {"text": "fine"})

    return Client(base_url=None, dry_run=True, token="", transport=httpx.MockTransport(answer))


def quiet() -> Any:
    return structlog.wrap_logger(None, processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])


def start(target: Callable[[], None]) -> TaskProcess:
    what = TaskInstance(
        id=uuid.uuid4(), dag_id="d", task_id="t", run_id="r", try_number=1, dag_version_id=uuid.uuid4(), queue="default"
    )
    return TaskProcess.start(
        what=what,
        dag_rel_path="d.py",
        bundle_info=None,
        client=client(),
        target=target,
        logger=quiet(),
        selector=Watcher(),
    )


def open_files() -> int:
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator.joblog.Echo, "write", lambda *_: None)


# --- No stall ---


def linger() -> None:
    """What a process with much memory does at its end, drawn out: all its files are closed, and it is still there."""
    os.closerange(0, 256)
    select.select([], [], [], 0.05)
    os._exit(0)


def test_short_tasks_in_a_row_never_sleep_blindly() -> None:
    for _ in range(10):
        process = start(linger)
        assert process.wait() == 0
        assert process.selector.blind == []


def test_without_a_descriptor_of_the_process_the_sleep_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "open_pidfd", lambda _pid: None)
    process = start(linger)
    assert process.wait() == 0
    assert process.selector.blind and max(process.selector.blind) <= coordinator._IDLE_WAIT


def test_the_start_counts_as_the_first_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    monkeypatch.setattr(TaskInstanceOperations, "heartbeat", lambda *_, **told: sent.append(told))
    monkeypatch.setattr(supervisor, "MIN_HEARTBEAT_INTERVAL", 3600.0)
    process = start(linger)
    process._send_heartbeat_if_needed()
    assert sent == []
    with monkeypatch.context() as sooner:
        sooner.setattr(supervisor, "MIN_HEARTBEAT_INTERVAL", 0.0)
        process._send_heartbeat_if_needed()
    assert sent == [{"pid": process.pid}]
    process.wait()


def test_the_descriptor_is_closed_in_the_end() -> None:
    before = open_files()
    for _ in range(5):
        start(lambda: None).wait()
    assert open_files() <= before + 1


@pytest.mark.parametrize(
    ("target", "code", "state"),
    [
        (lambda: None, 0, "success"),
        (lambda: sys.exit(7), 7, "failed"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -9, "failed"),
    ],
)
def test_the_end_of_a_process_is_remembered(target: Callable[[], None], code: int, state: str) -> None:
    process = start(target)
    process.wait()
    outcome = process.outcome()
    assert (outcome.exit_code, outcome.final_state, outcome.delivered) == (code, state, True)
    assert outcome.refusal is None


@pytest.mark.parametrize(
    ("message", "crowded", "announced"),
    [(SucceedTask, False, ["the-job", "the-job"]), (SucceedTask, True, []), (RetryTask, False, [])],
)
def test_a_success_is_announced_before_airflow_is_told_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: type, crowded: bool, announced: list[str]
) -> None:
    """Not that a task is to run again: that has to wait for the end of its job."""
    monkeypatch.setattr(load, "is_crowded", lambda: crowded)
    told: list[str] = []

    def note(home: Home, job: str) -> None:
        assert home.root == tmp_path
        told.append(job)

    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv(JOB_VARIABLE, "the-job")
    monkeypatch.setattr(spool, "announce_success", note)
    process = start(lambda: None)
    process._send_terminal_state_msg(message(end_date=datetime.now(timezone.utc)))
    assert told == announced
    process.wait()


def test_the_last_words_of_a_crash_are_remembered() -> None:
    def crash() -> None:
        os.write(2, b"Fatal: cannot go on\n")
        os._exit(3)

    process = start(crash)
    process.wait()
    assert process.outcome().error == "Fatal: cannot go on"


# --- What the task says ---


def record(**event: Any) -> Recorder:
    recorder = Recorder()
    tell(recorder, **event)
    return recorder


def tell(recorder: Recorder, level: str = "error", **event: Any) -> None:
    with pytest.raises(structlog.DropEvent):
        recorder._record(None, level, event)


def raised(kind: str, value: str) -> list[dict[str, Any]]:
    return [{"exc_type": kind, "exc_value": value, "frames": []}, {"exc_type": "Cause", "exc_value": "x", "frames": []}]


FAILED = {"event": "Task failed with exception", "logger": "task"}


def test_the_exception_of_the_task_counts_before_all_else() -> None:
    recorder = record(event="something of a library", logger="library", error_detail=raised("OSError", "no"))
    tell(recorder, **FAILED, error_detail=raised("ValueError", "first\nline two"))
    tell(recorder, **FAILED, error_detail=raised("KeyError", "of a second try"))
    tell(recorder, event="Failed to run task callback", logger="task", error_detail=raised("KeyError", "callback"))
    assert recorder.best(crashed=False) == "ValueError: first"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "the job a failed: task x: exit code 7\ntask x: exit code 7\nof 2 tasks: 1 failed",
            "the job a failed: task x: exit code 7",
        ),
        ("it has two parts:\n\n  one\n  two", "it has two parts: one"),
        ("it ends:\n", "it ends:"),
    ],
)
def test_of_a_text_of_several_lines_the_first_says_why(value: str, said: str) -> None:
    assert record(**FAILED, error_detail=raised("Stop", value)).best(crashed=False) == f"Stop: {said}"


def test_airflows_own_complaint_counts_before_others() -> None:
    recorder = record(event="a line of the body", logger="my.module")
    tell(recorder, event="Task exited", logger="task", exit_code=3)
    tell(recorder, event="another line", logger="my.module")
    assert recorder.best(crashed=False) == "Task exited: 3"


def test_an_error_without_an_exception_is_better_than_nothing() -> None:
    assert record(event="it is", error="broken").best(crashed=False) == "it is: broken"
    assert record(**FAILED).best(crashed=False) == "Task failed with exception"
    assert record(**FAILED, error_detail=[{"exc_type": "Stop"}]).best(crashed=False) == "Stop"
    assert record(**FAILED, error_detail="odd").best(crashed=False) == "Task failed with exception"


def test_a_line_on_stderr_is_no_error_of_a_task_that_went_well() -> None:
    recorder = record(event="progress: 3 of 4", logger="task.stderr")
    assert recorder.best(crashed=False) is None
    assert recorder.best(crashed=True) == "progress: 3 of 4"


def test_what_is_no_error_is_not_remembered() -> None:
    recorder = Recorder()
    tell(recorder, "info", event="all is well", logger="task")
    tell(recorder, "warning", event="careful", logger="task")
    assert recorder.best(crashed=True) is None


# --- What it means ---


def answer(status: int, detail: Any) -> ServerResponseError:
    request = httpx.Request("PUT", "http://server/")
    response = httpx.Response(status, json={"detail": detail}, request=request)
    error = ServerResponseError.from_response(response)
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("outcome", "code", "reason"),
    [
        (Outcome(0, "success", True), ExitCode.OK, "success"),
        (Outcome(0, "skipped", True, error="a log line"), ExitCode.OK, "skipped"),
        (Outcome(0, "deferred", True), ExitCode.OK, "deferred"),
        (Outcome(0, "failed", True, error="ValueError: x"), ExitCode.TASK_FAILED, "ValueError: x (failed)"),
        (Outcome(0, "up_for_retry", True), ExitCode.TASK_FAILED, "the task ended (up_for_retry)"),
        (
            Outcome(1, "failed", True),
            ExitCode.TASK_FAILED,
            "its process ended with exit code 1 (failed)",
        ),
        (
            Outcome(-11, "failed", True, error="x"),
            ExitCode.TASK_FAILED,
            "its process was killed by SIGSEGV (11) (failed)",
        ),
        (
            Outcome(0, "success", False),
            ExitCode.NOT_DELIVERED,
            "the task ended (success); Airflow could not be told",
        ),
        (
            Outcome(-15, "SERVER_TERMINATED", True, answer(410, {"reason": "gone"})),
            ExitCode.STOPPED_BY_AIRFLOW,
            "stopped by Airflow: gone",
        ),
        (
            Outcome(0, "failed", False, answer(409, {"message": "not now", "current_state": "restarting"})),
            ExitCode.STOPPED_BY_AIRFLOW,
            "stopped by Airflow: not now; its state is restarting",
        ),
        (
            Outcome(-15, "SERVER_TERMINATED", True, answer(409, {"reason": "running_elsewhere"})),
            ExitCode.ALREADY_RUNNING,
            "this task instance is running elsewhere",
        ),
        (
            Outcome(-15, "SERVER_TERMINATED", True, answer(404, "Not Found")),
            ExitCode.STOPPED_BY_AIRFLOW,
            "stopped by Airflow: Not Found (404)",
        ),
    ],
)
def test_the_meaning_of_an_outcome(outcome: Outcome, code: ExitCode, reason: str) -> None:
    assert judge(outcome) == (code, reason)


# --- Where it is hooked in ---


@pytest.fixture
def manager() -> Iterator[None]:
    reset_coordinator_manager()
    yield
    reset_coordinator_manager()


@pytest.mark.usefixtures("manager")
def test_the_coordinator_serves_the_queue_of_the_workload() -> None:
    own = coordinator.install("default")
    assert isinstance(own, AirCoordinator)
    assert get_coordinator_manager().for_queue("default") is own
    assert not isinstance(get_coordinator_manager().for_queue("other"), AirCoordinator)
    assert not [name for name in os.environ if "COORDINATOR" in name]


OTHER = {"java": {"classpath": "airflow.sdk.execution_time.coordinator._PythonCoordinator"}}


@pytest.mark.usefixtures("manager")
def test_a_coordinator_of_the_user_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SDK__COORDINATORS", json.dumps(OTHER))
    monkeypatch.setenv("AIRFLOW__SDK__QUEUE_TO_COORDINATOR", json.dumps({"jvm": "java"}))
    assert coordinator.install("jvm") is None
    assert not isinstance(get_coordinator_manager().for_queue("jvm"), AirCoordinator)
    own = coordinator.install("default")
    assert get_coordinator_manager().for_queue("default") is own
    assert not isinstance(get_coordinator_manager().for_queue("jvm"), AirCoordinator)
    assert json.loads(os.environ["AIRFLOW__SDK__COORDINATORS"]) == OTHER


@pytest.mark.usefixtures("manager")
def test_a_second_workload_in_the_same_process_has_a_coordinator_of_its_own() -> None:
    assert coordinator.install("default") is not coordinator.install("default")
