"""Serving metrics to clients that are slow, silent, gone or hostile, on a port that may be taken."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import selectors
import socket
import time
from collections.abc import Iterator

import pytest

from air_executor.testing import wait_for
from air_runner import scrape


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
        ("GET /metrics?name=x HTTP/1.0\n\n", "200 OK"),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET /../jobs/a/state.json HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("nonsense\r\n\r\n", "400 Bad Request"),
        ("\r\n\r\n", "400 Bad Request"),
        ("GET /metrics SMTP\r\n\r\n", "400 Bad Request"),
        ("GET /metrics HTTP/1.1\r\n" + "x" * 9000, "431 Request Header Fields Too Large"),
    ],
)
def test_answers(request_text: str, status: str) -> None:
    head, _, body = scrape.answer(request_text.encode(), lambda: "a 1\n").decode().partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status}\r\n") and "Connection: close" in head
    assert (body == "a 1\n") is (status == "200 OK" and not request_text.startswith("HEAD"))
    assert status != "200 OK" or "Content-Length: 4\r\n" in f"{head}\r\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclasses.dataclass
class Turned:
    """A server of which the loop is turned by hand, and its clients."""

    selector: selectors.BaseSelector
    server: scrape.Server
    port: int
    clients: contextlib.ExitStack

    def connect(self, data: bytes = b"") -> socket.socket:
        client = self.clients.enter_context(socket.create_connection(("127.0.0.1", self.port)))
        client.sendall(data)
        client.setblocking(False)
        return client

    def turn(self, moment: float | None = None) -> bool:
        self.server.tend(time.monotonic() if moment is None else moment)
        for key, _ in self.selector.select(0.01):
            key.data()
        return True

    def answer_to(self, client: socket.socket) -> bytes:
        """What a client has been told when its connection is closed."""
        heard = bytearray()

        def closed() -> bool:
            self.turn()
            try:
                while data := client.recv(65536):
                    heard.extend(data)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True
            return True

        wait_for(closed, what="the end of a connection")
        return bytes(heard)


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> Iterator[Turned]:
    monkeypatch.setattr(scrape, "PATIENCE", 600.0)  # a slow machine is not what is tested
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as clients:
        port = free_port()
        server = scrape.Server(selector, "127.0.0.1", port, lambda: "a 1\n" * 200_000)
        yield Turned(selector, server, port, clients)
        server.close()
        assert not selector.get_map()


GET = b"GET /metrics HTTP/1.1\r\n\r\n"


def test_more_than_a_socket_holds_arrives_whole(turned: Turned) -> None:
    turned.turn()
    assert turned.answer_to(turned.connect(GET)).endswith(b"\r\n\r\n" + b"a 1\n" * 200_000)


def test_silent_clients_make_room_for_others(turned: Turned) -> None:
    turned.turn()
    silent = []
    for _ in range(scrape.MAX_CONNECTIONS + 3):
        silent.append(turned.connect(b"GET"))
        wait_for(lambda: turned.turn() and len(turned.server._connections) == min(len(silent), scrape.MAX_CONNECTIONS))
        wait_for(lambda: turned.turn() and turned.server._accepts)
    asks = turned.connect(GET)
    assert turned.answer_to(asks).startswith(b"HTTP/1.1 200")
    assert len(turned.server._connections) <= scrape.MAX_CONNECTIONS
    turned.turn(time.monotonic() + scrape.PATIENCE + 1)
    assert turned.server._connections == []


def test_a_client_that_goes_or_floods_is_let_go(turned: Turned) -> None:
    turned.turn()
    turned.connect(b"GET /me").close()
    flood = turned.connect()
    wait_for(
        lambda: turned.turn() and len(turned.server._connections) == 1, what="one to be let go, and one to be there"
    )
    with contextlib.suppress(OSError):
        while True:
            flood.send(b"x" * 65536)
            turned.turn()
    wait_for(lambda: turned.turn() and not turned.server._connections, what="the end of the flood")


def test_a_port_that_is_taken_is_said_once_and_tried_again(turned: Turned, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with socket.socket() as other:
        other.bind(("127.0.0.1", turned.port))
        other.listen()
        for moment in (0.0, 0.5, 1.5):
            turned.turn(moment)
            assert not turned.server.listens
    [said] = [record.getMessage() for record in caplog.records]
    assert f"127.0.0.1 port {turned.port}: Address already in use" in said
    turned.turn(2.0)
    assert not turned.server.listens
    turned.turn(3.0)
    assert turned.server.listens and "metrics are served on http://127.0.0.1" in caplog.text


@pytest.mark.parametrize("host", ["203.0.113.7", "x" * 70, "a\0b"])
def test_an_address_that_nobody_has_is_no_end(caplog: pytest.LogCaptureFixture, host: str) -> None:
    with selectors.DefaultSelector() as selector:
        server = scrape.Server(selector, host, 1, str)
        server.tend(0.0)
        assert f"metrics cannot be served on {host} port 1" in caplog.text and not server.listens
