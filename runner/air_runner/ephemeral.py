"""The ephemeral runner: one process, one job, from the lock to the last write.

It is alive for exactly one job and the only writer of its state meanwhile. How it comes to life is for a launcher:
`python -m air_runner.ephemeral` runs one by hand; a template forks one. Cancellation and most limits of the whole job
come from the runner; tasks that are processes, and their limits, are for `taskloop`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from air_executor import _files, held, model, processes, repair, results, store, temporaries, validation
from air_executor.errors import CorruptFileError, JobBusyError, NotFoundError
from air_executor.model import ExitKind, JobState, TaskStatus
from air_executor.paths import Home
from air_runner import signals, spawning, supervise, taskloop

EXIT_DONE = 0
EXIT_NOT_OURS = 75
"""The job is held by another process, gone, or not waiting; nothing was done."""

EXIT_GOOD_UNWRITTEN = 76
"""The job went well, and the home refuses to be told so; the runner writes it when it can."""

EXIT_REFUSED = 77
"""The home refuses to be written, and nothing of the job has begun."""

EXIT_ENDED = 80
"""The end of the job is written, and it is no good one. Added is the place of its kind in `_KINDS`, so that the runner
need not read it to count it."""
_KINDS = tuple(ExitKind)

END_PATIENCE = 60.0
END_PAUSE = 0.2
"""Seconds, altogether and between two attempts, that the end of a job is tried to be written."""

LOCK_WAIT = 2.0
"""Seconds to wait for the lock: somebody may be looking at it just now."""

MAX_LOOK = 64 * 1024
"""Bytes of a job's files that are read before a fork."""

REAP_TIME = 2.0
"""Seconds to wait for processes that were killed: a big one takes a while to die."""

REHEARSALS = 3
REHEARSAL_PLACE = Path("/dev/shm")  # noqa: S108  # with a name that only this process uses, for this user alone

Body = Callable[[held.HeldJob], model.Exit]


def code_of(job: model.Job) -> int:
    """The exit code of an ephemeral runner that has written the end of its job. Pure."""
    if job.exit is None or job.exit.kind is ExitKind.SUCCESS:
        return EXIT_DONE
    return EXIT_ENDED + _KINDS.index(job.exit.kind)


def kind_of(code: int | None) -> ExitKind | None:
    """The kind of end that such an exit code stands for; None if it says something else. Pure."""
    if code == EXIT_DONE:
        return ExitKind.SUCCESS
    position = -1 if code is None else code - EXIT_ENDED
    return _KINDS[position] if 0 <= position < len(_KINDS) else None


def prepare() -> None:
    """What every ephemeral runner of this process and its forks needs, so that no fork has to do it."""
    processes.host(), processes.boot_id(), processes.libc()
    spawning.hide_descriptors()


def rehearse(rules: taskloop.Rules) -> None:
    """Run a few jobs that do nothing, in a home of their own that is gone afterwards.

    Python fits its code to what passes through it, and remembers where it found what. A fork that has to do so writes
    to a fifth more of the pages that it shares with this process, each of which is copied then: an eighth of the
    processor time of a short job. More rehearsals than these make no difference. Nothing depends on them: in memory,
    where they take no time, or not at all; and not in a process that has children, which would be taken for the job's.
    """
    if not os.access(REHEARSAL_PLACE, os.W_OK | os.X_OK) or not signals.has_no_children():
        return
    home = Home(REHEARSAL_PLACE / f"air-executor-{temporaries.writer()}")
    own = processes.identify(os.getpid(), "rehearsal")
    try:
        store.ensure_home(home)
        for number in range(REHEARSALS):
            _rehearse_once(home, f"rehearsal-{number}", own, rules)
    except Exception as error:
        sys.stderr.write(f"a rehearsal failed, jobs start a little more slowly: {error}\n")
    finally:
        temporaries.remove(home.root)


def _rehearse_once(home: Home, name: str, own: model.Process, rules: taskloop.Rules) -> None:
    store.submit(home, store.Submission(model.Job(name, queue="rehearsal"), [model.Task("true")]))
    with held.HeldJob.acquire(home, name, look=look_at(home, name)) as job:
        job.start(own, by="rehearsal")
        outcome = _run_body(job, None, rules)
        _finish(job, outcome, "rehearsal", measure_usage(0.0))


def look_at(home: Home, name: str) -> held.Look | None:
    """Read a job for a fork of this process, which runs it.

    Here it takes a quarter of the time: in a fork each page of Python that is touched first is copied.

    Returns:
        None if there is anything about it: the fork sees to that.
    """
    try:
        paths = home.job(name)
        size = paths.tasks.stat().st_size + paths.events.stat().st_size
        return held.Look.at(home, name) if size <= MAX_LOOK else None  # others wait meanwhile
    except Exception:  # nothing of one job may end the template
        return None


def run_job(
    home: Home,
    name: str,
    runner_id: str,
    rules: taskloop.Rules,
    *,
    module: str | None = None,
    look: held.Look | None = None,
) -> int:
    """Run a job to its end.

    Args:
        runner_id: the runner that has the claim.
        rules: what the runner says of all jobs.
        module: what this process has preloaded; a job that is `python -m <module>` runs right here.
        look: what the process that this one was forked from has read of the job.

    Returns:
        The exit code of this process.
    """
    by = f"runner {runner_id}"
    try:
        job = held.HeldJob.acquire(home, name, wait=LOCK_WAIT, look=look)
    except (JobBusyError, NotFoundError):
        return EXIT_NOT_OURS
    except CorruptFileError as error:
        return code_of(held.condemn(home, name, error, by=by))
    with job:
        if job.job.state is not JobState.WAITING:
            return EXIT_NOT_OURS
        processes.become_subreaper()
        own = processes.identify(os.getpid(), runner_id)
        own.waited = round(processes.age(own) or 0.0, 3)
        own.extra = _place_in_slurm()
        started = time.monotonic()
        try:
            job.start(own, by=by)
            outcome = _run_body(job, module, rules)
        except OSError as error:
            with contextlib.suppress(OSError):
                sys.stderr.write(f"cannot start {name}: {error}\n")
            return EXIT_REFUSED
        kill_descendants()
        return _finish_patiently(job, outcome, by, measure_usage(time.monotonic() - started))


def _place_in_slurm(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The node and the job of Slurm in which this process is, if it is in one."""
    names = {model.SLURM_NODE: "SLURMD_NODENAME", model.SLURM_JOB: "SLURM_JOB_ID"}
    return {key: environ[name] for key, name in names.items() if environ.get(name)}


def _run_body(job: held.HeldJob, module: str | None, rules: taskloop.Rules) -> model.Exit:
    """A fault of ours must not leave the job without an end."""
    try:
        return _choose_body(job, module, rules)(job)
    except Exception as error:
        if isinstance(error, OSError) and not any(task.has_started for task in job.tasks):
            raise  # of a home that refuses to be written: the runner puts the job back
        traceback.print_exc()
        return model.Exit(ExitKind.START_FAILED, f"its ephemeral runner failed: {type(error).__name__}: {error}")


def _choose_body(job: held.HeldJob, module: str | None, rules: taskloop.Rules) -> Body:
    if repair.read_cancel(job):
        return lambda _: model.Exit(ExitKind.CANCELLED, "cancelled before it started")
    try:
        if job.job.nice:
            os.nice(job.job.nice)
    except OSError as error:
        reason = f"nice {job.job.nice} is not allowed here: {error.strerror}"
        return lambda _: model.Exit(ExitKind.START_FAILED, reason)
    if module is not None and is_inline(job.tasks, module):
        return lambda held_job: run_inline(held_job, module)
    return lambda held_job: taskloop.TaskLoop(held_job, rules).run()


def _finish_patiently(job: held.HeldJob, outcome: model.Exit, by: str, used: dict[str, Any]) -> int:
    """A disk that is full for a while must not make a failure of a job whose body went well."""
    deadline = time.monotonic() + END_PATIENCE
    while True:
        try:
            _finish(job, outcome, by, used)
            return code_of(job.job)
        except OSError as error:
            with contextlib.suppress(OSError):
                sys.stderr.write(f"cannot write the end of {job.job.name}: {error}; trying again\n")
            if time.monotonic() >= deadline:
                return EXIT_GOOD_UNWRITTEN if outcome.kind is ExitKind.SUCCESS else 1
            time.sleep(END_PAUSE)


def _finish(job: held.HeldJob, outcome: model.Exit, by: str, used: dict[str, Any]) -> None:
    """A stop request decides, whatever the tasks made of it."""
    request = repair.read_cancel(job)
    if request is not None:
        exit_ = request.exit
        exit_.code, exit_.signal = outcome.code, outcome.signal
        job.finish(request.state, exit_, by=request.by, used=used)
    else:
        good = outcome.kind is ExitKind.SUCCESS
        job.finish(JobState.COMPLETED if good else JobState.FAILED, outcome, by=by, used=used)


def kill_descendants() -> None:
    """A job's processes end with it, also those that left its session; and are gone before its end is written.

    This process adopts what its descendants leave, so when it has no child left, all are gone.
    """
    if signals.has_no_children():
        return
    processes.kill_descendants(os.getpid())
    deadline = time.monotonic() + REAP_TIME
    while signals.reap() or processes.children():
        if time.monotonic() >= deadline:
            return
        time.sleep(0.001)


def measure_usage(wall: float) -> dict[str, Any]:
    """What the job used: seconds of wall clock and of processor, and the MiB of its largest single process.

    The largest of this process and of all its descendants that were waited for; what this process shares with its
    template counts for it.
    """
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return {
        "wall_s": round(wall, 3),
        "cpu_s": round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 3),
        "max_rss_mb": round(max(own.ru_maxrss, children.ru_maxrss) / unit, 1),
    }


# --- A task that runs in this process ---


def is_inline(tasks: list[model.Task], module: str) -> bool:
    """Whether the job is exactly `python -m <module> ...` of this Python."""
    if len(tasks) != 1 or tasks[0].retries or any(getattr(tasks[0], limit) is not None for limit in validation.LIMITS):
        return False
    return tasks[0].command == sys.executable and tasks[0].args[:2] == ["-m", module]


def run_inline(job: held.HeldJob, module: str) -> model.Exit:
    """Run the module's `main` here: the same as executing the task's command line, without starting Python anew."""
    task = job.tasks[0]
    job.set_task(task, TaskStatus.RUNNING)
    job.show_tasks()
    if job.job.attempt > 1:
        results.drop(job.paths, task.id)
    _redirect_output(job.paths.log(task.id))
    code = _call_main(job, task, module)
    ended = supervise.Ended(code, None)
    outcome = ended.as_exit(supervise.take_reason(job.paths.reason(task.id)))
    if ended.good:
        try:
            results.take(job.paths, task.id)
        except ValueError as why:
            outcome = taskloop.bad_result(why)
    if outcome.kind is ExitKind.SUCCESS:
        job.set_task(task, TaskStatus.COMPLETED, exit_code=code)
    else:
        status, error = taskloop.judge_bad_end(job, outcome.reason)
        job.set_task(task, status, exit_code=code, error=error)
    return outcome


def _call_main(job: held.HeldJob, task: model.Task, module: str) -> int:
    """As the interpreter calls a program: arguments, environment, output; SystemExit and exceptions become a code."""
    signal.signal(signal.SIGTERM, _exit_on_signal)
    os.environ.update(supervise.task_environment(job.home, task))
    try:
        if task.cwd is not None:
            os.chdir(task.cwd)
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


def main(arguments: list[str] | None = None) -> int:
    """`python -m air_runner.ephemeral`: run one claimed job."""
    parser = argparse.ArgumentParser(prog="python -m air_runner.ephemeral", description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runner", required=True)
    taskloop.Rules.add_flags(parser)
    parser.add_argument("job")
    options = parser.parse_args(arguments)
    prepare()
    return run_job(Home(options.home), options.job, options.runner, taskloop.Rules.of(options))


if __name__ == "__main__":
    sys.exit(main())
