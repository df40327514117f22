"""The command line of the runner daemon."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from air_executor import paths, processes, runners, settings, store, validation
from air_executor.errors import AirExecutorError, RunnerError
from air_executor.paths import Home
from air_runner import cgroups, logs
from air_runner.daemon import Runner

log = logging.getLogger("air_runner")

FLAGS = ("queues", "slots", "launcher", "preload", "grace", "linger", "handover", "metrics_port", "metrics_host")
"""Those that are options of `[runner]`."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The flags; each overrides its option in config.toml."""
    parser = argparse.ArgumentParser(
        prog="air-executor runner start", description="Run the daemon that notices, claims and runs jobs."
    )
    parser.add_argument("--home", type=Path, help="the home to serve")
    parser.add_argument("--name", help="the runner's name, unique in the home (default: the host's name and a number)")
    parser.add_argument("--queues", help="the queues to serve, separated by commas (default: default, and [queues.*])")
    parser.add_argument("--slots", help="how many jobs run at once (default: 32)")
    parser.add_argument("--launcher", help="fork or exec (default: fork; exec on macOS)")
    parser.add_argument("--preload", action="append", help="a module to keep a template for; may be repeated")
    parser.add_argument("--grace", help="seconds between TERM and KILL (default: 10)")
    parser.add_argument("--linger", help="end after so many idle seconds without a submitter (default: never)")
    parser.add_argument(
        "--handover",
        action="store_true",
        default=None,
        help="on SIGTERM leave the jobs to the next runner",
    )
    parser.add_argument("--metrics-port", help="serve metrics over HTTP on this port (default: not at all)")
    parser.add_argument("--metrics-host", help="and on this address (default: 127.0.0.1)")
    parser.add_argument("--embedded", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run a runner until it is told to stop.

    Returns:
        0 after an orderly end, the error's exit code otherwise.
    """
    options = parse(arguments)
    try:
        home = Home(paths.find_home(options.home))
        store.ensure_home(home)
        logs.begin(home, terminal=not options.detached)  # detached, standard error is the log file already
        flags = {name: getattr(options, name) for name in FLAGS}
        loaded = settings.load(home)
        chosen = settings.override(loaded.runner, flags)
        runner_id = _choose_id(home, options.name)
    except AirExecutorError as error:
        sys.stderr.write(f"air-executor: {error}\n")
        return error.exit_code
    if options.detached and os.fork() > 0:  # so that whoever started this need not collect it one day
        os._exit(0)
    try:
        with _own_group(home, chosen) as group:
            runner = Runner(
                home,
                chosen,
                runner_id,
                embedded=options.embedded,
                ready_fd=options.ready_fd,
                retention=loaded.retention,
                group=group,
                chosen=loaded,
            )
            return runner.run()
    except RunnerError as error:
        log.error("%s", error)
        return error.exit_code
    except Exception:
        log.exception("the runner failed")
        return 1


@contextlib.contextmanager
def _own_group(home: Home, chosen: settings.RunnerSettings) -> Iterator[cgroups.Group | None]:
    """The control group that this process is in meanwhile, if one is wanted."""
    group = cgroups.Group(home) if chosen.cgroup else None
    try:
        yield group
    finally:
        if group is not None:
            group.leave()


def _choose_id(home: Home, name: str | None) -> str:
    """A name that no living runner has.

    Raises:
        InvalidNameError: not a name.
        RunnerError: it is taken.
    """
    if name is None:
        return f"{processes.host_name()}-{uuid.uuid4().hex[:6]}"
    validation.check_name("the runner's name", name, 100)
    runners.check_free(home, name, runners.observe(home, name))  # early, where the error can still be shown
    return name
