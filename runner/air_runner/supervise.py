"""One task process: how it starts, is stopped, what its end means. Its output goes to a file, never to a pipe."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from air_executor import _files, cuts, model, processes
from air_executor.paths import HOME_VARIABLE, JOB_VARIABLE, TASK_VARIABLE, Home
from air_runner import limits, ours, spawning

COMMAND_NOT_FOUND = 127
COMMAND_NOT_EXECUTABLE = 126
MAX_REASON = 2000
"""Characters of the reason that a task may leave."""


class StartError(Exception):
    """The command could not be started; `exit_code` is what a shell would say."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Ended:
    """How a task process ended: an exit code or a signal."""

    code: int | None
    signal: int | None

    @property
    def good(self) -> bool:
        return self.code == 0

    def describe(self) -> str:
        """`exit code 3` or `killed by SIGKILL (9)`."""
        if self.signal is not None:
            return f"killed by {processes.describe_signal(self.signal)}"
        return f"exit code {self.code}"

    def as_exit(self, reason: str | None = None) -> model.Exit:
        """The outcome of a job that ended so."""
        if self.good:
            return model.Exit(model.ExitKind.SUCCESS, reason or "completed", code=0)
        kind = model.ExitKind.SIGNAL if self.signal is not None else model.ExitKind.EXIT_CODE
        return model.Exit(kind, reason or self.describe(), self.code, self.signal)


def from_wait_status(status: int) -> Ended:
    """What waitpid said."""
    code = os.waitstatus_to_exitcode(status)
    return Ended(None, -code) if code < 0 else Ended(code, None)


def task_environment(home: Home, task: model.Task) -> dict[str, str]:
    """What a task finds in its environment beside what the runner has."""
    return {
        HOME_VARIABLE: str(home.root),
        JOB_VARIABLE: task.job_name,
        TASK_VARIABLE: task.id,
        "AIR_EXECUTOR_REASON_FILE": str(home.job(task.job_name).reason(task.id)),
        "AIR_EXECUTOR_OUTPUT": str(home.job(task.job_name).output(task.id)),
        **task.env,
    }


def kill_remnants(home: Home, job_name: str, pid: int | None) -> None:
    """KILL what the ephemeral runner with that pid left of a job. Another home may have a job of the same name.

    Args:
        pid: None if it ended a while ago: its number may be another session's by now.
    """
    processes.kill_remnants(pid, *_marks(home, job_name))


def kill_recorded_remnants(home: Home, job_name: str, recorded: model.Process) -> None:
    """`kill_remnants` of an ephemeral runner that only the job's file names.

    The file may be damaged, and the session a stranger's: what has neither the marks nor the lock of the job is spared.
    """

    def is_strange(pid: int) -> bool:
        return ours.has_job(pid, job_name) is False or (processes.start_time(pid) or 0) < recorded.start_time

    processes.kill_remnants(recorded.pid, *_marks(home, job_name), spare=is_strange)


def _marks(home: Home, job_name: str) -> tuple[str, str]:
    return f"AIR_EXECUTOR_HOME={home.root}", f"AIR_EXECUTOR_JOB={job_name}"


def take_reason(path: Path) -> str | None:
    """The sentence that the task left, and remove it."""
    try:
        text = path.read_bytes()[: 4 * MAX_REASON].decode("utf-8", "replace")
    except OSError:
        return None
    path.unlink(missing_ok=True)
    return " ".join(text.split())[:MAX_REASON] or None


class TaskProcess:
    """A running task, in a session of its own.

    Args:
        output_mb: the limit of its log, MiB.

    Raises:
        StartError: the command cannot be started.
    """

    def __init__(self, home: Home, task: model.Task, output_mb: int | None) -> None:
        self.task = task
        self.stop_why: str | None = None
        """Why it is being stopped: not by itself."""
        self.exceeded: model.Exit | None = None
        """The limit of its own that it exceeded."""
        self.kill_at: float | None = None
        self._log = home.job(task.job_name).log(task.id)
        own = {os.fsencode(name): os.fsencode(value) for name, value in task_environment(home, task).items()}
        log = _files.open_to_append(self._log)
        try:
            self.log_start = os.fstat(log).st_size
            """Where in its log this attempt begins."""
            self.pid = spawning.spawn(task.argv, {**os.environb, **own}, log, task.cwd)
        except OSError as error:
            raise _explain(task, error) from None
        finally:
            os.close(log)
        moment = time.monotonic()
        self.output = None if output_mb is None else limits.OutputLimit.new(output_mb, self.written, moment)
        self.deadline = None if task.timeout is None else moment + task.timeout

    def written(self) -> int:
        """Bytes of output so far, in this attempt."""
        return cuts.log_size(self._log) - self.log_start

    def stop(self, why: str, grace: float) -> None:
        """TERM to its process group now, KILL to the whole tree after `grace` seconds."""
        if self.stop_why is None:
            self.stop_why = why
            self.kill_at = time.monotonic() + grace
            with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter: all of it is another user's
                os.killpg(self.pid, signal.SIGTERM)

    def end(self, exceeded: model.Exit) -> None:
        """KILL the whole tree now: it exceeded a limit that leaves no time."""
        self.exceeded = exceeded
        self.stop_why = exceeded.reason
        processes.kill_tree(self.pid)

    def enforce(self, now: float, grace: float) -> None:
        """Do what is due: stop at the deadline, kill after the grace."""
        if self.deadline is not None and now >= self.deadline and self.stop_why is None:
            self.exceeded = limits.too_long(self.task.timeout)
            self.stop(self.exceeded.reason, grace)
        if self.kill_at is not None and now >= self.kill_at:
            processes.kill_tree(self.pid)
            self.kill_at = None

    def next_moment(self) -> float | None:
        """When `enforce` has something to do."""
        moments = [self.kill_at]
        if self.stop_why is None:
            moments += [self.deadline, None if self.output is None else self.output.look_at]
        return min((moment for moment in moments if moment is not None), default=None)

    def owns(self, pid: int) -> bool:
        """Whether a process whose parent died came from this task: told by its session or its environment."""
        return processes.session_of(pid) == self.pid or processes.carries(pid, f"AIR_EXECUTOR_TASK={self.task.id}")


def _explain(task: model.Task, error: OSError) -> StartError:
    if task.cwd is not None and not Path(task.cwd).is_dir():
        return StartError(f"its working directory {task.cwd} is not a directory on {processes.host()}", 1)
    if isinstance(error, FileNotFoundError):
        return StartError(f"command not found: {task.command}", COMMAND_NOT_FOUND)
    if isinstance(error, PermissionError):
        return StartError(f"not executable: {task.command}", COMMAND_NOT_EXECUTABLE)
    return StartError(f"cannot start {task.command}: {error.strerror}", COMMAND_NOT_EXECUTABLE)
