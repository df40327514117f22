"""How a job of Airflow watches the process of its task: woken by that process's end, and remembering how it went.

Airflow's supervisor sleeps in `select` for `[workers] min_heartbeat_interval` (5 s) after a short task: the sockets
reach their end before the process can be reaped, and then nothing is left that could wake it. A descriptor of the
process in the same selector cures that. `[sdk] coordinators` is Airflow's hook for a class of one's own; it is set for
the queue of one workload, in this process only, and only if the user has no coordinator for that queue.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar

import attrs
import structlog
from airflow.sdk.api.client import ServerResponseError
from airflow.sdk.configuration import conf
from airflow.sdk.execution_time import supervisor
from airflow.sdk.execution_time.callback_supervisor import CallbackSubprocess
from airflow.sdk.execution_time.comms import SucceedTask
from airflow.sdk.execution_time.coordinator import (
    BaseCoordinator,
    get_coordinator_manager,
    reset_coordinator_manager,
)
from airflow.sdk.execution_time.supervisor import SERVER_TERMINATED, ActivitySubprocess
from airflow.sdk.log import mask_logs

from air_executor import load, processes, spool
from air_executor.errors import AirExecutorError
from air_executor.paths import HOME_VARIABLE, JOB_VARIABLE, Home
from airflow_plugin import joblog

NAME = "air_executor.python"
"""The key in `[sdk] coordinators`."""

REFUSED = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE})
"""What Airflow answers when a task instance is not, or no longer, the one that this process runs."""

NOT_WELL = frozenset({"failed", "up_for_retry", SERVER_TERMINATED})
"""States of a task after which nothing of it shall go on."""

report_imports: Callable[[], None] | None = None
"""Tells the template that this process was forked from what had to be imported; None if there is none."""

_IDLE_WAIT = 0.05
"""Seconds between looks at a process of which nothing is left to wait for, where there is no descriptor of it."""
_MAX_ERROR = 500
_FAILURE = "Task failed with exception"
"""What Airflow logs with the exception that ended a task; other exceptions are of callbacks and listeners."""
_DAG_MISSING = "Dag not found during start up"


@dataclass(frozen=True)
class Outcome:
    """How the process of a task ended, and what Airflow said to that."""

    exit_code: int | None
    final_state: str | None
    """The state that the task instance has, or should have if Airflow could not be told."""
    delivered: bool
    """Whether Airflow knows the final state."""
    refusal: ServerResponseError | None = None
    """Airflow's answer that this task instance is not ours any more."""
    error: str | None = None
    """What went wrong, in one line, secrets masked."""


class _ExitWatch:
    """A descriptor that is readable once the process has ended, in the shape of a socket."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Recorder:
    """Listens to what the task logs: writes the job's log, and remembers what went wrong."""

    def __init__(self) -> None:
        self.failure: str | None = None
        """The exception that ended the task."""
        self.complaint: str | None = None
        """The first error that Airflow's own part of the task process tells of."""
        self.error: str | None = None
        """The last error that anybody tells of."""
        self.last_words: str | None = None
        """The last line on stderr."""
        self._echo = joblog.Echo()

    def logger(self) -> Any:
        """What the supervisor takes for one of its loggers."""
        return structlog.wrap_logger(None, processors=[mask_logs, self._record])

    def best(self, *, crashed: bool) -> str | None:
        """The likeliest cause of a failure, in one line. Last words tell something only of a crash."""
        text = self.failure or self.complaint or self.error or (self.last_words if crashed else None)
        if text == _DAG_MISSING and self.error:  # which is what the file raised when it was imported
            text = f"{text}: {self.error}"
        return None if text is None else " ".join(text.split())[:_MAX_ERROR]

    def _record(self, _logger: Any, method: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
        self._echo.write(method, event)
        if joblog.is_error(method):
            self._remember(str(event.get("event", "")), event)
        raise structlog.DropEvent

    def _remember(self, text: str, event: Mapping[str, Any]) -> None:
        logger, told = event.get("logger"), describe_exception(event.get("error_detail"))
        if logger == "task.stderr":
            self.last_words = text.strip() or self.last_words
        elif text == _FAILURE:
            self.failure = self.failure or told or text
        elif logger == "task":
            self.complaint = self.complaint or told or _describe_event(text, event)
        else:
            self.error = told or _describe_event(text, event)


def describe_exception(detail: Any) -> str | None:
    """`ValueError: no such thing` from the list of exceptions in a log record; the first is the one that was raised.

    Of its text the first line, and the next one where that only announces it: the job's log has all of them.
    """
    if not isinstance(detail, list) or not detail or not isinstance(detail[0], dict):
        return None
    kind, value = str(detail[0].get("exc_type") or "Exception"), str(detail[0].get("exc_value") or "").strip()
    first, _, rest = value.partition("\n")
    if first.rstrip().endswith(":"):
        first = f"{first} {rest.strip().partition(chr(10))[0]}"
    return f"{kind}: {first.strip()}" if value else kind


def _describe_event(text: str, event: Mapping[str, Any]) -> str:
    details = [str(event[key]) for key in ("error", "exit_code") if event.get(key) is not None]
    return ": ".join([text, *details])


class Watched:
    """Mixed into Airflow's supervised processes: wakes them at the end of the process, and listens."""

    pid: int
    selector: selectors.BaseSelector

    @property
    def recorder(self) -> Recorder:
        """Made on first use, for attrs makes the constructor."""
        recorder: Recorder = self.__dict__.setdefault("_recorder", Recorder())
        return recorder

    def _get_target_loggers(self) -> tuple[Any, ...]:
        """Not the supervisor's logger for stdout: the recorder writes the same lines there, for people."""
        return super()._get_target_loggers()[0], self.recorder.logger()  # type: ignore[misc]

    def _register_pipe_readers(self, *args: Any, **kwargs: Any) -> None:
        super()._register_pipe_readers(*args, **kwargs)  # type: ignore[misc]
        fd = processes.open_pidfd(self.pid)
        if fd is not None:
            watch = self.__dict__["_exit_watch"] = _ExitWatch(fd)
            close = self._on_socket_closed  # type: ignore[attr-defined]
            self.selector.register(watch, selectors.EVENT_READ, (lambda _: False, close))

    def _service_subprocess(self, max_wait_time: float, *args: Any, **kwargs: Any) -> int | None:
        if not self.selector.get_map():
            max_wait_time = min(max_wait_time, _IDLE_WAIT)
        code: int | None = super()._service_subprocess(max_wait_time, *args, **kwargs)  # type: ignore[misc]
        return code

    def wait(self) -> int:
        try:
            code: int = super().wait()  # type: ignore[misc]
            return code
        finally:
            if watch := self.__dict__.get("_exit_watch"):
                watch.close()


@attrs.define(kw_only=True, slots=False)
class TaskProcess(Watched, ActivitySubprocess):
    """The process of a task, and what Airflow answered."""

    _refusal: ServerResponseError | None = attrs.field(default=None, init=False)
    _told: bool = attrs.field(default=False, init=False)
    _swept: bool = attrs.field(default=False, init=False)

    def _service_subprocess(self, *args: Any, **kwargs: Any) -> int | None:
        """Airflow waits a minute for whoever has inherited the output of a task that has ended.

        After a good end it may have something to say. After a failure it is what was left of a task that is to be gone.
        """
        if self._exit_code is not None and not self._swept and self.final_state in NOT_WELL:
            self._swept = True
            for process in processes.tree(os.getpid())[1:]:
                processes.kill_tree(process.pid)
        return super()._service_subprocess(*args, **kwargs)

    def _on_child_started(self, *args: Any, **kwargs: Any) -> None:
        """Airflow takes the start for a heartbeat; its supervisor would send the next one at once."""
        super()._on_child_started(*args, **kwargs)
        self._last_heartbeat_attempt = self._last_successful_heartbeat

    def kill(self, *args: Any, **kwargs: Any) -> None:
        """The supervisor kills inside the handler of Airflow's answer to a heartbeat: that answer is why."""
        self._note(sys.exc_info()[1])
        super().kill(*args, **kwargs)

    def _send_terminal_state_msg(self, msg: Any) -> None:
        if isinstance(msg, SucceedTask):
            announce_success()
        try:
            super()._send_terminal_state_msg(msg)
        except ServerResponseError as error:
            self._note(error)
            raise
        if isinstance(msg, SucceedTask):
            announce_success()

    def update_task_state_if_needed(self) -> None:
        """Being told that the task instance is not ours is an end, not a fault."""
        try:
            super().update_task_state_if_needed()  # type: ignore[no-untyped-call]
        except ServerResponseError as error:
            self._note(error)
            if self._refusal is not error:
                raise
        self._told = self._pending_terminal_state_msg is None

    def _note(self, error: BaseException | None) -> None:
        if isinstance(error, ServerResponseError) and error.response.status_code in REFUSED:
            self._refusal = error

    def outcome(self) -> Outcome:
        """What is known once the process has ended."""
        code = self._exit_code
        state = None if code is None else str(getattr(self.final_state, "value", self.final_state))
        error = self.recorder.best(crashed=bool(code))
        return Outcome(code, state, self._told, self._refusal, error)


def announce_success() -> None:
    """What follows the task can start as soon as Airflow has noted it; its process has still to end, and its job to be
    written down. Once before Airflow is told, and once after.

    Not after another end: what runs again has this job's name, and has to wait for it to be over. And not where many
    wait for a processor: there the scheduler takes many ends together, and each announcement would cost it more.
    """
    home, job = os.environ.get(HOME_VARIABLE), os.environ.get(JOB_VARIABLE)
    if home and job and not load.is_crowded():
        # Only sooner: the end of the job is announced in any case. A task may have any environment.
        with contextlib.suppress(OSError, AirExecutorError):
            spool.announce_success(Home(Path(home)), job)


@attrs.define(kw_only=True, slots=False)
class CallbackProcess(Watched, CallbackSubprocess):
    """The process of a callback. There is one in the life of a Python process, and nobody else gets hold of it."""

    heard: ClassVar[Recorder] = Recorder()

    @property
    def recorder(self) -> Recorder:
        return self.heard


def _run_task(what: Any, bundle_info: Any, dag_rel_path: str | os.PathLike[str]) -> None:
    """What the process of a task does."""
    from airflow_plugin import ahead

    try:
        ahead.install(what, bundle_info, dag_rel_path)
        supervisor._subprocess_main()  # type: ignore[no-untyped-call]
    finally:
        if report_imports is not None:
            report_imports()


class AirCoordinator(BaseCoordinator):
    """Runs tasks as Airflow's own coordinator for Python does, in a `TaskProcess`."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        """None until Airflow has let the task start."""

    def execute_task(self, **arguments: Any) -> BaseCoordinator.ExecutionResult:
        """Run a task to its end."""
        # On macOS Airflow starts a new Python for its own target, because a fork alone is not safe there.
        if report_imports is not None or sys.platform != "darwin":
            known = {name: arguments[name] for name in ("what", "bundle_info", "dag_rel_path")}
            arguments["target"] = functools.partial(_run_task, **known)
        process = TaskProcess.start(**arguments)
        try:
            process.wait()
        finally:
            self.outcome = process.outcome()
        return self.ExecutionResult(self.outcome.exit_code, self.outcome.final_state or "unknown")


def install(queue: str) -> AirCoordinator | None:
    """Let tasks of a queue run in an `AirCoordinator`, in this process; None if the user has another for that queue."""
    coordinators = conf.getjson("sdk", "coordinators", fallback={})
    by_queue = conf.getjson("sdk", "queue_to_coordinator", fallback={})
    if queue in by_queue:
        return None
    classpath = f"{AirCoordinator.__module__}.{AirCoordinator.__qualname__}"
    merged = {
        "AIRFLOW__SDK__COORDINATORS": json.dumps({**coordinators, NAME: {"classpath": classpath}}),
        "AIRFLOW__SDK__QUEUE_TO_COORDINATOR": json.dumps({**by_queue, queue: NAME}),
    }
    reset_coordinator_manager()
    with _environment(merged):
        coordinator = get_coordinator_manager().for_queue(queue)
    return coordinator if isinstance(coordinator, AirCoordinator) else None


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Variables beat airflow.cfg; they are needed only until Airflow has read them, and the task shall not see them."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
