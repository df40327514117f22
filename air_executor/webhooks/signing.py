"""The signature of what a webhook sends, and how its receiver checks it. Standard library only, no I/O.

::

    X-Air-Executor-Id: <the id of the event>
    X-Air-Executor-Event: job.completed
    X-Air-Executor-Signature: t=<seconds since the epoch>,v1=<hex of HMAC-SHA256>

What is signed is the time, a dot, and the body as it is sent. Each delivery has its own time, the event keeps its id.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Container, Mapping
from typing import Any

from air_executor.errors import InvalidInputError

ID_HEADER = "X-Air-Executor-Id"
EVENT_HEADER = "X-Air-Executor-Event"
SIGNATURE_HEADER = "X-Air-Executor-Signature"
TOLERANCE = 300.0
"""Seconds that a delivery may be old, or ahead of the receiver's clock."""
MAX_TIME_DIGITS = 15


class VerificationError(InvalidInputError):
    """A request that is not, or not provably, a delivery of ours: forged, damaged or too old. Answer with 400."""


class ReplayError(VerificationError):
    """A delivery of an event that was dealt with before. Answer with 200, so that it is not sent again, and do nothing.

    Attributes:
        event_id: of the event.
    """

    def __init__(self, event_id: str) -> None:
        super().__init__("the event was received before")
        self.event_id = event_id


def sign(body: bytes, secret: str | bytes, moment: float) -> str:
    """The value of `SIGNATURE_HEADER`."""
    at = str(int(moment))
    return f"t={at},v1={_digest(at, body, secret)}"


def _digest(at: str, body: bytes, secret: str | bytes) -> str:
    return hmac.new(_key(secret), at.encode("ascii") + b"." + body, hashlib.sha256).hexdigest()


def _key(secret: str | bytes) -> bytes:
    """What is signed with: the secret without white space around it, as files that hold one end with a newline."""
    text = secret if isinstance(secret, str) else secret.decode("utf-8", "surrogateescape")
    if not text.strip():
        raise ValueError("the secret of a webhook is empty")
    return text.strip().encode("utf-8", "surrogateescape")


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secret: str | bytes,
    tolerance: float = TOLERANCE,
    *,
    seen: Container[str] = (),
    now: float | None = None,
) -> dict[str, Any]:
    """Check a request that a receiver got.

    Args:
        headers: of the request, in any case.
        body: the bytes as they came, before anything made JSON of them.
        secret: the same that the webhook has; white space around it does not count.
        tolerance: seconds that it may be old, or ahead of this clock.
        seen: the ids of events that were dealt with. Add `event["id"]` to it once it is dealt with, and not before:
            what was not taken is sent again, with the same id.
        now: seconds since the epoch; this host's clock if it is None.

    Returns:
        The event.

    Raises:
        ReplayError: its id is in `seen`.
        VerificationError: it is not signed with this secret, or too old, or no event.
    """
    given = {name.lower(): value for name, value in headers.items()}
    at, digests = _parse(given.get(SIGNATURE_HEADER.lower(), ""))
    expected = _digest(at, body, secret).encode()
    matches = [hmac.compare_digest(expected, digest.encode("utf-8", "replace")) for digest in digests]
    if not any(matches):
        raise VerificationError("the signature is not that of this body with this secret")
    if abs((time.time() if now is None else now) - int(at)) > tolerance:
        raise VerificationError(f"the delivery is more than {tolerance:g} s old, or a clock is wrong")
    event = _event(body)
    if given.get(ID_HEADER.lower(), event["id"]) != event["id"]:
        raise VerificationError(f"{ID_HEADER} is not the id of the event")
    if event["id"] in seen:
        raise ReplayError(event["id"])
    return event


def _parse(value: str) -> tuple[str, list[str]]:
    """The time and the digests of a signature."""
    parts = [part.strip().partition("=") for part in value.split(",")]
    times = [text for name, _, text in parts if name == "t"]
    digests = [text for name, _, text in parts if name == "v1"]
    whole = len(times) == 1 and times[0].isascii() and times[0].isdecimal() and len(times[0]) <= MAX_TIME_DIGITS
    if not whole or not digests:
        raise VerificationError(f"there is no {SIGNATURE_HEADER} of the form t=...,v1=...")
    return times[0], digests


def _event(body: bytes) -> dict[str, Any]:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("id"), str):
        raise VerificationError("the body is no event")
    return event
