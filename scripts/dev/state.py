"""What runs in a checkout: .airflow/start-dev.json, written by the supervisor, read by everybody else.

It outlives a supervisor that is killed, and is then how `--stop` and the next start find what is left. Whether a
supervisor lives is not in it: whoever holds .airflow/start-dev.lock lives, and wrote its pid there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from air_executor import _files, model
from dev.checkout import Checkout


@dataclasses.dataclass(frozen=True)
class State:
    """One start."""

    port: int
    healthy: bool
    components: Mapping[str, model.Process]


def write(checkout: Checkout, state: State) -> None:
    """Replace the file."""
    components = {name: model.to_dict(process) for name, process in state.components.items()}
    _files.replace_object(checkout.state, {"port": state.port, "healthy": state.healthy, "components": components})


def read(checkout: Checkout) -> State | None:
    """What was started last and not ended; None if there is nothing."""
    try:
        content = _files.read_object(checkout.state)
    except FileNotFoundError:
        return None
    components = {name: model.from_dict(model.Process, item) for name, item in content["components"].items()}
    return State(content["port"], content["healthy"], components)


def clear(checkout: Checkout) -> None:
    """Nothing runs any more."""
    checkout.state.unlink(missing_ok=True)


def say_who(checkout: Checkout, pid: int, what: str) -> None:
    """Write into the lock who holds it, for the message that a second start prints.

    In place: a new file under this name would be another lock.
    """
    checkout.lock.write_text(f"pid {pid}, {what}")


def holder(checkout: Checkout) -> int | None:
    """The pid of whoever started something here and lives; None if nobody does."""
    if not _files.is_locked(checkout.lock):
        return None
    found = re.match(r"pid (\d+)", checkout.lock.read_text())
    return int(found[1]) if found else None
