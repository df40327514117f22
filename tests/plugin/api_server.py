"""A stand-in for Airflow's execution API: `python -m tests.plugin.api_server SCRIPT`.

SCRIPT is a JSON file that may change at any time: {"<METHOD> <end of path>": [status, body] or ["close"]}. What is not
in it is answered as Airflow's own dry run does. The first line of the output is the port; every request is one line.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONTEXT: dict[str, Any] = {
    "dag_run": {
        "dag_id": "samples",
        "run_id": "run",
        "logical_date": "2026-01-01T00:00:00Z",
        "start_date": "2026-01-01T00:00:00Z",
        "run_type": "manual",
        "state": "running",
        "run_after": "2026-01-01T00:00:00Z",
        "end_date": None,
        "data_interval_start": None,
        "data_interval_end": None,
        "partition_key": None,
        "consumed_asset_events": [],
    },
    "max_tries": 0,
    "should_retry": False,
    "task_reschedule_count": 100,
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Path

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        print(json.dumps([self.command, self.path, body]), flush=True)
        status, content = self.find()
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def find(self) -> tuple[int, Any]:
        for rule, answer in json.loads(self.script.read_text()).items():
            method, _, end = rule.partition(" ")
            if method == self.command and self.path.partition("?")[0].endswith(end):
                return answer[0], answer[1]
        return 200, CONTEXT if self.path.endswith("/run") else {"text": "as a dry run"}

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer

    def log_message(self, *_: object) -> None:
        """The requests are on stdout already."""


def main(script: str) -> None:
    Handler.script = Path(script)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
