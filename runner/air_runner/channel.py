"""JSON lines over a socket: how the processes of a runner talk."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any


class Channel:
    """One end."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.closed = False
        self._buffer = b""

    def fileno(self) -> int:
        """For selectors."""
        return self.connection.fileno()

    @property
    def between_lines(self) -> bool:
        """Whether nothing is held back here of which the end has not arrived yet."""
        return not self._buffer

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

    def close(self) -> None:
        """Nothing is sent or received any more."""
        self.connection.close()
