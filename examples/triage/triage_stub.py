"""Both servers of the triage on this machine, with samples: `python triage_stub.py --port 8472`.

Issues are made from the day alone, so that a day has the same ones each time. Tests let it misbehave (`Faults`).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import threading
import urllib.parse
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KINDS = ("bug", "documentation", "feature", "question", "security")
DAY = re.compile(r"created:(\d{4}-\d\d-\d\d)")


def issues(day: str, count: int | None = None) -> list[Any]:
    """The sample of a day: `count` issues, or 20 to 39 of them."""
    seed = int(hashlib.sha256(day.encode()).hexdigest(), 16)
    return [_issue(day, seed, number) for number in range(20 + seed % 20 if count is None else count)]


def _issue(day: str, seed: int, number: int) -> dict[str, Any]:
    kind = KINDS[(seed >> number % 64) % len(KINDS)]
    unique = int(day.replace("-", "")) * 10_000 + number
    return {
        "number": unique,
        "title": f"Sample {number}: über <{kind}> & more",
        "html_url": f"https://example.org/issues/{unique}",
        "user": {"login": f"user{number % 7}"},
        "labels": [{"name": kind}, {"name": f"area:{number % 3}"}],
        "created_at": f"{day}T{number // 60 % 24:02}:{number % 60:02}:00Z",
        "comments": number,
    }


@dataclass
class Faults:
    """How the servers misbehave; read with each request."""

    samples: dict[str, list[Any]] = field(default_factory=dict)
    """Other issues for a day."""
    source_down: bool = False
    refused_alerts: Counter[str] = field(default_factory=Counter)
    """How many posts of a key are answered with 403 before one is taken."""
    alert_pause: threading.Event | None = None
    """Posts are answered when this is set."""


class Stub:
    """Use as a context manager; a port of the system's choice, unless one is given."""

    def __init__(self, port: int = 0, issues: int | None = None) -> None:
        self.faults = Faults()
        self.issues = issues
        """How many each day has; None: as many as its sample."""
        self.alerts: list[tuple[str, str, str]] = []
        """Key, text and network of each alert that was taken."""
        self.networks: dict[str, list[str]] = {}
        """Who asked for a day, in order."""
        self.pages = 0
        """How many pages were given."""
        self.posting = 0
        self.most_posting = 0
        """The most posts that were on their way at once."""
        self.guard = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"stub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self) -> dict[str, str]:
        """For the pipeline, to ask this."""
        return {"TRIAGE_SOURCE_URL": f"{self.url}/search/issues", "TRIAGE_ALERT_URL": f"{self.url}/alerts"}

    def __enter__(self) -> Stub:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        """Until Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt), self._server:
            self._server.serve_forever()

    def page(self, query: dict[str, list[str]], network: str) -> tuple[int, Any]:
        found = DAY.search(query["q"][0])
        if self.faults.source_down or found is None:
            return (503, {}) if found else (422, {})
        day, size, number = found[1], int(query["per_page"][0]), int(query["page"][0])
        with self.guard:
            self.pages += 1
            asked = self.networks.setdefault(day, [])
            if network not in asked:
                asked.append(network)
        found_issues = self.faults.samples.get(day) or issues(day, self.issues)
        items = found_issues[(number - 1) * size : number * size]
        return 200, {"total_count": len(found_issues), "incomplete_results": False, "items": items}

    def alert(self, content: Any, key: str, network: str) -> tuple[int, Any]:
        with self.guard:
            self.posting += 1
            self.most_posting = max(self.most_posting, self.posting)
        if self.faults.alert_pause is not None:
            self.faults.alert_pause.wait()
        with self.guard:
            self.posting -= 1
            if self.faults.refused_alerts[key] > 0:
                self.faults.refused_alerts[key] -= 1
                return 403, {"ok": False}
            self.alerts.append((key, content["text"], network))
            return 200, {"ok": True}


class _Handler(BaseHTTPRequestHandler):
    stub: Stub

    def do_GET(self) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        self._answer(*self.stub.page(query, self.headers["X-Request-Id"]))

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(*self.stub.alert(content, self.headers["Idempotency-Key"], self.headers["X-Request-Id"]))

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        with contextlib.suppress(ConnectionError):  # who asked may be gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests read what the pipeline says."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="triage_stub.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="(default: one that is free)")
    parser.add_argument("--issues", type=int, help="of each day (default: 20 to 39)")
    options = parser.parse_args()
    stub = Stub(options.port, options.issues)
    for name, value in stub.environment().items():
        print(f"export {name}={value}", flush=True)
    stub.serve()


if __name__ == "__main__":
    main()
