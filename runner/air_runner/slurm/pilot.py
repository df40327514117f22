"""A pilot: the runner that a job of Slurm hosts, which drains one queue for as long as it may.

`python -m air_runner.slurm.pilot`, which the batch script becomes. To others it is a runner like any other, but it sees
to nothing but its own jobs: it runs them all here, asks Slurm for none, repairs and prunes nothing, and takes over from
no one. Neither `config.toml` nor the runner that started it has to be there.

::

    serves ── nothing to run for a while ────────────────────────────────> ends
       └───── Slurm's TERM: its time is nearly up ──> takes nothing more ── its jobs are over ──> ends
                                                          └── no time left: stops them, and says why ──> ends
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from air_executor import model, orders, runners, settings, store, validation
from air_executor.errors import AirExecutorError, RunnerError
from air_executor.paths import Home
from air_executor.settings import RunnerSettings
from air_executor.slurm import options, pilots
from air_runner import daemon, logs, taskloop
from air_runner.slurm import scaling
from air_runner.trouble import safely

log = logging.getLogger("air_runner")

ASK_TIMEOUT = 3.0
"""Seconds that Slurm may take to say how much time is left; heartbeats wait meanwhile."""
ENDING = ("CANCELLED", "PREEMPTED", "COMPLETING", "TIMEOUT", "NODE_FAIL")
"""States in which Slurm's TERM is no warning, but the end: its KILL follows."""
BY_SLURM = "Slurm"
_LEFT = re.compile(r"[0-9:-]+\Z")


class Pilot(daemon.Runner):
    """The runner of a pilot.

    Args:
        idle: seconds after which it ends if it has nothing to run.
        number: that of its job of Slurm.
    """

    def __init__(self, home: Home, chosen: RunnerSettings, name: str, idle: float, number: str) -> None:
        super().__init__(home, chosen, name, pilot=True)
        self._idle, self._number = idle, number
        self._stop_at = math.inf
        self._why = ""

    def _set_up(self) -> None:
        super()._set_up()
        safely("the word that it is there", pilots.announce, self.home, self.id)

    def _linger(self, moment: float) -> None:
        """End when there is nothing to run. What waits in a paused queue, or while this drains, is nothing to run."""
        waits = len(self.work.queues.backlog) and not self.work.course.draining
        if waits or self.work.busy:
            self.busy_at = moment
        elif moment - self.busy_at > self._idle:
            why = f"a pilot that had nothing to run for {self._idle:g} s"
            self.control(orders.Order("stop", by=self.work.by, why=why))

    def control(self, order: orders.Order) -> None:
        """Its jobs cannot go on without it: Slurm ends what is left of its own."""
        if order.action == "handover":
            order = dataclasses.replace(order, action="stop", why=f"{order.why} (a pilot leaves no jobs)".strip())
        super().control(order)

    def _on_request_to_end(self) -> None:
        """The first is Slurm's warning, or the end that somebody wants. Whoever asks once more wants it now."""
        if self.work.course.stopping and self._stop_at < math.inf:
            self._stop_at = 0.0
        else:
            self._why, left = ask(self._number)
            self._stop_at = time.monotonic() + scaling.stop_after(left, self.settings.grace)
            self.control(orders.Order("stop", by=BY_SLURM, why=f"{self._why}; {left:.0f} s are left"))
        self.work.clock.at_latest("orders", self._stop_at)

    def _look_at_orders(self) -> None:
        super()._look_at_orders()
        if time.monotonic() >= self._stop_at and not self.work.course.aborting:
            where = f"the Slurm job {self._number}" if self._number else "no job of Slurm"
            self.abort(model.Exit(model.ExitKind.RUNNER_LOST, f"its pilot {self.id} ({where}) {self._why}"))
        self.work.clock.at_latest("orders", max(self._stop_at, time.monotonic()))


def ask(number: str, run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> tuple[str, float]:
    """Why Slurm sent TERM, and how many seconds are left; none if it does not say."""
    said = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        argv = ["squeue", "--noheader", "--format=%T %L", f"--jobs={number}"]
        said = run(argv, capture_output=True, text=True, timeout=ASK_TIMEOUT, check=False).stdout
    return read_answer(said)


def read_answer(said: str) -> tuple[str, float]:
    """The same, of what squeue said. Pure."""
    state, _, left = said.strip().partition(" ")
    if state in ENDING:
        return f"was ended by Slurm ({state})", 0.0
    if not _LEFT.match(left):  # also of a time without an end, for which there is no warning
        return "was asked to end", math.inf if left == "UNLIMITED" else 0.0
    with contextlib.suppress(ValueError):
        return "reached its time limit", float(_seconds(left))
    return "was asked to end", 0.0


def _seconds(left: str) -> int:
    """squeue writes `minutes:seconds`, and puts hours and days before where there are any."""
    return options.time_seconds(left)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """What the runner that started it says."""
    parser = argparse.ArgumentParser(prog=f"python -m {__name__}", description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--idle", type=float, required=True)
    parser.add_argument("--launcher", choices=settings.LAUNCHERS, required=True)
    parser.add_argument("--heartbeat", type=float, required=True)
    parser.add_argument("--preload", action="append", default=[])
    taskloop.Rules.add_flags(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the jobs of a queue on this node; started by a batch script of a runner, and by nobody else."""
    given = parse(arguments)
    home = Home(given.home)
    chosen = RunnerSettings(
        queues=(given.queue,),
        slots=given.slots,
        launcher=given.launcher,
        preload=tuple(given.preload),
        grace=given.grace,
        output_mb=given.output_mb,
        heartbeat=given.heartbeat,
    )
    try:
        store.check_home(home)
        validation.check_name("the pilot", given.name)
        runners.check_free(home, given.name, runners.observe(home, given.name))
        logs.begin(home, terminal=True)
        return Pilot(home, chosen, given.name, given.idle, os.environ.get("SLURM_JOB_ID", "")).run()
    except RunnerError as error:
        log.error("%s", error)
        return error.exit_code
    except (AirExecutorError, OSError) as error:
        sys.stderr.write(f"air-executor: {error}\n")
        return AirExecutorError.exit_code


if __name__ == "__main__":
    sys.exit(main())
