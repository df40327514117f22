"""A real server in this process, on a home that all tests of a file share, and a token for each need."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from air_executor import store
from air_executor.http import server, tokens
from air_executor.http.service import Service
from air_executor.paths import Home
from air_executor.settings import HttpSettings
from air_executor.testing import end_everything, wait_for

BASE = "/api/v1"


@dataclass
class Api:
    """The API of a home, for whoever has one of its tokens."""

    home: Home
    url: str
    service: Service
    http: httpx.Client
    texts: dict[str, str] = field(default_factory=dict)

    def token(self, scope: str) -> str:
        """A token that has this scope alone."""
        if scope not in self.texts:
            _, self.texts[scope] = tokens.create(self.home, f"{scope} of a test", [scope], by="test")
        return self.texts[scope]

    def ask(self, method: str, path: str, scope: str = "admin", **given: Any) -> httpx.Response:
        """A request with a token that has the scope."""
        headers = {"Authorization": f"Bearer {self.token(scope)}", **given.pop("headers", {})}
        return self.http.request(method, f"{BASE}{path}", headers=headers, **given)

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.ask("GET", path, **given)

    def post(self, path: str, **given: Any) -> httpx.Response:
        return self.ask("POST", path, **given)


@contextmanager
def serving(root: Path, **options: Any) -> Iterator[Api]:
    """A server for a home, until the end of the `with`."""
    home = Home(root)
    store.ensure_home(home)
    settings = HttpSettings(**{"port": 0, "rate": 0.0, "stranger_rate": 0.0, "shutdown": 1.0, **options})
    certificate = server.check(settings, home)
    bound = server.bind(settings.host, settings.port)
    service = Service(home, settings)
    running = server.Server(server.configure(service, certificate), service, certificate)
    thread = threading.Thread(target=running.run, args=([bound],))
    thread.start()
    try:
        wait_for(lambda: running.started, what="the start of the server")
        url = server.address(bound, settings, certificate)
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
            yield Api(home, url, service, http)
    finally:
        running.stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="package")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(tmp_path_factory.mktemp("http") / "home") as found:
        yield found
        end_everything(found.home)
