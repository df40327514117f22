"""Webhooks: others are told over HTTP when a job is over.

::

    tables      what config.toml says of each: [webhooks.<name>]
    routes      which of them are told of a job
    events      what they are told
    outbox      the events that nobody has taken yet, and those that were given up: files
    targets     the address and the secret of a webhook
    addresses   where nothing is ever sent
    transport   one HTTP request to an address that was looked at
    delivery    one event to one webhook
    sender      the process that sends what is in the outbox
    signing     the signature, and how a receiver checks it

Nobody who runs jobs imports more than `routes`, `events` and `outbox`, and only for jobs of which somebody is told.
A receiver needs `verify` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from air_executor.webhooks.signing import ReplayError, VerificationError, sign, verify

__all__ = ["ReplayError", "VerificationError", "sign", "verify"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("air_executor.webhooks.signing"), name)
