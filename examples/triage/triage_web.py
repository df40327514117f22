"""The two servers of the triage: one is asked for issues, one is told of alerts. What HTTP is lives here.

Both addresses are configuration. Nothing here knows a public one.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from triage_errors import EndError

TRIES = 3
FIRST_PAUSE = 0.2
TIMEOUT = 10.0
"""Seconds for one answer, or what is left of the run if that is less."""
SLACK = 0.25
"""Seconds after the end of the run in which it is the run that says that the time is over, and not a call."""
PASSING = (429, 500, 502, 503, 504)
MOST_BYTES = 16 * 1024 * 1024


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: it would take the token along to wherever it leads."""

    def redirect_request(self, *_: object) -> None:
        return None


@dataclass
class Caller:
    """How the servers are called by one network, and until when."""

    network_id: str
    """Goes along with each call, so that both ends can tell the tries of a day apart."""
    deadline: float
    """By the monotonic clock."""
    ended: threading.Event
    """Set when the network is over: nobody waits for another try then."""

    def __post_init__(self) -> None:
        self._opener = urllib.request.build_opener(_NoRedirects)

    def get(self, url: str, query: Mapping[str, object], token: str) -> str:
        parameters = urllib.parse.urlencode({name: str(value) for name, value in query.items()})
        return self._answer(urllib.request.Request(f"{url}?{parameters}", headers=self._headers(token)))

    def post(self, url: str, content: object, token: str, key: str) -> str:
        """Post JSON; the receiver may know by `key` what it has been told before."""
        headers = {**self._headers(token), "Content-Type": "application/json", "Idempotency-Key": key}
        body = json.dumps(content).encode()
        return self._answer(urllib.request.Request(url, data=body, headers=headers, method="POST"))

    def _headers(self, token: str) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "triage-example", "X-Request-Id": self.network_id}
        return {**headers, "Authorization": f"Bearer {token}"} if token else headers

    def _answer(self, request: urllib.request.Request) -> str:
        """A failure that may pass is tried again, within the time of the run."""
        for number in range(TRIES):
            try:
                return self._once(request)
            except EndError as error:
                pause = error.pause or FIRST_PAUSE * 2**number
                last = number == TRIES - 1 or time.monotonic() + pause > self.deadline
                if not error.passing or last or self.ended.wait(pause):
                    raise
        raise AssertionError("unreachable")

    def _once(self, request: urllib.request.Request) -> str:
        host = request.host
        left = self.deadline - time.monotonic()
        if left <= 0 or self.ended.is_set():
            raise EndError(f"{host} was not asked: the run is over", passing=False)
        try:
            with self._opener.open(request, timeout=min(TIMEOUT, left + SLACK)) as answer:
                return _text(host, answer.read(MOST_BYTES + 1))
        except urllib.error.HTTPError as error:
            raise _refused(host, error) from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", error)
            raise EndError(f"{host} does not answer: {why}", passing=True) from None


def _text(host: str, body: bytes) -> str:
    if len(body) > MOST_BYTES:
        raise EndError(f"{host} answered with more than {MOST_BYTES} bytes; ask for fewer issues a page", passing=False)
    return body.decode("utf-8", "replace")


def _refused(host: str, error: urllib.error.HTTPError) -> EndError:
    """What the server said is left out: it may repeat what it was sent."""
    refused = EndError(f"{host} answered {error.code}", passing=error.code in PASSING)
    after = error.headers.get("Retry-After", "")
    error.close()
    if after.isascii() and after.isdecimal():
        refused.pause = float(after)
    return refused
