"""The modes of start-dev.sh. Options are checked there, so this is no face for people."""

from __future__ import annotations

import argparse
import os
import signal
import socket
from pathlib import Path

from air_executor import spool
from air_executor.errors import AirExecutorError
from air_executor.paths import Home
from air_executor.slurm import standing
from dev import background, settings, state, supervisor, terminal
from dev.checkout import Checkout, Ports
from dev.demo import Demo
from dev.errors import DevError, StopRequested
from dev.rest import RestError
from dev.signals import StopSignals

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run one mode; returns the exit code."""
    options = _parse()
    screen = terminal.Screen()
    try:
        mode = _MODES[options.mode]
        return mode(Checkout(ROOT), options, screen, StopSignals())
    except StopRequested as request:
        return 0 if options.mode == "foreground" and request.number == signal.SIGINT else 128 + request.number
    except (DevError, RestError, AirExecutorError, OSError) as error:
        screen.fail(str(error))
        return 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=_MODES)
    parser.add_argument("--port", type=int)
    parser.add_argument("--lock", type=int, help="descriptor of the lock, which the shell has taken")
    return parser.parse_args()


def _foreground(checkout: Checkout, options: argparse.Namespace, screen: terminal.Screen, stop: StopSignals) -> int:
    ports = Ports(options.port)
    _supervise(checkout, ports, screen, stop, greet=True)
    return 0


def _in_background(checkout: Checkout, options: argparse.Namespace, screen: terminal.Screen, stop: StopSignals) -> int:
    ports = Ports(options.port)
    started = background.Background(checkout, ports, options.lock, tied=False)
    started.wait_until_healthy(screen, stop)
    _greet(checkout, ports, screen)
    screen.say("Stop it with ./start-dev.sh --stop")
    return 0


def _detached(checkout: Checkout, options: argparse.Namespace, screen: terminal.Screen, stop: StopSignals) -> int:
    """What the mode background starts; nobody reads it but the log, so it says no password."""
    _supervise(checkout, Ports(options.port), screen, stop, greet=False)
    return 0


def _demo(checkout: Checkout, options: argparse.Namespace, screen: terminal.Screen, stop: StopSignals) -> int:
    if options.lock is None:
        return _demo_on_running(checkout, screen, stop)
    ports = Ports(options.port)
    started = background.Background(checkout, ports, options.lock, tied=True)
    started.wait_until_healthy(screen, stop)
    try:

        def check() -> None:
            stop.check()
            started.check()

        return 0 if Demo(checkout, ports, screen, check).run() else 1
    finally:
        screen.say("")
        started.end(screen)


def _demo_on_running(checkout: Checkout, screen: terminal.Screen, stop: StopSignals) -> int:
    current = state.read(checkout)
    if current is None or not current.healthy:
        raise DevError("a start is still under way here: try again when it is done")
    return 0 if Demo(checkout, Ports(current.port), screen, stop.check).run() else 1


def _stop(checkout: Checkout, options: argparse.Namespace, screen: terminal.Screen, stop: StopSignals) -> int:
    stopped = background.stop(checkout)
    for name in stopped:
        screen.say(f"stopped {name}")
    if not stopped:
        screen.say("nothing runs here")
    home = Home(checkout.home)
    if left := sum(standing.read_left(home, holder) for holder in spool.holders(home)):
        screen.say(standing.stay(home, left))
    return 0


_MODES = {
    "foreground": _foreground,
    "background": _in_background,
    "supervise": _detached,
    "demo": _demo,
    "stop": _stop,
}


def _supervise(checkout: Checkout, ports: Ports, screen: terminal.Screen, stop: StopSignals, *, greet: bool) -> None:
    state.say_who(checkout, os.getpid(), ports.url)
    background.end_leftovers(checkout)
    _check_ports(ports)
    _say_unused(checkout, screen)
    environment = settings.prepare(checkout, ports)
    stop.check()

    def on_healthy() -> None:
        if greet:
            _greet(checkout, ports, screen)

    supervisor.Supervisor(checkout, ports, environment, screen, relay=greet).run(stop, on_healthy)


def _say_unused(checkout: Checkout, screen: terminal.Screen) -> None:
    if names := settings.unused(checkout, os.environ):
        screen.say(
            f"not used from the environment: {', '.join(names)}: ports follow from --port, and paths, database, "
            f"secrets, users and runner are this directory's own"
        )


def _check_ports(ports: Ports) -> None:
    for purpose, port in ports.named().items():
        with socket.socket() as probe:
            # As servers do it: a port whose connections have only just been closed is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                raise DevError(
                    f"port {port} (for {purpose}) is in use by another program: choose another with --port N"
                ) from None


def _greet(checkout: Checkout, ports: Ports, screen: terminal.Screen) -> None:
    screen.say(f"\nAirflow with Air-Executor: {ports.url}")
    screen.say(f"User {settings.USER}, password {settings.password(checkout)}")
    screen.say(f"Logs: {checkout.logs}")
