"""`python -m airflow_plugin.logserving FD PARENT SECONDS`: Airflow's log server, on a socket that is its parent's.

It ends with its parent, or when it was not asked for as many seconds. What connects while it ends stays in the socket's
backlog, for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from air_executor import processes

if TYPE_CHECKING:
    import uvicorn

IDLE = 900.0
"""Seconds without a request after which a server ends."""
LAST_REQUESTS = 1.0
"""Seconds in which those who connected at the last moment may ask."""
LAST_ANSWERS = 10
"""Seconds in which they are answered."""
LOOK_INTERVAL = 1.0
TITLE = "airflow serve-logs -- Air-Executor, on demand"


@dataclass
class Idleness:
    """Whether a server was not asked for long enough. By requests: who only connects wants nothing."""

    seconds: float
    since: float
    requests: int = 0

    def is_over(self, now: float, requests: int, *, busy: bool) -> bool:
        """Whether it may end, `requests` having been answered since it began."""
        if busy or requests != self.requests:
            self.since, self.requests = now, requests
        return now - self.since >= self.seconds


def main(arguments: Sequence[str]) -> int:
    """Serve until nobody asks any more."""
    fd, parent, seconds = int(arguments[0]), int(arguments[1]), float(arguments[2])
    processes.end_with_parent()
    if os.getppid() != parent:  # it was gone before it could end this
        return 0
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _set_title()
    server = _make_server()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(server, socket.socket(fileno=fd), parent, Idleness(seconds, time.monotonic())))
    return 0


def _set_title() -> None:
    """As Airflow, which leaves macOS alone."""
    if sys.platform != "darwin":
        from setproctitle import setproctitle

        setproctitle(TITLE)


def _make_server() -> uvicorn.Server:
    """With Airflow's options.

    Of Airflow only what a log server needs is set up, which takes half the time: its configuration, where it looks for
    the user's modules, and its logging; neither database nor plugins.
    """
    os.environ["_AIRFLOW__AS_LIBRARY"] = "1"
    from airflow import settings

    settings.prepare_syspath_for_config_and_plugins()  # type: ignore[no-untyped-call]
    from airflow.logging_config import configure_logging

    configure_logging()  # type: ignore[no-untyped-call]
    import uvicorn
    from airflow.configuration import conf
    from airflow.utils.serve_logs.log_server import get_app

    level = conf.get("logging", "uvicorn_logging_level", fallback="info").lower()
    config = uvicorn.Config(
        get_app,
        factory=True,
        log_level=level,
        log_config=None,
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=LAST_ANSWERS,
    )
    return uvicorn.Server(config)


async def _serve(server: uvicorn.Server, listener: socket.socket, parent: int, idleness: Idleness) -> None:
    watch = asyncio.create_task(_watch(server, parent, idleness))
    await server.serve(sockets=[listener])
    watch.cancel()


async def _watch(server: uvicorn.Server, parent: int, idleness: Idleness) -> None:
    state = server.server_state
    interval = min(LOOK_INTERVAL, idleness.seconds)
    while not idleness.is_over(time.monotonic(), state.total_requests, busy=not server.started or bool(state.tasks)):
        if os.getppid() != parent:  # where the system does not end this with it
            os._exit(0)
        await asyncio.sleep(interval)
    for each in server.servers:
        each.close()  # nobody is taken from the backlog any more
    await asyncio.sleep(LAST_REQUESTS)
    server.should_exit = True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
