"""What runs in a checkout: .airflow/start-dev.json, written by the supervisor, read by everybody else.

It outlives a supervisor that is killed, and is then how `--stop` and the next start find what is left. Whether a
supervisor lives is not in it: whoever holds .airflow/start-dev.lock lives, and wrote its pid there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Mapping

from air_executor import _files, model
from air_executor import components as registry
from air_executor.errors import NotFoundError
from air_executor.paths import Home
from dev import components
from dev.checkout import Checkout, Ports


@dataclasses.dataclass(frozen=True)
class State:
    """One start."""

    port: int
    supervisor: int | None
    """The pid of who wrote this, and may have been killed since; None if that was an older version."""
    healthy: bool
    components: Mapping[str, model.Process]


def read(checkout: Checkout) -> State | None:
    """What was started last and not ended; None if there is nothing."""
    try:
        content = _files.read_object(checkout.state)
    except FileNotFoundError:
        return None
    members = {name: model.from_dict(model.Process, item) for name, item in content["components"].items()}
    return State(content["port"], content.get("supervisor"), content["healthy"], members)


def record(checkout: Checkout, state: State) -> None:
    """Write the file; and for everybody who asks `air-executor status`, who should be up."""
    members = {name: model.to_dict(process) for name, process in state.components.items()}
    content = {"port": state.port, "supervisor": state.supervisor, "healthy": state.healthy, "components": members}
    _files.replace_object(checkout.state, content)
    for name, process in state.components.items():
        if name != components.RUNNER:  # it has a file of its own
            url = Ports(state.port).url if name == components.API_SERVER else None
            entry = registry.Component(name, process, str(checkout.log(name)), url)
            registry.register(Home(checkout.home), entry)


def forget(checkout: Checkout, names: Iterable[str]) -> None:
    """Nothing of it runs any more, and nothing should."""
    for name in names:
        with contextlib.suppress(NotFoundError):
            registry.unregister(Home(checkout.home), name)
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
