"""One HTTP request to an address that was looked at.

The name is resolved once, and the connection goes to one of the addresses that were looked at, so there is nothing to
change between the look and the connection. No redirect is followed, no proxy of the environment is asked, and no answer
is read beyond what is needed of it.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from air_executor import __version__
from air_executor.errors import AirExecutorError
from air_executor.webhooks import addresses

MAX_ANSWER = 65536
"""Bytes that are read of an answer."""
AGENT = f"air-executor/{__version__}"

Resolve = Callable[..., list[tuple[Any, ...]]]
"""`socket.getaddrinfo`, or what a test has in its place."""


class SendError(AirExecutorError):
    """There was no answer; the message holds the host at most."""


class AddressError(SendError):
    """The address is one to which nothing is sent."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def good(self) -> bool:
        """Whether it was taken."""
        return 200 <= self.status < 300


def request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    *,
    timeout: float,
    allow_private: bool,
    resolve: Resolve = socket.getaddrinfo,
) -> Answer:
    """Send one request.

    Args:
        timeout: seconds for all of it, but for the resolution of the name, which the system limits.

    Raises:
        AddressError: the host has no address to which anything may be sent.
        SendError: there was no answer.
    """
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    found = _addresses(host, port, allow_private, resolve)
    deadline = _Deadline(timeout)
    connection = http.client.HTTPConnection(host, port)
    try:
        connection.sock = deadline.watch(_connect(host, found, deadline, allow_private))
        if secure:
            connection.default_port = 443
            connection.sock = _secure(connection.sock, host, deadline)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, {"User-Agent": AGENT, "Connection": "close", **headers})
        answer = connection.getresponse()
        fields = {key.lower(): value for key, value in answer.getheaders()}
        content = answer.read(MAX_ANSWER)
        if deadline.is_over:  # and what was cut off may look like the end
            raise TimeoutError
        return Answer(answer.status, fields, content)
    except ssl.SSLCertVerificationError as error:
        raise SendError(f"{host}: its certificate is not valid: {error.verify_message}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SendError(f"{host} port {port}: {_why(error, deadline)}") from None
    finally:
        deadline.stop()
        connection.close()


def _secure(connection: socket.socket, host: str, deadline: _Deadline) -> socket.socket:
    context = ssl.create_default_context()
    wrapped = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    deadline.watch(wrapped)
    try:
        wrapped.do_handshake()
    except BaseException:
        wrapped.close()
        raise
    return wrapped


def _why(error: Exception, deadline: _Deadline) -> str:
    if deadline.is_over or isinstance(error, TimeoutError):
        return f"no answer within {deadline.seconds:g} s"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason or 'the connection was closed'}"
    if isinstance(error, OSError):
        return error.strerror or "the connection was closed"
    return "what answers is no HTTP server"  # whose words may be anything


def _addresses(host: str, port: int, allow_private: bool, resolve: Resolve) -> list[tuple[Any, ...]]:
    """The addresses of a host to which something may be sent; refused if there are none."""
    try:
        found = resolve(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SendError(f"{host}: {getattr(error, 'strerror', None) or 'that cannot be the name of a host'}") from None
    whys = {each[4][0]: addresses.why_not(each[4][0], allow_private=allow_private) for each in found}
    allowed = [each for each in found if whys[each[4][0]] is None]
    if not allowed:
        raise _refusal(host, whys, allow_private)
    return allowed


def _refusal(host: str, whys: Mapping[str, str | None], allow_private: bool) -> AddressError:
    address, why = next(iter(whys.items()), ("nowhere", "no address"))
    cure = "; see allow_private" if not allow_private and why in addresses.PRIVATE else ""
    return AddressError(f"{host} is at {address}, which is {why}: nothing is sent there{cure}")


def _connect(host: str, found: list[tuple[Any, ...]], deadline: _Deadline, allow_private: bool) -> socket.socket:
    """A connection to the first address that takes one."""
    failure: OSError = ConnectionRefusedError("no address")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(deadline.left())
            connection.connect(address)
            reached = connection.getpeername()[0]
            if why := addresses.why_not(reached, allow_private=allow_private):
                raise _refusal(host, {reached: why}, allow_private)
            return connection
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
    raise failure


class _Deadline:
    """Ends a connection on which too little comes: each single read might come in time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.is_over = seconds, False
        self._end = time.monotonic() + seconds
        self._watched: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def left(self) -> float:
        """Seconds; never 0, which would mean something else to a socket."""
        return max(0.001, self._end - time.monotonic())

    def watch(self, connection: socket.socket) -> socket.socket:
        """From now on this one is ended."""
        connection.settimeout(self.left())
        self._watched = connection
        return connection

    def stop(self) -> None:
        """It was in time."""
        self._timer.cancel()

    def _expire(self) -> None:
        self.is_over = True
        if self._watched is not None:
            with contextlib.suppress(OSError):  # that of a TLS socket would first talk to the other side
                socket.socket.shutdown(self._watched, socket.SHUT_RDWR)
