"""The process of a runner that deals with Slurm: it hears of jobs from the daemon, and does what is due by the clock.

It ends with its daemon: at once if that was killed, also while it waits for Slurm, for the next runner takes over all
of its jobs.
"""

from __future__ import annotations

import argparse
import logging
import selectors
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

from air_executor import processes, settings
from air_executor.errors import AirExecutorError
from air_executor.paths import Home
from air_runner import logs, taskloop
from air_runner.channel import Channel
from air_runner.slurm.cluster import Cluster
from air_runner.trouble import safely

log = logging.getLogger(__name__)


def serve(cluster: Cluster, channel: Channel) -> None:
    """Until the daemon says that this is the end, or is gone."""
    orders = {"take": cluster.take, "stop": cluster.stop, "serve": cluster.serve}
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        while not channel.closed:
            if selector.select(cluster.seconds_left()):
                for message in channel.receive():
                    if "end" in message:
                        safely("what was not submitted", cluster.give_back)
                        return
                    for what, name in message.items():
                        safely(f"{name} on Slurm", orders[what], name)
                    channel.send({"heard": True})
            if not channel.closed:
                safely("Slurm", cluster.step)


def main(arguments: list[str] | None = None) -> int:
    """`python -m air_runner.slurm.process`: started by a runner, and by nobody else."""
    parser = argparse.ArgumentParser(prog=f"python -m {__name__}", description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runner", required=True)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--launcher", required=True)
    parser.add_argument("--heartbeat", type=float, required=True)
    parser.add_argument("--preload", action="append", default=[])
    taskloop.Rules.add_flags(parser)
    given = parser.parse_args(arguments)
    rules = taskloop.Rules.of(given)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a Ctrl-C the daemon tells
    processes.end_with_parent()
    home = Home(given.home)
    logs.begin(home, terminal=False)
    channel = Channel(socket.socket(fileno=given.socket))
    try:
        chosen = settings.load(home)
    except AirExecutorError as error:  # it was in order when the runner started
        log.error("%s", error)
        return error.exit_code
    own = {"launcher": given.launcher, "heartbeat": given.heartbeat, "preload": tuple(given.preload)}
    chosen = replace(chosen, runner=replace(chosen.runner, **own, **vars(rules)))
    cluster = Cluster(home, given.runner, chosen, rules, left=lambda name: channel.send({"left": name}))
    serve(cluster, channel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
