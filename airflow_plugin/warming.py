"""What Airflow makes anew in each process although it is always the same: made once, in the template, before the forks.

Each of these is an optimisation of exactly what would happen otherwise: where an Airflow has not what is meant here, it
is left as it is. Nothing here starts a thread, opens a connection, or runs code of DAG files or of the plugins folder.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any


def warm() -> None:
    """All of it."""
    _load_certificates()
    _find_plugins()
    _remember_type_adapters()
    _quicken_logging_of_tasks()
    configure_logging()


def configure_logging() -> None:
    """For the supervisor of a task. Airflow remembers that it did so for this output: a fork finds it done.

    Unless people have a logging configuration of their own or remote logging, which may do anything: then each process
    does it for itself.
    """
    from airflow.sdk.configuration import conf

    own = conf.get("logging", "logging_config_class", fallback="") or conf.getboolean("logging", "remote_logging")
    if not own:
        configure_logging_for_supervisor()


def configure_logging_for_supervisor() -> None:
    """A log for people, on standard output."""
    from airflow.sdk.log import configure_logging as configure

    with _caches_cleared_once():
        configure(json_output=False, output=sys.stdout, colored_console_log=False)


def _load_certificates() -> None:
    """Airflow's client reads all public certificates, which takes a third of the time of a short task."""
    from airflow.sdk.api import client

    load = getattr(client.Client, "_get_ssl_context_cached", None)
    if load is None:
        return
    log = client.log
    client.log = logging.getLogger("airflow_plugin.preload")  # a structlog logger keeps the stream it first wrote to
    try:
        with contextlib.suppress(OSError):  # a wrong path is told where it matters: in the task
            load(client.API_SSL_CA_FILE_PATH, client.API_SSL_CERT_PATH)
    finally:
        client.log = log


def _find_plugins() -> None:
    """Airflow reads what is installed, and remembers it; then each task loads the plugins among it, and reads of what
    name and version each of them is."""
    from airflow.sdk._shared import module_loading

    grouped = getattr(module_loading, "_get_grouped_entry_points", None)
    if grouped is not None:
        found = grouped()["airflow.plugins"]
        for number, (entry_point, distribution) in enumerate(found):
            with contextlib.suppress(Exception):  # Airflow tells of it, in the task
                found[number] = entry_point, Installed(distribution)


class Installed:
    """In the place of an installed distribution: what it says of itself is read once."""

    def __init__(self, distribution: Any) -> None:
        self._distribution = distribution
        self.metadata, self.version = distribution.metadata, distribution.version

    def __getattr__(self, name: str) -> Any:
        return getattr(self._distribution, name)


def _remember_type_adapters() -> None:
    """Pydantic builds a schema for each adapter, and a task makes five of them for three types."""
    from airflow.sdk.execution_time import comms, task_runner
    from pydantic import TypeAdapter

    remember = Remembered(TypeAdapter)
    used: tuple[tuple[Any, tuple[str, ...]], ...] = (
        (comms, ("ToTask",)),
        (task_runner, ("StartupDetails", "JsonValue")),
    )
    for module, types in used:
        if getattr(module, "TypeAdapter", None) is remember.kind:
            for name in types:
                if hasattr(module, name):
                    remember(getattr(module, name))
            module.TypeAdapter = remember


class Remembered:
    """In the place of a class whose objects do not change: the same object for the same argument."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self._made: dict[int, tuple[Any, Any]] = {}
        """By the identity of the argument, which is kept so that it stays the only one of this identity."""

    def __call__(self, argument: Any, **options: Any) -> Any:
        if options:
            return self.kind(argument, **options)
        if id(argument) not in self._made:
            self._made[id(argument)] = argument, self.kind(argument)
        return self._made[id(argument)][1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kind, name)

    def __getitem__(self, parameters: Any) -> Any:
        return self.kind[parameters]


def _quicken_logging_of_tasks() -> None:
    """The process of a task configures logging before all else."""
    from airflow.sdk.execution_time import supervisor

    name = "_configure_logs_over_json_channel"
    configure: Callable[[int], None] | None = getattr(supervisor, name, None)
    if configure is None:
        return

    def configure_quickly(fd: int) -> None:
        with _caches_cleared_once():
            configure(fd)

    setattr(supervisor, name, configure_quickly)


@contextlib.contextmanager
def _caches_cleared_once() -> Iterator[None]:
    """Python clears what each of hundreds of loggers remembers whenever the level of one is set, and a configuration
    sets dozens: here once, at its end."""
    manager = logging.root.manager
    clear: Callable[[], None] | None = getattr(manager, "_clear_cache", None)
    if clear is None:
        yield
        return
    asked: list[None] = []
    manager._clear_cache = lambda: asked.append(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del manager._clear_cache  # type: ignore[attr-defined]
        if asked:
            clear()
