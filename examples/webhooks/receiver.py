"""A receiver of webhooks: it checks each delivery, and deals with each event once.

    python examples/webhooks/receiver.py --port 8471 --secret-file secret --seen seen.txt

In config.toml of the home:

    [webhooks.example]
    url = "http://127.0.0.1:8471/"
    secret_file = "/where/the/same/secret/is"
    allow_private = true
    all_jobs = true
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from air_executor import webhooks

MAX_BODY = 2**20


class Events:
    """Deals with events, and remembers which: in a file, because an event may come again days later."""

    def __init__(self, secret: str, seen: Path, deal: Callable[[dict[str, Any]], None]) -> None:
        self._secret, self._file, self._deal = secret, seen, deal
        self._seen = set(seen.read_text().splitlines()) if seen.exists() else set()
        self._lock = threading.Lock()  # two deliveries of one event must not come between each other

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """The HTTP status to answer."""
        with self._lock:
            try:
                event = webhooks.verify(headers, body, self._secret, seen=self._seen)
            except webhooks.ReplayError:
                return 200  # it was dealt with; anything else would have it sent again
            except webhooks.VerificationError:
                return 400
            self._deal(event)  # if this fails, the event is not seen, and is sent again
            self._seen.add(event["id"])
            with self._file.open("a") as file:
                file.write(f"{event['id']}\n")
            return 200


def server(port: int, events: Events) -> ThreadingHTTPServer:
    """Ready to serve on this host alone; behind a proxy that speaks TLS it can be for others, too."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > MAX_BODY:
                self.send_error(413)
                return
            status = events.take(dict(self.headers.items()), self.rfile.read(int(length)))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def show(event: dict[str, Any]) -> None:
    """What this example does about an event."""
    job = event["job"]
    print(event["event"], "-" if job is None else f"{job['name']} attempt {job['attempt']}", flush=True)


def main() -> None:
    """Until Ctrl-C."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=8471)
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--seen", type=Path, default=Path("seen.txt"))
    given = parser.parse_args()
    events = Events(given.secret_file.read_text().strip(), given.seen, show)
    server(given.port, events).serve_forever()


if __name__ == "__main__":
    main()
