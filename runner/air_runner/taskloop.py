"""Tasks that are processes: started as their dependencies allow, held to their limits, and what their ends mean.

Kept here: the limits of single tasks, and what all of them write together. The time and the memory of a whole job, and
everything of a task that runs in the ephemeral runner itself, are for the runner's daemon (`jobs`).
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import select
import signal
import time
from dataclasses import dataclass
from typing import Any

from air_executor import cuts, held, model, processes, repair
from air_executor.model import ExitKind, JobState, TaskStatus
from air_runner import limits, scheduling, signals, supervise, trees

WRITE_INTERVAL = 1.0
"""Seconds that tasks.json may lag behind the events."""

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


class TaskLoop:
    """Runs the tasks of a job as processes, as their dependencies allow."""

    def __init__(self, job: held.HeldJob, rules: Rules) -> None:
        self.job = job
        self.rules = rules
        self.limit = 1 if len(job.tasks) == 1 else job.job.max_parallel or os.cpu_count() or 1
        self.graph = scheduling.TaskGraph.of(job.tasks)
        self.tasks = {task.id: task for task in job.tasks}
        self.running: dict[int, supervise.TaskProcess] = {}
        self.failure: model.Exit | None = None
        """Of the first task that failed."""
        self.stopping = False
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
        pipe = signals.SignalPipe([signal.SIGTERM, signal.SIGINT, signal.SIGCHLD])
        while self._start_ready() or self.running:
            select.select([pipe], [], [], self._pause())
            self._handle(pipe.read())
        pipe.close()
        return self._outcome()

    def _handle(self, seen: set[int]) -> None:
        for pid, status in signals.reap().items():
            if process := self.running.pop(pid, None):
                self._ended(process, supervise.from_wait_status(status))
        if seen & {signal.SIGTERM, signal.SIGINT}:
            self.stopping = True
            for process in self.running.values():
                process.stop(STOPPED, self.rules.grace)
        moment = time.monotonic()
        self._write_if_due(moment)
        for process in self.running.values():
            process.enforce(moment, self.rules.grace)
        self._limit_output(moment)
        self._limit_memory(moment)

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
        self.stopping = True
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

    def _start_ready(self) -> bool:
        while self.graph.ready and len(self.running) < self.limit and not self.stopping:
            self._start(self.tasks[self.graph.ready.popleft()])
        return bool(self.running)

    def _start(self, task: model.Task) -> None:
        self._set(task, TaskStatus.RUNNING)  # first: should this process die now, nobody may start it again
        try:
            limit = limits.of_task(task, self.job.job, self.rules.output_mb)
            process = supervise.TaskProcess(self.job.home, task, limit)
        except supervise.StartError as error:
            self._set(task, TaskStatus.FAILED, error=str(error), exit_code=error.exit_code)
            self._fail(task, model.Exit(ExitKind.START_FAILED, self._name(task, str(error)), error.exit_code))
            return
        self.running[process.pid] = process
        self.log_starts[task.id] = process.log_start

    def _ended(self, process: supervise.TaskProcess, ended: supervise.Ended) -> None:
        task = process.task
        self.written_before += process.written()
        if process.stop_why is not None:
            self._kill_left(process)
        reason = supervise.take_reason(self.job.paths.reason(task.id))
        changes: dict[str, Any] = {"exit_code": ended.code, "signal": ended.signal}
        if ended.good and process.stop_why is None:
            self._set(task, TaskStatus.COMPLETED, **changes)
            self.graph.completed(task.id)
            return
        why = process.stop_why or reason or ended.describe()
        self.stopping = self.stopping or repair.read_cancel(self.job) is not None  # its runner killed all there was
        status, error = judge_bad_end(self.job, why)
        self._set(task, status, error=error, **changes)
        outcome = ended.as_exit(self._name(task, why))
        if process.exceeded is not None:
            outcome.kind = process.exceeded.kind
        elif ended.good:  # it took the TERM well, but it was stopped
            outcome = model.Exit(ExitKind.SIGNAL, outcome.reason, signal=signal.SIGTERM)
        self._fail(task, outcome)

    def _kill_left(self, process: supervise.TaskProcess) -> None:
        """What a task that was stopped left behind: other tasks may go on for long."""
        for pid in processes.children():
            if pid not in self.running and process.owns(pid):
                processes.kill_tree(pid)

    def _fail(self, task: model.Task, outcome: model.Exit) -> None:
        self.failure = self.failure or outcome
        for name in self.graph.failed(task.id):
            self._set(self.tasks[name], TaskStatus.SKIPPED, error=f"needs {task.id}, which failed")

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
