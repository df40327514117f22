"""What a job of Airflow runs: `python -m airflow_plugin.workload --server URL FILE`.

FILE holds Airflow's workload. The exit code says how it went (`ExitCode`), and one sentence why is left in the file
that `$AIR_EXECUTOR_REASON_FILE` names, if it is set. The output is a log for people. Neither holds the workload or its
token.

A template may preload this module: `preload` imports what is needed before the fork, `after_fork` resets what must not
be shared after it. Neither starts a thread or opens a connection. `watched_paths` names the files that were read, and
`reports_with` passes on how the template learns what tasks import.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import functools
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from air_executor.paths import JOB_VARIABLE

if TYPE_CHECKING:
    from airflow_plugin.coordinator import Outcome

REASON_VARIABLE = "AIR_EXECUTOR_REASON_FILE"
MAX_REASON = 1000

PRELOADED = (
    "airflow_plugin.ahead",
    "airflow_plugin.coordinator",
    "airflow_plugin.plugin",
    "airflow.dag_processing.bundles.local",
    "airflow.dag_processing.bundles.manager",
    "airflow.dag_processing.dagbag",
    "airflow.executors.base_executor",
    "airflow.executors.workloads",
    "airflow.sdk",
    "airflow.sdk.api.client",
    "airflow.sdk.bases.decorator",
    "airflow.sdk.bases.hook",
    "airflow.sdk.bases.operator",
    "airflow.sdk.bases.sensor",
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.definitions.dag",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.execution_time.callback_supervisor",
    "airflow.sdk.execution_time.connection_test_supervisor",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.sdk.log",
    "airflow.version",
    "encodings.idna",
    "jinja2.ext",
    "setproctitle",
)
"""What every workload needs."""

LIKELY = (
    "airflow.providers.standard.decorators.bash",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.operators.bash",
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.python",
)
"""What most DAG files import, if it is installed."""

UNAUTHORISED = (401, 403)
"""What Airflow answers to a token that it does not accept; it does not say why."""

RELEASED = frozenset({"deferred", "up_for_reschedule", "awaiting_input"})
"""Reasons of a good end after which the same try runs again later."""


class ExitCode(enum.IntEnum):
    """How a workload went. High numbers, so that a Python that cannot even start is not taken for one of these."""

    OK = 0
    """Airflow has the outcome: success, skipped, deferred, rescheduled ..."""
    TASK_FAILED = 91
    """The task failed, and Airflow knows: failed or up for retry. Or a callback failed."""
    STOPPED_BY_AIRFLOW = 92
    """Airflow said that the task should not run any more: cleared, marked, deleted."""
    ALREADY_RUNNING = 93
    """Another process runs this task instance; it shall go on undisturbed."""
    START_REFUSED = 94
    """Airflow refused the start: the task instance is in another state by now."""
    NOT_STARTED = 95
    """The task could not be started: the API server did not answer, or the configuration is wrong."""
    NOT_DELIVERED = 96
    """The task ended, and Airflow could not be told how."""
    INVALID_WORKLOAD = 97
    """The file is missing, or holds no workload."""
    TOKEN_OUT_OF_DATE = 98
    """Airflow refused the start, because the token is too old: the job has waited longer than it lives."""
    TERMINATED = 128 + signal.SIGTERM
    """SIGTERM came while no task was running that it could be passed on to."""


class InvalidWorkloadError(Exception):
    """The file cannot be read as a workload. The message holds nothing of its content."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the workload in a file; returns an `ExitCode`."""
    parser = argparse.ArgumentParser(prog="python -m airflow_plugin.workload", description=main.__doc__)
    parser.add_argument("--server", required=True, help="URL of Airflow's execution API")
    parser.add_argument("file", type=Path, help="Airflow's workload, as JSON")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        workload = read(options.file)
    except InvalidWorkloadError as error:
        return _end(ExitCode.INVALID_WORKLOAD, str(error))
    _prepare_process()
    return _end(*run(workload, options.server))


def read(path: Path) -> Any:
    """The workload in a file.

    Raises:
        InvalidWorkloadError: there is none.
    """
    from pydantic import ValidationError

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidWorkloadError(f"the workload {path} cannot be read: {error.strerror}") from None
    try:
        return _adapter().validate_json(content)
    except ValidationError as error:
        raise InvalidWorkloadError(f"{path} holds no workload of this Airflow: {_problems(error)}") from None


@functools.cache
def _adapter() -> Any:
    """Knows all kinds of workloads."""
    from airflow.executors import workloads
    from pydantic import TypeAdapter

    return TypeAdapter[Any](workloads.ExecutorWorkload)


def _problems(error: Any) -> str:
    """What pydantic found, without the input that its own text shows: there may be a token in it."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(".".join(map(str, item["loc"])) + f" ({item['type']})" for item in found[:5])


def run(workload: Any, server: str) -> tuple[ExitCode, str]:
    """Run a workload; returns how it went and why, in one sentence."""
    from airflow.executors import workloads

    if isinstance(workload, workloads.ExecuteTask):
        return _run_task(workload, server)
    if isinstance(workload, workloads.ExecuteCallback):
        return _run_callback(workload, server)
    try:
        _run(workload, server)
    except Exception as error:
        return ExitCode.TASK_FAILED, explain(error, server)
    return ExitCode.OK, "completed"


def _run_callback(workload: Any, server: str) -> tuple[ExitCode, str]:
    """Airflow has no hook for the class of a callback's process; this process runs one callback and nothing else."""
    from airflow.sdk.execution_time import callback_supervisor

    from airflow_plugin.coordinator import CallbackProcess

    callback_supervisor.CallbackSubprocess = CallbackProcess  # type: ignore[misc]
    try:
        _run(workload, server)
    except Exception as error:
        return ExitCode.TASK_FAILED, CallbackProcess.heard.best(crashed=True) or explain(error, server)
    return ExitCode.OK, "completed"


def _run_task(workload: Any, server: str) -> tuple[ExitCode, str]:
    from airflow_plugin import coordinator

    own = None
    try:
        own = coordinator.install(workload.ti.queue or "default")
        code = _run(workload, server)
    except Exception as error:
        if own is None or own.outcome is None:
            return judge_start(error, server, workload.token)
        return ExitCode.NOT_DELIVERED, f"{describe(own.outcome)}; Airflow could not be told: {explain(error, server)}"
    if own is None:  # the user's own coordinator, which tells Airflow itself and us only an exit code
        return (ExitCode.TASK_FAILED, f"exit code {code}") if code else (ExitCode.OK, "completed")
    return judge(own.outcome) if own.outcome else (ExitCode.NOT_STARTED, "nothing was run")


def _run(workload: Any, server: str) -> int:
    from airflow.executors.base_executor import BaseExecutor

    name = os.environ.get(JOB_VARIABLE) or workload.display_name
    # No blank in the title: Python counts the fields of /proc/self/stat by blanks, and would take this for a process
    # with threads that must not fork.
    code: int = BaseExecutor.run_workload(workload, server=server, proctitle=f"air-executor:{name}")
    return code


def judge_start(error: Exception, server: str, token: str) -> tuple[ExitCode, str]:
    """What it means that a task did not start."""
    from airflow.sdk.api.client import ServerResponseError
    from airflow.sdk.exceptions import TaskAlreadyRunningError

    from airflow_plugin import tokens

    if isinstance(error, TaskAlreadyRunningError):
        return ExitCode.ALREADY_RUNNING, "this task instance is already running elsewhere"
    if isinstance(error, ServerResponseError) and error.response.status_code < 500:
        if error.response.status_code in UNAUTHORISED and tokens.is_out_of_date(token, time.time()):
            return ExitCode.TOKEN_OUT_OF_DATE, "Airflow refused the start: the job waited longer than its token lives"
        return ExitCode.START_REFUSED, f"Airflow refused the start: {describe_refusal(error)}"
    return ExitCode.NOT_STARTED, f"the task could not be started: {explain(error, server)}"


def judge(outcome: Outcome) -> tuple[ExitCode, str]:
    """What the end of a task's process means. Pure."""
    if outcome.refusal is not None:
        detail = outcome.refusal.detail
        if isinstance(detail, dict) and detail.get("reason") == "running_elsewhere":
            return ExitCode.ALREADY_RUNNING, "this task instance is running elsewhere"
        return ExitCode.STOPPED_BY_AIRFLOW, f"stopped by Airflow: {describe_refusal(outcome.refusal)}"
    if not outcome.delivered:
        return ExitCode.NOT_DELIVERED, f"{describe(outcome)}; Airflow could not be told"
    if outcome.final_state in ("failed", "up_for_retry"):
        return ExitCode.TASK_FAILED, describe(outcome)
    return ExitCode.OK, outcome.final_state or "success"


def describe(outcome: Outcome) -> str:
    """`ValueError: no such thing (up_for_retry)`."""
    from air_executor import processes

    code = outcome.exit_code
    if code is not None and code < 0:
        what = f"its process was killed by {processes.describe_signal(-code)}"
    else:
        what = outcome.error or (f"its process ended with exit code {code}" if code else "the task ended")
    return f"{what} ({outcome.final_state})"


def describe_refusal(error: Any) -> str:
    """What Airflow answered, for people."""
    detail = error.detail
    if not isinstance(detail, dict):
        return f"{detail or error} ({error.response.status_code})"
    state = detail.get("previous_state") or detail.get("current_state")
    return f"{detail.get('message') or detail.get('reason')}" + (f"; its state is {state}" if state else "")


def explain(error: Exception, server: str) -> str:
    """An exception in one line."""
    import httpx
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return f"{error.title} is not as it should be: {_problems(error)}"
    text = " ".join(str(error).split())
    if isinstance(error, httpx.TransportError):
        return f"Airflow's API server at {server} did not answer ({type(error).__name__}: {text})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _prepare_process() -> None:
    from air_executor import processes
    from airflow_plugin import warming

    processes.become_subreaper()  # what a task leaves behind stays in reach, however it detached itself
    # A runner that the scheduler started has inherited that this is a server, which would let tasks use the database.
    os.environ.pop("_AIRFLOW_PROCESS_CONTEXT", None)
    _leave_database()
    warming.configure_logging_for_supervisor()


def _leave_database() -> None:
    """Airflow prepares connections as it is imported; tasks have none. Done in a template, forks have nothing to do."""
    from airflow.settings import dispose_orm

    dispose_orm(do_log=False)


def _end(code: ExitCode, reason: str) -> int:
    from airflow.sdk.log import mask_logs

    text = str(mask_logs(None, "info", {"event": " ".join(reason.split())})["event"])[:MAX_REASON]
    if code is not ExitCode.OK:
        sys.stderr.write(f"{text}\n")
    if path := os.environ.get(REASON_VARIABLE):
        with contextlib.suppress(OSError):  # the code says more than the reason
            Path(path).write_text(text, encoding="utf-8", errors="backslashreplace")
    return int(code)


def _exit_on_signal(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def preload() -> None:
    """Import what workloads need; a template calls it before it forks."""
    from airflow_plugin import warming

    for name in PRELOADED:
        importlib.import_module(name)
    for name in LIKELY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _adapter()
    warming.warm()
    _leave_database()


def prepare(variant: str) -> Collection[str]:
    """Parse the DAG file that tasks have in common; a template calls it in a fork. Returns what was read."""
    from airflow_plugin import warm

    return warm.prepare(variant)


def after_fork() -> None:
    """Reset what a forked process must not share with the template."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _leave_database()


def watched_paths() -> list[str]:
    """Configuration, local settings and plugins: with another of these, a template is out of date."""
    from airflow import configuration, settings

    local_settings = Path(configuration.AIRFLOW_HOME, "config")
    return [configuration.AIRFLOW_CONFIG, str(local_settings), *filter(None, [settings.PLUGINS_FOLDER])]


def reports_with(report: Callable[[], None]) -> None:
    """In a fork: the process of the task, which is another fork, calls `report` at its end."""
    from airflow_plugin import coordinator

    coordinator.report_imports = report


if __name__ == "__main__":
    sys.exit(main())
