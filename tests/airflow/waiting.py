"""Waiting for a condition with a deadline: the only place in these tests where time passes on purpose."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

Value = TypeVar("Value")

# A component that is still starting refuses connections; a file that is being replaced may be gone for a moment.
NOT_YET = (httpx.HTTPError, OSError, LookupError, ValueError)


def until(condition: Callable[[], Value], what: str, seconds: float, every: float = 0.1) -> Value:
    """Return the first true value of `condition`; after `seconds` say what was waited for and what was seen last."""
    deadline, seen = time.monotonic() + seconds, None
    while True:
        try:
            value = condition()
        except NOT_YET as problem:
            seen = repr(problem)
        else:
            if value:
                return value
            seen = repr(value)
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what} (last seen: {seen})")
        threading.Event().wait(every)
