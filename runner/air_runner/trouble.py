"""What keeps trouble with one thing away from all others."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


def safely(what: str, action: Callable[..., object], *args: object) -> None:
    """One job, one file, a system out of descriptors must not end the runner: it has other jobs.

    What was left undone is found again by the clock: markers and requests by a look, ends by recovery.
    """
    try:
        action(*args)
    except Exception:
        log.exception("trouble with %s; going on", what)
