"""The agent of one job on a node: what the daemon is to a job on its own host.

`python -m air_runner.slurm.node`, which the batch script becomes, forks the job's ephemeral runner, holds it to the
limits of the whole job, passes on that Slurm ends it, and brings the job to rest if the ephemeral runner dies. It needs
nobody: neither the runner that submitted it, which may be gone by now, nor Slurm's controller.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from air_executor import model, processes, repair, store, temporaries
from air_executor.errors import AirExecutorError
from air_executor.paths import Home
from air_executor.slurm import record
from air_runner import enforcement, ephemeral, limits, signals, taskloop
from air_runner.endings import Endings, explain
from air_runner.jobs import Running

CANCEL_INTERVAL = 5.0
"""Seconds between two looks whether somebody asked for the job's end: Slurm's controller may be away, and not tell."""
ASK_TIMEOUT = 2.0
"""Seconds that Slurm may take to say why it ends the job; its KILL follows after 30 by default."""
SETTLE_TIME = 60.0
"""Seconds in which the job of an ephemeral runner that died is tried to be brought to rest."""
EXIT_NOT_WANTED = ephemeral.EXIT_NOT_OURS


class Agent:
    """One job's.

    Args:
        home: the home, as this node sees it.
        runner_id: the runner that submitted the job and has its claim.
    """

    def __init__(self, home: Home, runner_id: str, job: model.Job, rules: taskloop.Rules) -> None:
        self._home, self._id, self._rules = home, runner_id, rules
        self._by = f"runner {runner_id}"
        self._limits = enforcement.Enforcement(home, rules.output_mb, self._stop)
        self._running = self._limits.watch(job)
        self._status: int | None = None
        self._next_look = time.monotonic() + CANCEL_INTERVAL

    def run(self) -> int:
        """Run the job; the exit code of its ephemeral runner, as a shell has it."""
        processes.become_subreaper()
        pipe = signals.SignalPipe([signal.SIGTERM, signal.SIGINT, signal.SIGCHLD])
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            pid = self._fork()
            self._running.launched(pid)
            while self._status is None:
                moment = time.monotonic()
                due = min(self._running.next_moment(moment), self._next_look)
                selector.select(max(0.0, due - moment))
                self._on_signals(pipe.read(), pid)
                self._tick()
        self._settle(pid, self._status)
        code = os.waitstatus_to_exitcode(self._status)
        return code if code >= 0 else 128 - code

    def _fork(self) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            signals.reset()
            os.setsid()
            code = ephemeral.run_job(self._home, self._running.job.name, self._id, self._rules)
        except BaseException as error:
            with contextlib.suppress(OSError):
                sys.stderr.write(f"the ephemeral runner failed: {type(error).__name__}: {error}\n")
            code = 1
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
        os._exit(code)

    def _on_signals(self, seen: set[int], pid: int) -> None:
        if signal.SIGCHLD in seen:
            self._status = signals.reap().get(pid)
        if seen & {signal.SIGTERM, signal.SIGINT} and not self._running.stopping:
            self._stop_for_slurm()

    def _tick(self) -> None:
        moment = time.monotonic()
        if moment >= self._next_look:
            self._next_look = moment + CANCEL_INTERVAL
            if repair.read_stop_request(self._home, self._running.job.name):
                self._running.stop(self._rules.grace)
        look = self._limits.look([self._running], moment)
        self._limits.enforce(self._running, moment, look)

    def _stop(self, running: Running, outcome: model.Exit) -> None:
        """A limit is exceeded."""
        self._note(outcome)
        if outcome.kind in limits.AT_ONCE:
            running.end(time.monotonic())
        else:
            running.stop(self._rules.grace)

    def _stop_for_slurm(self) -> None:
        """Slurm ends the job: because somebody asked for it here, whose reason is noted, or for a reason of its own."""
        if repair.read_stop_request(self._home, self._running.job.name) is None:
            self._note(ask_why(os.environ.get("SLURM_JOB_ID", "")))
        self._running.stop(self._rules.grace)

    def _note(self, outcome: model.Exit) -> None:
        try:
            repair.note_stop(self._home, self._running.job.name, by=self._by, outcome=outcome)
        except OSError as error:
            sys.stderr.write(f"cannot note why the job is stopped: {error}\n")

    def _settle(self, pid: int, status: int) -> None:
        """Mostly its ephemeral runner has written the end, and nothing is left to do."""
        end = explain(pid, status)
        if end.seen_well:
            return
        ephemeral.kill_descendants()
        endings = Endings(self._home, self._id, self._by)
        endings.settle(self._running.job.name, end)
        deadline = time.monotonic() + SETTLE_TIME
        while endings and time.monotonic() < deadline:
            time.sleep(endings.retry_interval)
            for name, left in endings.take_unresolved().items():
                endings.settle(name, left)


def ask_why(number: str, run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> model.Exit:
    """Why Slurm ends a job, as far as it says so."""
    said = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        argv = ["scontrol", "--oneliner", "show", "job", number]
        said = run(argv, capture_output=True, text=True, timeout=ASK_TIMEOUT, check=False).stdout
    return read_why(number, said)


def read_why(number: str, said: str) -> model.Exit:
    """The same, of what `scontrol show job` said. Pure."""
    facts = dict(word.partition("=")[::2] for word in said.split() if "=" in word)
    state, reason = facts.get("JobState", ""), facts.get("Reason", "")
    if "TimeLimit" in reason or state == "TIMEOUT":
        limit = f" of {facts['TimeLimit']}" if facts.get("TimeLimit") else ""
        return model.Exit(model.ExitKind.TIMEOUT, f"the Slurm job {number} reached its time limit{limit}")
    if "Preempt" in reason or state == "PREEMPTED" or facts.get("PreemptTime", "None") not in ("None", "Unknown", ""):
        return model.Exit(model.ExitKind.RUNNER_LOST, f"the Slurm job {number} was preempted")
    return model.Exit(model.ExitKind.CANCELLED, f"Slurm ended its job {number}: scancel, or an administrator")


def find_expected(home: Home, name: str, submission: str) -> model.Job | None:
    """The job, if it waits for this submission.

    Raises:
        AirExecutorError, OSError: it cannot be read.
    """
    temporaries.refresh(home.job(name).root)  # if an attempt before ran on this node, that may be what it still sees
    job = store.read(home, name)
    wanted = record.read(home.job(name), job.attempt)
    expected = wanted is not None and wanted.submission == submission
    return job if expected and job.state is model.JobState.WAITING else None


def main(arguments: list[str] | None = None) -> int:
    """`python -m air_runner.slurm.node`: run one job of a runner that submitted it to Slurm."""
    parser = argparse.ArgumentParser(prog=f"python -m {__name__}", description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runner", required=True)
    parser.add_argument("--submission", required=True, help="the name of the Slurm job, which the job must expect")
    taskloop.Rules.add_flags(parser)
    parser.add_argument("job")
    given = parser.parse_args(arguments)
    home = Home(given.home)
    try:
        job = find_expected(home, given.job, given.submission)
    except (AirExecutorError, OSError) as error:
        sys.stderr.write(f"air-executor: {error}\n")
        return EXIT_NOT_WANTED
    if job is None:
        sys.stderr.write(f"air-executor: nothing to do: the job {given.job} does not wait for {given.submission}\n")
        return EXIT_NOT_WANTED
    ephemeral.prepare()
    return Agent(home, given.runner, job, taskloop.Rules.of(given)).run()


if __name__ == "__main__":
    sys.exit(main())
