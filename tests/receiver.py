"""A real receiver of webhooks on this host's loopback address, which does what a test tells it."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "a-secret-that-nobody-may-see"


@dataclass
class Got:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """What came, and what is answered."""

    port: int
    got: list[Got] = field(default_factory=list)
    context: ssl.SSLContext | None = None
    """With which it speaks TLS; None: it does not."""
    answer: Callable[[Got], tuple[int, dict[str, str], bytes] | None] = lambda got: (200, {}, b"")
    """Called after the request was noted, from the thread of its connection; None: no answer at all."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/secret-part-of-the-path"

    @property
    def ids(self) -> list[str]:
        return [got.headers["X-Air-Executor-Id"] for got in self.got]

    @contextlib.contextmanager
    def listening(self) -> Iterator[Receiver]:
        """Inside the `with` there is a receiver; before and after, nothing listens."""
        server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        server.daemon_threads = True
        if self.context is not None:
            server.socket = self.context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            got = Got(self.command, self.path, dict(self.headers.items()), body)
            receiver.got.append(got)
            answer = receiver.answer(got)
            if answer is None:
                self.close_connection = True
                return
            status, headers, content = answer
            with contextlib.suppress(OSError):  # who asked was killed
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST

    return Handler


def new() -> Receiver:
    """One that does not listen yet, on a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Receiver(probe.getsockname()[1])


def table(receiver: Receiver, name: str = "ops", *lines: str) -> str:
    """The lines of config.toml for it; its secret is in the file `secret` of the home."""
    said = [f'url = "{receiver.url}"', 'secret_file = "secret"', "allow_private = true", *lines]
    return "\n".join([f"[webhooks.{name}]", *said, ""])
