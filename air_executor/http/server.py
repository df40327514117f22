"""From settings to a process that serves: what must be right before it starts, its socket, TLS, its end.

The first SIGTERM or SIGINT lets nobody new in, wakes all who wait for something in the home, and gives requests that
are under way some seconds; the second ends the process at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import sys
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from air_executor.errors import SettingsError
from air_executor.http.app import build
from air_executor.http.certificate import Certificate
from air_executor.http.service import Service
from air_executor.paths import Home
from air_executor.settings import HttpSettings

log = logging.getLogger("air_executor.http")

BACKLOG = 1024
MAX_CONNECTIONS = 1000
KEEP_ALIVE = 30
"""Seconds that a connection stays open on which nothing is asked."""
RENEWAL_TICKS = 100
"""Between looks at the files of the certificate; there are ten ticks in a second."""
KILLED = 128
"""With the number of the signal, the exit code of who ends at once."""
MAX_HEAD = 64 * 1024


# --- What must be right before it starts ---


def check(settings: HttpSettings, home: Home) -> Certificate | None:
    """The certificate; None without TLS.

    Raises:
        SettingsError: what is set cannot be, or must not be.
    """
    if settings.tls_cert is None:
        if settings.tls_key is not None:
            raise SettingsError("[http] tls_key is set without tls_cert; set both, or neither")
        if not settings.allow_plain and not is_loopback(settings.host):
            raise SettingsError(
                f"on {settings.host}, other hosts could read tokens on their way: set [http] tls_cert and tls_key, "
                "serve on 127.0.0.1, or say allow_plain = true (--allow-plain), as behind a proxy that has TLS"
            )
        return None
    return Certificate(home, settings.tls_cert, settings.tls_key)


def is_loopback(host: str) -> bool:
    """Whether only this host can reach that address. Pure."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """A socket on which it is served.

    Raises:
        SettingsError: it cannot be had.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)  # with its protocol: asyncio then sends answers at once
    except OSError as error:
        raise SettingsError(f"[http] host: {host!r:.80} is no address of this host: {error.strerror}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise SettingsError(
            f"[http] cannot serve on {host} port {port}: {error.strerror}; choose another with --port or [http] port"
        ) from None
    bound.setblocking(False)
    return bound


# --- Serving ---


class PatientProtocol(H11Protocol):
    """Gives a client so long for the head of a request, from its first byte or from the connection on.

    The rest of a body that was not waited for counts as the beginning of a head. One that takes nothing of its answers
    is let go by the system: a connection that is closed otherwise stays until it has taken all.
    """

    head_timeout = 30.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux alone
            patience = max(1, round(self.head_timeout * 1000))
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect_head()
        else:
            self._forget_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_timeout, self.transport.abort)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(uvicorn.Server):
    """Ends as is said above."""

    def __init__(self, config: uvicorn.Config, service: Service, certificate: Certificate | None = None) -> None:
        super().__init__(config)
        self._service, self._certificate = service, certificate
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        if self._certificate is not None and counter % RENEWAL_TICKS == 0:
            self._certificate.renew()
        return await super().on_tick(counter)

    def stop(self) -> None:
        """Let it end in order; from any thread."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._service.closing.close)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends it in order, the second at once."""
        if self.should_exit:
            os._exit(KILLED + sig)
        self.stop()


def serve(home: Home, settings: HttpSettings) -> int:
    """Serve until a signal comes.

    Returns:
        The exit code.

    Raises:
        SettingsError: something is wrong with what is set; it did not start.
    """
    certificate = check(settings, home)
    bound = bind(settings.host, settings.port)
    service = Service(home, settings)
    server = Server(configure(service, certificate), service, certificate)
    where = address(bound, settings, certificate)
    log.info("serving %s on %s; its document: %s/api/v1/openapi.json", home.root, where, where)
    server.run([bound])
    log.info("ended")
    return 0


def configure(service: Service, certificate: Certificate | None) -> uvicorn.Config:
    """How uvicorn serves the app."""
    settings = service.settings
    protocol = type("Protocol", (PatientProtocol,), {"head_timeout": settings.client_timeout})
    config = uvicorn.Config(
        build(service),
        http=protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.shutdown)),
        h11_max_incomplete_event_size=MAX_HEAD,
    )
    config.load()
    logging.getLogger("uvicorn.access").addFilter(_say_nothing)  # it has tokens and queries, and others set logging up
    config.ssl = certificate.context if certificate is not None else None  # read and checked already
    return config


def _say_nothing(_: logging.LogRecord) -> bool:
    """`guard` logs requests, without what may be secret."""
    return False


def address(bound: socket.socket, settings: HttpSettings, certificate: Certificate | None) -> str:
    """What a client is given."""
    host, port = bound.getsockname()[:2]
    name = settings.host if not is_loopback(settings.host) else host
    return f"{'http' if certificate is None else 'https'}://{f'[{name}]' if ':' in name else name}:{port}"


def log_to_stderr() -> None:
    """One line for each thing that happens, with its time; what uvicorn says is of use only where it is a warning."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    for name in ("air_executor", "uvicorn"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False
    logging.getLogger("air_executor").setLevel(logging.INFO)
