"""Parsing ahead: the process of a task parses its DAG file while the API server still lets the task start.

Airflow's own waits for that answer first, and then does nothing with it but parse the same file. What the file asks the
supervisor for as it is parsed (a variable, say) waits for the answer here, too: messages come in Airflow's order. If
Airflow does not let the task start, the process is killed, as ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from airflow.dag_processing.bundles.local import LocalDagBundle
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager
from airflow.sdk.execution_time import task_runner
from airflow.sdk.listener import get_listener_manager
from structlog.contextvars import bind_contextvars

from airflow_plugin import parsing

log = logging.getLogger(__name__)


def install(what: Any, bundle_info: Any, dag_rel_path: str | os.PathLike[str]) -> None:
    """Let this process of a task parse before it is told to begin."""
    receive = task_runner.get_startup_details

    def parse_and_receive() -> Any:
        task_runner.get_startup_details = receive
        first = _FirstMessage(receive)
        try:
            with first:
                _parse(what, bundle_info, dag_rel_path)
        except Exception:  # Airflow will meet the same, and knows what to do then
            log.debug("The DAG file was not parsed ahead", exc_info=True)
        return first.take()

    task_runner.get_startup_details = parse_and_receive


class _FirstMessage:
    """In the place of the connection to the supervisor: whoever uses that has the first message received before.

    The connection is also the standard input, where a program that the file starts would read that message. So it is
    not until the message is here.
    """

    def __init__(self, receive: Callable[[], Any]) -> None:
        self._receive = receive
        self._connection = task_runner.SUPERVISOR_COMMS
        self._lock = threading.Lock()
        self._message: Any = None
        self._input: int | None = None

    def __enter__(self) -> None:
        task_runner.SUPERVISOR_COMMS = self  # type: ignore[assignment]
        self._input = os.dup(0)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)

    def __exit__(self, *_: object) -> None:
        self._restore_input()
        task_runner.SUPERVISOR_COMMS = self._connection

    def take(self) -> Any:
        """The message, once it is here. Of several threads of a file, one waits for it."""
        with self._lock:
            if self._message is None:
                self._restore_input()
                with _import_timeout_stopped():
                    self._message = self._receive()
        return self._message

    def _restore_input(self) -> None:
        if self._input is not None:
            os.dup2(self._input, 0)
            os.close(self._input)
            self._input = None

    def _get_response(self) -> Any:
        """What Airflow receives the first message with."""
        return self._connection._get_response()

    def __getattr__(self, name: str) -> Any:
        self.take()
        return getattr(self._connection, name)


@contextlib.contextmanager
def _import_timeout_stopped() -> Iterator[None]:
    """Airflow gives a file so long to be parsed, by an alarm; how long the API server takes is not the file's fault."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)


def _parse(what: Any, bundle_info: Any, dag_rel_path: str | os.PathLike[str]) -> None:
    """As Airflow will with the same arguments, and then find it done.

    Only what lies in a directory: other bundles may have to be fetched, and that not twice. Not where a listener wants
    to be told that a task starts before its file is parsed. What gives no such DAG, Airflow parses again.
    """
    bundles = DagBundlesManager()  # type: ignore[no-untyped-call]
    if bundles._bundle_config[bundle_info.name].bundle_class is not LocalDagBundle:
        return
    if get_listener_manager().has_listeners:
        return
    bundle = bundles.get_bundle(name=bundle_info.name, version=bundle_info.version)
    file = parsing.DagFile(bundle, dag_rel_path)
    _bind_log(what)
    with _airflow_parsing_context_manager(dag_id=what.dag_id, task_id=what.task_id):
        bag = file.parse()
    if what.dag_id in bag.dags:
        file.give(bag)


def _bind_log(what: Any) -> None:
    """What Airflow puts into each line of a task's log."""
    names = ("dag_id", "task_id", "run_id", "try_number", "map_index")
    bind_contextvars(ti_id=str(what.id), **{name: getattr(what, name) for name in names})
