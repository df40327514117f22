"""A process that serves homes over HTTP for tests: one for all, as what takes time is to import what it needs.

It reads lines of JSON from its standard input, and answers each with one: `serve` with the address, `stop` with null.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from air_executor.http import tokens
from air_executor.paths import Home

if TYPE_CHECKING:
    from air_executor.http.server import Server

SCOPES = ("read", "submit", "cancel")


class HttpServers:
    """The process."""

    def __init__(self) -> None:
        # A process whose environment names a home ends with all that is of that home.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIR")}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **said: Any) -> Any:
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._popen.stdin.write(json.dumps(said) + "\n")
        self._popen.stdin.flush()
        return json.loads(self._popen.stdout.readline())

    @contextmanager
    def serving(self, home: Home, **options: Any) -> Iterator[str]:
        """The address at which a home is served."""
        address = self.ask(serve=str(home.root), options=options)
        try:
            yield address
        finally:
            self.ask(stop=str(home.root))

    def __enter__(self) -> HttpServers:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._popen.stdin.close()
        self._popen.stdout.close()
        code = self._popen.wait(30)
        assert code == 0, f"the process that serves homes ended with {code}"


def token(home: Home, *scopes: str) -> str:
    """A token for a home."""
    return tokens.create(home, "a test", scopes or SCOPES, by="test")[1]


def _start(root: str, options: dict[str, Any]) -> tuple[str, Server, threading.Thread]:
    from air_executor.http import server
    from air_executor.http.service import Service
    from air_executor.settings import HttpSettings
    from air_executor.testing import wait_for

    home = Home(Path(root))
    settings = HttpSettings(port=0, **{"rate": 0.0, "stranger_rate": 0.0, "shutdown": 1.0, **options})
    certificate = server.check(settings, home)
    bound = server.bind(settings.host, settings.port)
    service = Service(home, settings)
    running = server.Server(server.configure(service, certificate), service, certificate)
    thread = threading.Thread(target=running.run, args=([bound],))
    thread.start()
    wait_for(lambda: running.started, what="the start of the server")
    return server.address(bound, settings, certificate), running, thread


def main() -> None:
    started: dict[str, tuple[str, Server, threading.Thread]] = {}
    for line in sys.stdin:
        said = json.loads(line)
        if "serve" in said:
            started[said["serve"]] = _start(said["serve"], said["options"])
            print(json.dumps(started[said["serve"]][0]), flush=True)
        else:
            _, running, thread = started.pop(said["stop"])
            running.stop()
            thread.join(30)
            print("null", flush=True)


if __name__ == "__main__":
    main()
