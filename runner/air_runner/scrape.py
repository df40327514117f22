"""Answers `GET /metrics`. It serves one text, and trusts nobody: what a client can cost is bounded.

A connection may send `MAX_REQUEST` bytes and last `PATIENCE` seconds, `MAX_CONNECTIONS` are open at a time (a new one
takes the place of the oldest), and `ACCEPT_PAUSE` passes between two. Nothing blocks, and no request is read any
further than to its empty line. Each connection answers one request and is closed.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from air_executor.exposition import CONTENT_TYPE

log = logging.getLogger(__name__)

PATH = "/metrics"
MAX_REQUEST = 8192
MAX_CONNECTIONS = 16
PATIENCE = 5.0
ACCEPT_PAUSE = 0.02
LISTEN_PAUSE = 1.0
"""Seconds between attempts to get the port."""


def is_complete(request: bytes | bytearray) -> bool:
    """Whether the head of a request is there. Pure."""
    return b"\r\n\r\n" in request or b"\n\n" in request


def answer(request: bytes, text: Callable[[], str]) -> bytes:
    """The response to a request. Pure, but for `text`.

    Args:
        text: gives the metrics; called only if they are wanted.
    """
    if len(request) > MAX_REQUEST or not is_complete(request):
        return _response("431 Request Header Fields Too Large", "the request is too long\n")
    words = request.split(b"\n", 1)[0].split()
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return _response("400 Bad Request", "this is no HTTP request\n")
    method, target = words[0], words[1].split(b"?", 1)[0]
    if target != PATH.encode():
        return _response("404 Not Found", f"there is only {PATH}\n")
    if method not in (b"GET", b"HEAD"):
        return _response("405 Method Not Allowed", "only GET and HEAD\n", "Allow: GET, HEAD\r\n")
    return _response("200 OK", text(), kind=CONTENT_TYPE, head_only=method == b"HEAD")


def _response(status: str, body: str, extra: str = "", *, kind: str = "text/plain", head_only: bool = False) -> bytes:
    content = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n{extra}"
    return f"{head}Connection: close\r\n\r\n".encode() + (b"" if head_only else content)


@dataclass
class _Connection:
    socket: socket.socket
    deadline: float
    request: bytearray = field(default_factory=bytearray)
    response: memoryview | None = None


class Server:
    """Registered with the selector of a thread, which calls `tend` between two selects and the data of each key.

    The port may be taken, by the runner that this one replaces or by anybody: that is said once, and tried again.

    Args:
        text: gives the metrics.
    """

    def __init__(self, selector: selectors.BaseSelector, host: str, port: int, text: Callable[[], str]) -> None:
        self._selector, self._host, self._port, self._text = selector, host, port, text
        self._listener: socket.socket | None = None
        self._accepts = False
        self._accept_at = 0.0
        self._connections: list[_Connection] = []
        self._said: str | None = None

    @property
    def listens(self) -> bool:
        """Whether it has the port."""
        return self._listener is not None

    def tend(self, moment: float) -> float:
        """Do what is due by the clock; returns the seconds until something is due again."""
        for connection in [each for each in self._connections if each.deadline <= moment]:
            self._drop(connection)
        if moment >= self._accept_at and not self._accepts:
            self._resume(moment)
        due = [each.deadline for each in self._connections[:1]] + ([] if self._accepts else [self._accept_at])
        return max(0.0, min(due, default=moment + PATIENCE) - moment)

    def close(self) -> None:
        """Give up the port and all connections."""
        self._pause(0.0)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self._connections):
            self._drop(connection)

    # --- The port ---

    def _resume(self, moment: float) -> None:
        try:
            if self._listener is None:
                self._listener = self._listen()
                log.info("metrics are served on http://%s:%d%s", self._host, self._port, PATH)
                self._said = None
        except (OSError, ValueError) as error:  # the latter of what cannot be the name of a host
            self._accept_at = moment + LISTEN_PAUSE
            self._say(getattr(error, "strerror", None) or str(error))
            return
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._accepts = True

    def _listen(self) -> socket.socket:
        """Only this process has the socket: what it starts inherits no descriptor, and it never forks."""
        kind = socket.SOCK_STREAM
        family, *_, address = socket.getaddrinfo(self._host, self._port, type=kind, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(MAX_CONNECTIONS)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener

    def _say(self, why: str) -> None:
        if why != self._said:
            self._said = why
            pause = f"trying again every {LISTEN_PAUSE:.0f} s; jobs run all the same"
            log.warning("metrics cannot be served on %s port %d: %s; %s", self._host, self._port, why, pause)

    def _pause(self, until: float) -> None:
        self._accept_at = until
        if self._accepts and self._listener is not None:
            self._selector.unregister(self._listener)
        self._accepts = False

    # --- Connections ---

    def _accept(self) -> None:
        moment = time.monotonic()
        self._pause(moment + ACCEPT_PAUSE)
        try:
            if self._listener is None:
                return
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # it was there, and is not any more
            return
        except OSError as error:  # no descriptor is left: jobs need them more
            log.warning("a request for metrics cannot be taken: %s", error.strerror)
            self._pause(moment + LISTEN_PAUSE)
            return
        if len(self._connections) == MAX_CONNECTIONS:
            self._drop(self._connections[0])
        accepted.setblocking(False)
        connection = _Connection(accepted, moment + PATIENCE)
        self._connections.append(connection)
        self._selector.register(accepted, selectors.EVENT_READ, lambda: self._receive(connection))

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.request += data
        if not data:
            self._drop(connection)
        elif is_complete(connection.request) or len(connection.request) > MAX_REQUEST:
            connection.response = memoryview(answer(bytes(connection.request), self._text))
            self._selector.modify(connection.socket, selectors.EVENT_WRITE, lambda: self._send(connection))
            self._send(connection)

    def _send(self, connection: _Connection) -> None:
        if connection not in self._connections or connection.response is None:
            return
        try:
            sent = connection.socket.send(connection.response)
        except BlockingIOError:
            return
        except OSError:
            sent = len(connection.response)
        connection.response = connection.response[sent:]
        if not connection.response:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._selector.unregister(connection.socket)
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_WR)
            connection.socket.close()
