"""The few HTTP calls that starting and the demo need."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT = 30.0
"""Seconds that an answer may take; a machine that has much else to do needs some."""

# Without it, a proxy from the environment would be asked for our own address.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RestError(Exception):
    """The server's answer was a refusal.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status = status


def call(method: str, url: str, body: Any = None, token: str | None = None, *, timeout: float = TIMEOUT) -> Any:
    """The JSON that the server answers.

    Raises:
        RestError: it refuses.
        OSError: it is not there.
    """
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with _opener.open(request, timeout=timeout) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise RestError(error.code, error.read(500).decode("utf-8", "replace")) from None
    except (http.client.HTTPException, ValueError) as error:
        raise ConnectionError(f"{url} did not answer in JSON over HTTP: {error}") from None
