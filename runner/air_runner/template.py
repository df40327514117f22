"""The template: a warm Python that has a module preloaded and forks ephemeral runners.

It is told what to fork over a socket and answers there, one JSON object a line:

    runner -> template   {"launch": job name}
    template -> runner   {"ready": pid} · {"launched": job name, "pid": pid} · {"exited": pid, "status": wait status}

It holds no thread, no event loop and no connection, so a fork of it is a sound process. When the runner is gone it
ends; the ephemeral runners go on.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from air_executor import processes
from air_executor.paths import Home
from air_runner import ephemeral, signals, taskloop

EXIT_UNSAFE = 3
"""The module did something that makes forking unsafe."""


class Channel:
    """JSON lines over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.closed = False
        self._buffer = b""

    def send(self, message: dict[str, Any]) -> bool:
        """False if the other end is gone."""
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.closed = True
        return not self.closed

    def receive(self) -> Iterator[dict[str, Any]]:
        """The messages that have arrived; `closed` is set when there will be no more."""
        try:
            data = self.connection.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self.closed = not data
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            yield json.loads(line)


class Template:
    """The fork server."""

    def __init__(
        self, home: Home, runner_id: str, module: str, rules: taskloop.Rules, connection: socket.socket
    ) -> None:
        self.home = home
        self.runner_id = runner_id
        self.module = module
        self.rules = rules
        self.channel = Channel(connection)

    def serve(self) -> int:
        """Fork until the runner is gone."""
        self.pipe = signals.SignalPipe([signal.SIGCHLD])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the runner
        self.channel.send({"ready": os.getpid()})
        with selectors.DefaultSelector() as selector:
            selector.register(self.pipe, selectors.EVENT_READ)
            selector.register(self.channel.connection, selectors.EVENT_READ)
            while not self.channel.closed:
                for key, _ in selector.select():
                    if key.fileobj is self.pipe:
                        self._report_ended()
                    else:
                        self._launch_all()
        self.pipe.close()  # ephemeral runners go on, and what Python closes as it ends must not be told of their ends
        return 0

    def _report_ended(self) -> None:
        self.pipe.read()
        for pid, status in signals.reap().items():
            self.channel.send({"exited": pid, "status": status})

    def _launch_all(self) -> None:
        for message in self.channel.receive():
            name = message["launch"]
            sys.stdout.flush()
            sys.stderr.flush()
            pid = os.fork()
            if pid == 0:
                self._become_ephemeral(name)
            self.channel.send({"launched": name, "pid": pid})

    def _become_ephemeral(self, name: str) -> None:
        """Never returns: whatever happens, this must not go on as a second template."""
        code = 1
        try:
            os.setsid()
            self.pipe.close()
            self.channel.connection.close()
            hook = getattr(sys.modules[self.module], "after_fork", None)
            if hook is not None:
                hook()
            code = ephemeral.run_job(self.home, name, self.runner_id, self.rules, module=self.module)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def preload(module: str) -> None:
    """Import the module and let it import more; then freeze, so that collecting garbage does not copy pages."""
    loaded = importlib.import_module(module)
    hook = getattr(loaded, "preload", None)
    if hook is not None:
        hook()
    gc.collect()
    gc.freeze()


def why_unsafe() -> str | None:
    """What makes a fork of this process unsound, if anything does."""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    return f"it started the threads {', '.join(others)}" if others else None


def main(arguments: list[str] | None = None) -> int:
    """Internal: started by the runner."""
    parser = argparse.ArgumentParser(prog="python -m air_runner.template", description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runner", required=True)
    parser.add_argument("--module", required=True)
    taskloop.Rules.add_flags(parser)
    parser.add_argument("--socket", type=int, required=True)
    options = parser.parse_args(arguments)
    connection = socket.socket(fileno=options.socket)
    os.set_inheritable(options.socket, False)
    try:
        preload(options.module)
    except Exception as error:
        sys.stderr.write(f"template: cannot preload {options.module}: {type(error).__name__}: {error}\n")
        return 1
    if unsafe := why_unsafe():
        sys.stderr.write(f"template: {options.module} cannot be forked: {unsafe}\n")
        return EXIT_UNSAFE
    processes.host(), processes.boot_id()  # cached before the forks
    return Template(Home(options.home), options.runner, options.module, taskloop.Rules.of(options), connection).serve()


if __name__ == "__main__":
    sys.exit(main())
