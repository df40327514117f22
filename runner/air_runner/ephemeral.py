"""The ephemeral runner: one process, one job, from the lock to the last write.

It is alive for exactly one job and the only writer of its state meanwhile. How it comes to life is for a launcher:
`python -m air_runner.ephemeral` runs one by hand; a template forks one. Limits of the whole job and cancellation come
from the runner as SIGTERM; the limits of single tasks are kept here.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import resource
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from air_executor import _files, held, model, processes, repair
from air_executor.errors import CorruptFileError, JobBusyError, NotFoundError
from air_executor.model import ExitKind, JobState, TaskStatus
from air_executor.paths import Home
from air_runner import scheduling, signals, supervise

EXIT_DONE = 0
EXIT_NOT_OURS = 75
"""The job is held by another process, gone, or not waiting; nothing was done."""

LOCK_WAIT = 2.0
"""Seconds to wait for the lock: somebody may be looking at it just now."""

WRITE_INTERVAL = 1.0
"""Seconds that tasks.json may lag behind the events."""

STOPPED = "stopped: its ephemeral runner got SIGTERM"

Body = Callable[[held.HeldJob], model.Exit]


def run_job(home: Home, name: str, runner_id: str, *, grace: float, module: str | None = None) -> int:
    """Run a job to its end.

    Args:
        runner_id: the runner that has the claim.
        grace: seconds between TERM and KILL.
        module: what this process has preloaded; a job that is `python -m <module>` runs right here.

    Returns:
        The exit code of this process.
    """
    by = f"runner {runner_id}"
    try:
        job = held.HeldJob.acquire(home, name, wait=LOCK_WAIT)
    except (JobBusyError, NotFoundError):
        return EXIT_NOT_OURS
    except CorruptFileError as error:
        held.condemn(home, name, error, by=by)
        return EXIT_DONE
    with job:
        if job.job.state is not JobState.WAITING:
            return EXIT_NOT_OURS
        processes.become_subreaper()
        job.start(processes.identify(os.getpid(), runner_id), by=by)
        _finish(job, _run_body(job, module, grace), by)
    return EXIT_DONE


def _run_body(job: held.HeldJob, module: str | None, grace: float) -> model.Exit:
    """A fault of ours, or a home that refuses to be written, must not leave the job without an end."""
    try:
        return _choose_body(job, module, grace)(job)
    except Exception as error:
        traceback.print_exc()
        return model.Exit(ExitKind.START_FAILED, f"its ephemeral runner failed: {type(error).__name__}: {error}")


def _choose_body(job: held.HeldJob, module: str | None, grace: float) -> Body:
    if repair.read_cancel(job):
        return lambda _: model.Exit(ExitKind.CANCELLED, "cancelled before it started")
    try:
        os.nice(job.job.nice)
    except OSError as error:
        reason = f"nice {job.job.nice} is not allowed here: {error.strerror}"
        return lambda _: model.Exit(ExitKind.START_FAILED, reason)
    if module is not None and is_inline(job.tasks, module):
        return lambda held_job: run_inline(held_job, module)
    return lambda held_job: TaskLoop(held_job, grace).run()


def _finish(job: held.HeldJob, outcome: model.Exit, by: str) -> None:
    """A stop request decides, whatever the tasks made of it."""
    kill_descendants()
    request = repair.read_cancel(job)
    usage = measure_usage(job.job)
    if request is not None:
        exit_ = request.exit
        exit_.code, exit_.signal = outcome.code, outcome.signal
        job.finish(request.state, exit_, by=request.by, usage=usage)
    else:
        good = outcome.kind is ExitKind.SUCCESS
        job.finish(JobState.COMPLETED if good else JobState.FAILED, outcome, by=by, usage=usage)


def kill_descendants() -> None:
    """A job's processes end with it, also those that left its session."""
    with contextlib.suppress(FileNotFoundError):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_bytes()
        if not children.strip():
            return
    own = processes.tree(os.getpid())[1:]
    for process in own:
        processes.kill_tree(process.pid)


def measure_usage(job: model.Job) -> dict[str, Any]:
    """What the job used: seconds of wall clock and processor, MiB of its largest process."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    started = model.parse_time(job.started_at or model.now()).timestamp()
    return {
        "wall_s": round(max(0.0, time.time() - started), 3),
        "cpu_s": round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 3),
        "max_rss_mb": round(max(own.ru_maxrss, children.ru_maxrss) / unit, 1),
    }


def judge_bad_end(job: held.HeldJob, why: str) -> tuple[TaskStatus, str]:
    """What a task becomes that did not go well, and why: if somebody asked for the job's end, that is why."""
    request = repair.read_cancel(job)
    if request is None:
        return TaskStatus.FAILED, why
    cancelled = request.state is JobState.CANCELLED
    return TaskStatus.CANCELLED if cancelled else TaskStatus.FAILED, request.exit.reason


# --- A task that runs in this process ---


def is_inline(tasks: list[model.Task], module: str) -> bool:
    """Whether the job is exactly `python -m <module> ...` of this Python."""
    if len(tasks) != 1 or tasks[0].timeout is not None:
        return False
    return tasks[0].command == sys.executable and tasks[0].args[:2] == ["-m", module]


def run_inline(job: held.HeldJob, module: str) -> model.Exit:
    """Run the module's `main` here: the same as executing the task's command line, without starting Python anew."""
    task = job.tasks[0]
    job.set_task(task, TaskStatus.RUNNING)
    job.write_tasks()
    code = _call_main(job, task, module)
    ended = supervise.Ended(code, None)
    reason = supervise.take_reason(job.paths.reason(task.id))
    if ended.good:
        job.set_task(task, TaskStatus.COMPLETED, exit_code=code)
    else:
        status, error = judge_bad_end(job, reason or ended.describe())
        job.set_task(task, status, exit_code=code, error=error)
    return ended.as_exit(reason)


def _call_main(job: held.HeldJob, task: model.Task, module: str) -> int:
    """As the interpreter calls a program: arguments, environment, output; SystemExit and exceptions become a code."""
    signal.signal(signal.SIGTERM, _exit_on_signal)
    os.environ.update(supervise.task_environment(job.home, task))
    try:
        if task.cwd is not None:
            os.chdir(task.cwd)
        _redirect_output(job.paths.log(task.id))
        sys.argv = task.args[1:]
        code = importlib.import_module(module).main(task.args[2:])
        return code if isinstance(code, int) else 0
    except SystemExit as error:
        if isinstance(error.code, int) or error.code is None:
            return error.code or 0
        sys.stderr.write(f"{error.code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        with contextlib.suppress(OSError):  # of a full disk: how the task ended is known all the same
            sys.stdout.flush()
            sys.stderr.flush()


def _redirect_output(path: Path) -> None:
    fd = _files.open_to_append(path)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def _exit_on_signal(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


# --- Tasks that are processes ---


class TaskLoop:
    """Runs the tasks of a job as processes, as their dependencies allow."""

    def __init__(self, job: held.HeldJob, grace: float) -> None:
        self.job = job
        self.grace = grace
        self.limit = job.job.max_parallel or os.cpu_count() or 1
        self.graph = scheduling.TaskGraph.of(job.tasks)
        self.tasks = {task.id: task for task in job.tasks}
        self.running: dict[int, supervise.TaskProcess] = {}
        self.failure: model.Exit | None = None
        """Of the first task that failed."""
        self.stopping = False
        self.written_at = 0.0

    def run(self) -> model.Exit:
        """Run all tasks to their ends; the outcome is that of the first that failed."""
        pipe = signals.SignalPipe([signal.SIGTERM, signal.SIGINT, signal.SIGCHLD])
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while self._start_ready() or self.running:
                self._write_if_due()
                selector.select(self._pause())
                self._handle(pipe.read())
        pipe.close()
        return self._outcome()

    def _handle(self, seen: set[int]) -> None:
        for pid, status in signals.reap().items():
            if process := self.running.pop(pid, None):
                self._ended(process, process.ended(status))
        if seen & {signal.SIGTERM, signal.SIGINT}:
            self.stopping = True
            for process in self.running.values():
                process.stop(STOPPED, self.grace)
        moment = time.monotonic()
        for process in self.running.values():
            process.enforce(moment, self.grace)

    def _start_ready(self) -> bool:
        while self.graph.ready and len(self.running) < self.limit and not self.stopping:
            self._start(self.tasks[self.graph.ready.popleft()])
        return bool(self.running)

    def _start(self, task: model.Task) -> None:
        self.job.set_task(task, TaskStatus.RUNNING)  # first: should this process die now, nobody may start it again
        try:
            process = supervise.TaskProcess(self.job.home, task)
        except supervise.StartError as error:
            self.job.set_task(task, TaskStatus.FAILED, error=str(error), exit_code=error.exit_code)
            self._fail(task, model.Exit(ExitKind.START_FAILED, self._name(task, str(error)), error.exit_code))
            return
        self.running[process.pid] = process

    def _ended(self, process: supervise.TaskProcess, ended: supervise.Ended) -> None:
        task = process.task
        reason = supervise.take_reason(self.job.paths.reason(task.id))
        changes: dict[str, Any] = {"exit_code": ended.code, "signal": ended.signal}
        if ended.good and process.stop_why is None:
            self.job.set_task(task, TaskStatus.COMPLETED, **changes)
            self.graph.completed(task.id)
            return
        why = process.stop_why or reason or ended.describe()
        status, error = judge_bad_end(self.job, why)
        self.job.set_task(task, status, error=error, **changes)
        outcome = ended.as_exit(self._name(task, why))
        if process.timed_out:
            outcome.kind = ExitKind.TIMEOUT
        elif ended.good:  # it took the TERM well, but it was stopped
            outcome = model.Exit(ExitKind.SIGNAL, outcome.reason, signal=signal.SIGTERM)
        self._fail(task, outcome)

    def _fail(self, task: model.Task, outcome: model.Exit) -> None:
        self.failure = self.failure or outcome
        for name in self.graph.failed(task.id):
            self.job.set_task(self.tasks[name], TaskStatus.SKIPPED, error=f"needs {task.id}, which failed")

    def _outcome(self) -> model.Exit:
        if self.failure is not None:
            return self.failure
        if self.stopping and any(task.status is not TaskStatus.COMPLETED for task in self.job.tasks):
            return model.Exit(ExitKind.SIGNAL, STOPPED, signal=signal.SIGTERM)
        return model.Exit(ExitKind.SUCCESS, "completed", code=0)

    def _name(self, task: model.Task, what: str) -> str:
        return what if len(self.tasks) == 1 else f"task {task.id}: {what}"

    def _pause(self) -> float | None:
        moments = [moment for process in self.running.values() if (moment := process.next_moment())]
        if len(self.tasks) > 1:
            moments.append(self.written_at + WRITE_INTERVAL)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _write_if_due(self) -> None:
        moment = time.monotonic()
        if moment - self.written_at >= WRITE_INTERVAL:
            self.job.write_tasks()
            self.written_at = moment


def main(arguments: list[str] | None = None) -> int:
    """`python -m air_runner.ephemeral`: run one claimed job."""
    parser = argparse.ArgumentParser(prog="python -m air_runner.ephemeral", description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runner", required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("job")
    options = parser.parse_args(arguments)
    return run_job(Home(options.home), options.job, options.runner, grace=options.grace)


if __name__ == "__main__":
    sys.exit(main())
