"""Tasks that are processes: started as their dependencies allow, held to their limits, and what their ends mean.

Kept here: the limits of single tasks, and what all of them write together. The time and the memory of a whole job, and
everything of a task that runs in the ephemeral runner itself, are for the runner's daemon (`jobs`).
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import math
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from air_executor import additions, cuts, held, model, processes, repair, results, validation
from air_executor.errors import AirExecutorError, InvalidJobError
from air_executor.model import ExitKind, JobState, TaskStatus
from air_runner import limits, scheduling, signals, supervise, trees

WRITE_INTERVAL = 1.0
"""Seconds that tasks.json may lag behind the events."""

SLURM_MARK = "SLURM_JOB_ID"
"""A variable that processes have which Slurm may end."""
REASON_WAIT = 3.0
"""Seconds until whoever else was signalled by Slurm has found out why, and noted it."""
REASON_PAUSE = 0.02

AGAIN = "; starts again in "
STOPPED = "stopped: its ephemeral runner got SIGTERM"


@dataclass(frozen=True)
class Rules:
    """What a runner says of all its jobs."""

    grace: float
    """Seconds between TERM and KILL."""
    output_mb: int
    """The limit of a task's log where neither the task nor its job says one, MiB; 0: none."""

    @property
    def flags(self) -> list[str]:
        """For the command line of a template or an ephemeral runner."""
        return ["--grace", str(self.grace), "--output-mb", str(self.output_mb)]

    @staticmethod
    def add_flags(parser: argparse.ArgumentParser) -> None:
        """Take what `flags` gives."""
        parser.add_argument("--grace", type=float, required=True)
        parser.add_argument("--output-mb", type=int, required=True)

    @classmethod
    def of(cls, options: argparse.Namespace) -> Rules:
        """What was parsed."""
        return cls(options.grace, options.output_mb)


def judge_bad_end(job: held.HeldJob, why: str) -> tuple[TaskStatus, str]:
    """What a task becomes that did not go well, and why: if somebody asked for the job's end, that is why."""
    request = repair.read_cancel(job)
    if request is None:
        return TaskStatus.FAILED, why
    cancelled = request.state is JobState.CANCELLED
    return TaskStatus.CANCELLED if cancelled else TaskStatus.FAILED, request.exit.reason


def bad_result(why: ValueError) -> model.Exit:
    """How a task ended that went well but for what it handed over."""
    return model.Exit(ExitKind.RESULT, str(why), code=0)


class TaskLoop:
    """Runs the tasks of a job as processes, as their dependencies allow."""

    def __init__(self, job: held.HeldJob, rules: Rules) -> None:
        self.job = job
        self.rules = rules
        self.limit = job.job.max_parallel or os.cpu_count() or 1
        self.graph = scheduling.TaskGraph.of(job.tasks)
        self.tasks = {task.id: task for task in job.tasks}
        self.running: dict[int, supervise.TaskProcess] = {}
        self.failure: model.Exit | None = None
        """Of the first task that failed."""
        self.again: list[tuple[float, str]] = []
        """Tasks that failed and start again, by when; a heap."""
        self.room = results.MAX_JOB_BYTES
        """How much tasks may still hand over."""
        self.taken: set[Path] = set()
        """Requests for more tasks that are in the job, but for the answer."""
        self.stopping = False
        """Whether all is being ended."""
        self.halted = False
        """Whether nothing more is started."""
        self.write_at = math.inf
        """When to write tasks.json: a while after the first change since it was written."""
        self.output = None if job.job.output_mb is None else limits.OutputLimit(job.job.output_mb, self._written)
        self.written_before = 0
        """Bytes that tasks wrote which are over."""
        self.log_starts: dict[str, int] = {}
        self.memory_at = 0.0
        """When to look at the memory of tasks."""

    def run(self) -> model.Exit:
        """Run all tasks to their ends; the outcome is that of the first that failed."""
        pipe = signals.SignalPipe([signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGURG])
        while self._start_ready():
            select.select([pipe], [], [], self._pause())
            self._handle(pipe.read())
        pipe.close()
        return self._outcome()

    def _handle(self, seen: set[int]) -> None:
        ends = {pid: supervise.from_wait_status(status) for pid, status in signals.reap().items()}
        self._take_added()  # before an end is seen: it may be the last
        if signal.SIGTERM in {*seen, *(end.signal for end in ends.values())}:
            self._await_reason()
        for pid, end in ends.items():
            if process := self.running.pop(pid, None):
                self._ended(process, end)
        if seen & {signal.SIGTERM, signal.SIGINT}:
            self._stop_all()
            for process in self.running.values():
                process.stop(STOPPED, self.rules.grace)
        moment = time.monotonic()
        self._write_if_due(moment)
        for process in self.running.values():
            process.enforce(moment, self.rules.grace)
        self._limit_output(moment)
        self._limit_memory(moment)

    def _await_reason(self) -> None:
        """Slurm signals all processes at once: the task may be dead before the agent, or a pilot, has said why."""
        deadline = time.monotonic() + (REASON_WAIT if SLURM_MARK in os.environ else 0.0)
        while repair.read_cancel(self.job) is None and time.monotonic() < deadline:
            time.sleep(REASON_PAUSE)

    def _limit_output(self, moment: float) -> None:
        for process in self.running.values():
            if process.stop_why is None and process.output and (exceeded := process.output.exceeded(moment)):
                alone = len(self.tasks) == 1
                self._note_cut(cuts.Cut(process.output.limit_mb, {process.task.id: process.log_start}, alone))
                process.end(exceeded)
        if self.output and not self.stopping and (exceeded := self.output.exceeded(moment)):
            self._note_cut(cuts.Cut(self.output.limit_mb, self.log_starts))
            self._end_all(exceeded)

    def _note_cut(self, cut: cuts.Cut) -> None:
        with contextlib.suppress(OSError):  # a log that stays long is better than one that grows on
            cuts.note(self.job.paths, cut)

    def _end_all(self, exceeded: model.Exit) -> None:
        """KILL all tasks now; the reason is left where any other would find it, should this process die meanwhile."""
        self._stop_all()
        with contextlib.suppress(OSError):
            repair.note_stop(self.job.home, self.job.job.name, by="its ephemeral runner", outcome=exceeded)
        for process in self.running.values():
            process.end(exceeded)

    def _limit_memory(self, moment: float) -> None:
        limited = [process for process in self.running.values() if _has_memory_limit(process)]
        if not limited or moment < self.memory_at:
            return
        look = trees.look()
        orphans = [pid for pid in look.children(os.getpid()) if pid not in self.running]
        for process in limited:
            limit = process.task.memory_mb or 0
            own = orphans if len(self.tasks) == 1 else filter(process.owns, orphans)
            if (used := look.memory_mb(process.pid, *own, limit=limit)) > limit:
                process.end(limits.too_big(limit, used))
        self.memory_at = moment + limits.until_next_memory(look.took)

    def _written(self) -> int:
        return self.written_before + sum(process.written() for process in self.running.values())

    def _stop_all(self) -> None:
        self.stopping = True
        self._halt()

    def _halt(self) -> None:
        self.halted = True
        self.again.clear()
        self.graph.ready.clear()

    def _start_ready(self) -> bool:
        """Whether there is anything left to wait for."""
        while self.again and self.again[0][0] <= time.monotonic():
            self.graph.ready.append(heapq.heappop(self.again)[1])
        while self.graph.ready and len(self.running) < self.limit and not self.halted:
            self._start(self.tasks[self.graph.ready.popleft()])
        return bool(self.running or self.again)

    def _start(self, task: model.Task) -> None:
        self._set(task, TaskStatus.RUNNING)  # first: should this process die now, nobody may start it again
        if task.tries > 1 or self.job.job.attempt > 1:
            results.drop(self.job.paths, task.id)
        try:
            limit = limits.of_task(task, self.job.job, self.rules.output_mb)
            process = supervise.TaskProcess(self.job.home, task, limit)
        except supervise.StartError as error:
            outcome = model.Exit(ExitKind.START_FAILED, str(error), error.exit_code)
            self._failed(task, outcome, exit_code=error.exit_code)
            return
        self.running[process.pid] = process
        self.log_starts.setdefault(task.id, process.log_start)

    def _ended(self, process: supervise.TaskProcess, ended: supervise.Ended) -> None:
        task = process.task
        self.written_before += process.written()
        if process.stop_why is not None:
            self._kill_left(process)
        reason = supervise.take_reason(self.job.paths.reason(task.id))
        changes: dict[str, Any] = {"exit_code": ended.code, "signal": ended.signal}
        outcome = ended.as_exit(process.stop_why or reason)
        if process.exceeded is not None:
            outcome.kind = process.exceeded.kind
        elif process.stop_why is not None and ended.good:  # it took the TERM well, but it was stopped
            outcome = model.Exit(ExitKind.SIGNAL, outcome.reason, signal=signal.SIGTERM)
        elif ended.good:
            outcome = self._take_result(task) or outcome
        if outcome.kind is ExitKind.SUCCESS:
            self._set(task, TaskStatus.COMPLETED, **changes)
            self.graph.completed(task.id)
        else:
            self._failed(task, outcome, **changes)

    def _kill_left(self, process: supervise.TaskProcess) -> None:
        """What a task that was stopped left behind: other tasks may go on for long."""
        for pid in processes.children():
            if pid not in self.running and process.owns(pid):
                processes.kill_tree(pid)

    def _take_result(self, task: model.Task) -> model.Exit | None:
        try:
            self.room -= results.take(self.job.paths, task.id, self.room)
        except ValueError as error:
            return bad_result(error)
        return None

    def _failed(self, task: model.Task, outcome: model.Exit, **changes: Any) -> None:
        """It is tried again, or it failed, or it was stopped with the job."""
        if repair.read_cancel(self.job) is not None:  # its runner killed all there was
            self._stop_all()
        pause = None if self.halted else scheduling.pause_before_retry(task)
        if pause is not None:
            error = f"{outcome.reason}{AGAIN}{pause:g} s (retry {task.tries} of {task.retries})"
            self._set(task, TaskStatus.PENDING, error=error, **changes)
            heapq.heappush(self.again, (time.monotonic() + pause, task.id))
            return
        status, error = judge_bad_end(self.job, outcome.reason)
        self._set(task, status, error=error, **changes)
        outcome.reason = self._name(task, outcome.reason)
        self.failure = self.failure or outcome
        self._skip(self.graph.failed(task.id), f"needs {task.id}, which failed")
        if self.job.job.on_failure == model.OnFailure.STOP:
            self._halt()
            self._skip(list(self.tasks), f"not started any more: {task.id} failed, and on_failure is stop")

    def _skip(self, names: Iterable[str], why: str) -> None:
        """Those that are over stay what they are. One that failed and waits for its next try has failed for good."""
        for task in (self.tasks[name] for name in names):
            if task.status is TaskStatus.PENDING and task.tries:
                failed = (task.error or "").partition(AGAIN)[0]
                self._set(task, TaskStatus.FAILED, error=f"{failed}; {why}")
            elif task.status is TaskStatus.PENDING:
                self._set(task, TaskStatus.SKIPPED, error=why)

    def _take_added(self) -> None:
        """Answer those who want to add tasks to this job."""
        for path in additions.requests(self.job.paths):
            with contextlib.suppress(OSError):  # of a full disk: who asks knocks again
                try:
                    if path not in self.taken:
                        self._add(self._read_request(path))
                        self.taken.add(path)
                except AirExecutorError as error:
                    additions.refuse(path, str(error))
                else:
                    additions.accept(path)

    def _read_request(self, path: Path) -> additions.Request:
        if self.halted:
            raise InvalidJobError(f"the job {self.job.job.name} starts no more tasks; none was added")
        request = additions.read(path, self.job.job.attempt)
        validation.check_tasks(request.tasks, others=self.tasks)
        return request

    def _add(self, request: additions.Request) -> None:
        self.job.add_tasks(request.tasks, request.by)
        self.tasks |= {task.id: task for task in request.tasks}
        self.write_at = min(self.write_at, time.monotonic() + WRITE_INTERVAL)
        self._skip(self.graph.add(request.tasks), "needs a task that did not go well")

    def _outcome(self) -> model.Exit:
        if self.failure is not None:
            return self.failure
        if self.stopping and any(task.status is not TaskStatus.COMPLETED for task in self.job.tasks):
            return model.Exit(ExitKind.SIGNAL, STOPPED, signal=signal.SIGTERM)
        return model.Exit(ExitKind.SUCCESS, "completed", code=0)

    def _name(self, task: model.Task, what: str) -> str:
        return what if len(self.tasks) == 1 else f"task {task.id}: {what}"

    def _pause(self) -> float | None:
        moments = [moment for process in self.running.values() if (moment := process.next_moment()) is not None]
        if self.write_at < math.inf:
            moments.append(self.write_at)
        if self.again:
            moments.append(self.again[0][0])
        if self.output is not None and not self.stopping:
            moments.append(self.output.look_at)
        if any(_has_memory_limit(process) for process in self.running.values()):
            moments.append(self.memory_at)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _set(self, task: model.Task, status: TaskStatus, **changes: Any) -> None:
        """The journal has it at once. What is over within a second is never written to tasks.json as running."""
        self.job.set_task(task, status, **changes)
        self.write_at = min(self.write_at, time.monotonic() + WRITE_INTERVAL)

    def _write_if_due(self, moment: float) -> None:
        if moment >= self.write_at:
            self.job.show_tasks()
            self.write_at = math.inf


def _has_memory_limit(process: supervise.TaskProcess) -> bool:
    return process.task.memory_mb is not None and process.stop_why is None
