"""The log server on demand: holds its port in the scheduler, and has the server started when somebody asks it.

Airflow's own is a process that waits beside each scheduler. It is asked when somebody watches the log of a running
task, and for logs that the API server does not find. So here only its port is held; the first connection waits in the
backlog until a process (`logserving`) has come up that serves it. That process ends when it was not asked for a while,
and what comes then waits for the next one: the listening socket is the scheduler's, and stays open.

::

    port taken ─(again after a while)─> held ─ a connection ─> served by a process
                                         ^                              │
                                         └─ it has ended; a pause if ───┘
                                            it came to nothing
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Sequence

from air_executor import backoff
from airflow_plugin import logserving

RETRY_INTERVAL = 30.0
"""Seconds between two looks whether a port that was taken is free."""
FIRST_PAUSE, MAX_PAUSE = 1.0, 300.0
"""Seconds from a server that came to nothing to the next one: after the first, and at most."""
STEADY = 60.0
"""Seconds after which a server has come to something, however it ends."""
END_PATIENCE = 3.0
"""Seconds for a server to finish what it is asked for, when the scheduler ends."""

log = logging.getLogger(__name__)

_listeners: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _close_listeners() -> None:
    """What another executor forks would keep the port from the next scheduler."""
    for listener in _listeners:
        listener.close()


os.register_at_fork(after_in_child=_close_listeners)


def is_scheduler(arguments: Sequence[str]) -> bool:
    """Whether a command line of Airflow's is that of a scheduler that shall serve logs."""
    if arguments[:1] != ["scheduler"]:
        return False
    from airflow.cli.cli_parser import get_parser

    try:
        return not get_parser().parse_args(arguments).skip_serve_logs
    except SystemExit:  # no command of Airflow's, which would not have got here
        return False


def is_served_by_airflow() -> bool:
    """Whether Airflow serves logs itself, for one of the executors that are configured."""
    from airflow.executors.executor_loader import ExecutorLoader

    classes = (ExecutorLoader.import_executor_cls(name)[0] for name in ExecutorLoader.get_executor_names())
    return any(each.serve_logs for each in classes)


def open_port(port: int) -> socket.socket:
    """Listen on all addresses of this host, of both kinds where there are both.

    Raises:
        OSError: the port is taken, or may not be had.
    """
    if not 0 <= port < 2**16:
        raise OSError(errno.EINVAL, "a port is a number from 0 to 65535")
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # a host may know IPv6 and have none
                raise
    return socket.create_server(("", port))


def count_failures(before: int, code: int, lived: float) -> int:
    """How many servers came to nothing, one after the other, now that another has ended.

    Args:
        before: how many there were.
        code: its exit code; 0 if it ended by itself.
        lived: for how many seconds there was a server.
    """
    return 0 if code == 0 or lived >= STEADY else before + 1


def pause_after(failures: int) -> float:
    """For how long the next server is not started, however many ask."""
    return backoff.pause(failures, FIRST_PAUSE, MAX_PAUSE) if failures else 0.0


class LogServer:
    """A port of which the server is there when it is asked. All is done by a thread, which nobody waits for.

    Args:
        port: where log servers listen.
        idle: the seconds without a request after which a server ends.
        retry: the seconds between two looks whether a port that is taken is free.
    """

    def __init__(self, port: int, idle: float = logserving.IDLE, retry: float = RETRY_INTERVAL) -> None:
        self.port = port
        self._idle, self._retry = idle, retry
        self._thread = threading.Thread(target=self._run, name="log server", daemon=True)
        self._lock = threading.Lock()
        """Held where `_closing` and `_server` are changed: none is started once this is closed."""
        self._closing = False
        self._server: subprocess.Popen[bytes] | None = None
        self._hears_close, self._tells_close = socket.socketpair()

    def start(self) -> None:
        """Begin to hold the port, or to wait for it."""
        self._thread.start()

    def close(self) -> None:
        """End the server, if there is one, and give up the port."""
        with self._lock:
            self._closing = True
            if self._server is not None:
                self._server.terminate()
        with contextlib.suppress(OSError):  # closed before
            self._tells_close.send(b".")
        self._thread.join(END_PATIENCE)
        with self._lock:
            if self._server is not None:
                self._server.kill()
        self._thread.join(END_PATIENCE)

    def _run(self) -> None:
        try:
            if (listener := self._wait_for_port()) is not None:
                with listener:
                    _listeners.add(listener)
                    self._serve(listener)
        except Exception:
            log.exception("Logs are not served any more until the scheduler is started again")
        finally:
            self._tells_close.close()
            self._hears_close.close()

    def _wait_for_port(self) -> socket.socket | None:
        """The port, once it is free; None if nobody wants it any more."""
        said = False
        while not self._closing:
            try:
                listener = open_port(self.port)
            except OSError as error:
                if not said:
                    self._tell_refusal(error)
                said = True
                self._wait([], self._retry)
            else:
                log.info("Logs are served on port %d, by a process that is started when it is asked", self.port)
                return listener
        return None

    def _tell_refusal(self, error: OSError) -> None:
        if error.errno == errno.EADDRINUSE:
            log.info("Port %d is taken, by another log server as a rule; looked at again and again", self.port)
        else:
            what = "The port %d of log servers ([logging] worker_log_server_port) cannot be had: %s; tried again"
            log.error(what, self.port, error)

    def _serve(self, listener: socket.socket) -> None:
        failures = 0
        while self._wait([listener]) and not self._closing:
            began = time.monotonic()
            code = self._have_served(listener)
            if self._closing:
                return
            failures = count_failures(failures, code, time.monotonic() - began)
            if failures == 1:
                self._tell_failure(code)
            self._wait([], pause_after(failures))

    def _have_served(self, listener: socket.socket) -> int:
        """The exit code of a server, once it has ended."""
        try:
            with self._lock:
                if self._closing:
                    return 0
                self._server = _spawn(listener, self._idle)
        except OSError:
            log.exception("A log server cannot be started")
            return 1
        code = self._server.wait()
        with self._lock:
            self._server = None
        return code

    def _tell_failure(self, code: int) -> None:
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        log.error(
            "A log server (`python -m %s`) ended %s; what it said is above. While that is so, the log of a running "
            "task is shown only where the API server has its file. The next one is started when somebody asks, after "
            "a pause that grows to %.0f s; `airflow scheduler --skip-serve-logs` starts none.",
            logserving.__name__,
            how,
            MAX_PAUSE,
        )

    def _wait(self, listeners: Iterable[socket.socket], seconds: float | None = None) -> bool:
        """Until somebody asks, or nobody wants this any more; False if neither happened in time."""
        with selectors.DefaultSelector() as selector:
            for each in (self._hears_close, *listeners):
                selector.register(each, selectors.EVENT_READ)
            return bool(selector.select(seconds))


def _spawn(listener: socket.socket, idle: float) -> subprocess.Popen[bytes]:
    """A session of its own: of a Ctrl-C the scheduler tells it."""
    fd = listener.fileno()
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", logserving.__name__, str(fd), str(os.getpid()), str(idle)],
        stdin=subprocess.DEVNULL,
        pass_fds=[fd],
        start_new_session=True,
        env={**os.environ, "PYTHONSAFEPATH": "1"},  # or modules would be taken from where the scheduler happens to be
    )


_of_process: weakref.ref[LogServer] | None = None
"""Executors of several teams have one between them."""


def start_in_scheduler() -> LogServer | None:
    """Serve logs where Airflow's scheduler would have; None if this process is none, or somebody else serves them."""
    global _of_process
    if _of_process is not None and _of_process() is not None:
        return None
    if not is_scheduler(sys.argv[1:]) or is_served_by_airflow():
        return None
    from airflow.configuration import conf

    server = LogServer(conf.getint("logging", "worker_log_server_port"))
    _of_process = weakref.ref(server)
    server.start()
    return server
