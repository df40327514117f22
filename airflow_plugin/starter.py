"""`python -m airflow_plugin.starter HOME OPTIONS`: start the embedded runner, unless one serves the queues already.

A process of its own, because starting takes up to seconds: the scheduler's loop must not wait, and a thread of it would
leave the lock to whatever another executor forks meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from air_executor import _files, processes, runners
from air_executor.errors import AirExecutorError, NotFoundError
from air_executor.paths import Home

WHY = "a scheduler that starts brings its own runner"
"""For those who look up who stopped the one before."""
DRAIN_WAIT = 5.0
"""Seconds to wait until a runner says that it takes no new jobs."""


def encode(options: runners.StartOptions, renew_before: int | None) -> str:
    """The second argument of the command line.

    Args:
        renew_before: embedded runners of this host that were started before this hand their jobs over; a start time as
            processes have it, because the clock may have been set since.
    """
    return json.dumps({"options": dataclasses.asdict(options), "renew_before": renew_before})


def main(arguments: Sequence[str]) -> int:
    """Returns 0 if a runner serves the queues now."""
    home, content = Home(Path(arguments[0])), json.loads(arguments[1])
    options = runners.StartOptions(**content["options"])
    lock = _files.Lock(home.start_lock)
    try:
        if not lock.acquire(wait=runners.START_TIMEOUT):
            return 0  # somebody else has been starting one all the time, and will say what is wrong
        old = _old_runners(home, content["renew_before"])
        _tell(home, old, "drain")
        _wait_until_none_takes_jobs(home, old)
        try:
            if runners.unserved(home, options.queues):
                runners.start_detached(home, options)
        except BaseException:
            _tell(home, old, "resume")  # better one with old settings than none
            raise
        # With a successor on this host, so that the slots of both are those of one. Nobody else can watch its jobs.
        _tell(home, old, "handover" if _has_successor(home, old) else "stop")
    except (AirExecutorError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        lock.release()
    return 0


def _old_runners(home: Home, before: int | None) -> list[str]:
    """An embedded runner has the environment and the code of the scheduler that started it; a new one has newer."""
    return [
        info.id
        for info in runners.all_runners(home)
        if before and info.embedded and processes.is_alive(info.process) and info.process.start_time < before
    ]


def _has_successor(home: Home, old: Sequence[str]) -> bool:
    """Whether another runner of this host takes jobs."""
    others = (info for info in runners.all_runners(home) if info.id not in old and not info.draining)
    return any(processes.is_alive(info.process) for info in others)


def _tell(home: Home, ids: list[str], action: str) -> None:
    for runner_id in ids:
        with contextlib.suppress(NotFoundError):
            runners.tell(home, runner_id, action, why=WHY)


def _wait_until_none_takes_jobs(home: Home, ids: list[str]) -> None:
    deadline = time.monotonic() + DRAIN_WAIT
    while time.monotonic() < deadline and any(_takes_jobs(home, runner_id) for runner_id in ids):
        time.sleep(0.02)


def _takes_jobs(home: Home, runner_id: str) -> bool:
    try:
        info = runners.read(home, runner_id)
    except AirExecutorError:
        return False
    return not info.draining and processes.is_alive(info.process) is not False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
