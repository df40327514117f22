"""What runners are asked for: small files, one for each order, that a runner removes as it obeys.

::

    spool/control/<runner id>.<action>          {"at", "by", "why", "process"}
    spool/control/<runner id>.set-<number>      the same, and "slots" or "queues", or both
    spool/steered                               for a moment: makes all runners look, also at which queues are paused

An order names the process that it is for, so that a runner never obeys what was meant for the one before it. An empty
file, which somebody made by hand, is for whoever has the name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from air_executor import _files, model
from air_executor.errors import CorruptFileError
from air_executor.paths import Home

log = logging.getLogger(__name__)

ACTIONS = ("drain", "resume", "stop", "handover", "abort", "renew")
"""drain: claim nothing; resume: claim again; stop: drain, then end; handover: end now and leave the jobs to the next
runner; abort: stop the jobs, then end; renew: put new templates in place of the old."""
SET = "set"
"""Serve other queues, or with other slots, from now on."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Order:
    """What a runner is asked for."""

    action: str
    by: str = UNKNOWN
    why: str = ""
    at: str = field(default="", compare=False)
    """When it was given."""
    process: model.Process | None = None
    """Whom it is for; None: for whoever has the name."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of `set`: `slots` and `queues`, as far as they shall be others. Not checked: it comes from a file."""


def give(home: Home, runner_id: str, order: Order) -> None:
    """Leave an order for a runner and wake it.

    Raises:
        OSError: the home refused.
    """
    # Of two changes both count, and of two equal orders one.
    number = f"-{time.time_ns():016x}{os.urandom(4).hex()}" if order.action == SET else ""
    path = home.control / f"{runner_id}.{order.action}{number}"
    process = {} if order.process is None else {"process": model.to_dict(order.process)}
    content = {"at": model.now(), "by": order.by, "why": order.why, **process, **order.changes}
    try:
        _files.replace_object(path, content)
    except FileNotFoundError:  # somebody deleted the spool
        _files.make_directory(path.parent)
        _files.replace_object(path, content)
    wake_all(home)


def wake_all(home: Home) -> None:
    """Let all runners look at their orders and at the paused queues; who does not hear it looks soon by itself.

    What they shall see is there by now. A file that another left, or has just made, would hide ours: it goes first.
    """
    with contextlib.suppress(OSError):
        _files.discard(home.steered)
        _files.create_marker(home.steered)
        _files.discard(home.steered)


def take(home: Home, runner_id: str, process: model.Process) -> Iterator[Order]:
    """The orders for a runner, in the order in which they were given; each is removed before it is handed out.

    Raises:
        OSError: the home refused; what was not taken is there the next time.
    """
    found = [(path, _read(path, action)) for path, action in _pending(home, runner_id)]
    for path, order in sorted(found, key=_given_at):
        path.unlink(missing_ok=True)
        if order is not None and order.process in (None, process):
            yield order


def _given_at(found: tuple[Path, Order | None]) -> tuple[int, str]:
    """By the clock of the home; if that has not moved between two, by that of who gave them."""
    path, order = found
    try:
        written = path.stat().st_mtime_ns
    except FileNotFoundError:
        written = 0
    return written, order.at if order is not None else ""


def drop(home: Home, runner_id: str) -> None:
    """Remove the orders for a runner that is gone."""
    with contextlib.suppress(OSError):
        for path, _ in _pending(home, runner_id):
            path.unlink(missing_ok=True)


def _pending(home: Home, runner_id: str) -> Iterator[tuple[Path, str]]:
    for path in home.control.glob(f"{runner_id}.*"):
        owner, _, rest = path.name.rpartition(".")
        action = rest.partition("-")[0]
        if owner == runner_id and action in (*ACTIONS, SET) and path.is_file():
            yield path, action


def _read(path: Path, action: str) -> Order | None:
    """None if it is gone, or if it does not say what to change."""
    try:
        content = _files.read_object(path)
        process = model.from_dict(model.Process, content["process"]) if "process" in content else None
        changes: dict[str, Any] = {key: content[key] for key in ("slots", "queues") if key in content}
        by, why, at = str(content.get("by", UNKNOWN)), str(content.get("why", "")), str(content.get("at", ""))
        return Order(action, by, why, at, process, changes)
    except FileNotFoundError:
        return None
    except (CorruptFileError, TypeError, ValueError) as error:
        if action == SET:
            log.warning("%s cannot be obeyed: %s", path, error)
            return None
        return Order(action)  # its name says all that matters
