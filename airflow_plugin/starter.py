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

DRAIN_WAIT = 5.0
"""Seconds to wait until a runner says that it takes no new jobs."""


def encode(options: runners.StartOptions, renew_before: str | None) -> str:
    """The second argument of the command line.

    Args:
        renew_before: let embedded runners of this host that were started before this time end with their last job.
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
        if content["renew_before"]:
            _retire(home, content["renew_before"])
        if runners.unserved(home, options.queues):
            runners.start_detached(home, options)
    except (AirExecutorError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        lock.release()
    return 0


def _retire(home: Home, before: str) -> None:
    """An embedded runner has the environment and the code of the scheduler that started it; a new one has newer."""
    old = [
        info
        for info in runners.alive_runners(home)
        if info.embedded and info.started_at < before and info.process.host == processes.host()
    ]
    for info in old:
        with contextlib.suppress(NotFoundError):
            runners.tell(home, info.id, "stop")
    deadline = time.monotonic() + DRAIN_WAIT
    while time.monotonic() < deadline and any(_takes_jobs(home, info.id) for info in old):
        time.sleep(0.02)


def _takes_jobs(home: Home, runner_id: str) -> bool:
    try:
        info = runners.read(home, runner_id)
    except AirExecutorError:
        return False
    return not info.draining and runners.is_alive(info)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
