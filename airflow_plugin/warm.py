"""Warm DAGs: a process that has parsed one DAG file already, so that the tasks forked from it need not.

That is right only as long as parsing the file again would give the same. So everything that it read is told to the
template, which looks at it before each launch; and a file that does more than read files as it is parsed (asks Airflow
for a variable, opens a connection, starts a program, writes) is refused: its tasks parse it themselves, as ever.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from air_executor import validation

FORBIDDEN = (
    "os.chmod",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "os.link",
    "os.mkdir",
    "os.posix_spawn",
    "os.putenv",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.system",
    "os.truncate",
    "os.unsetenv",
    "pty.spawn",
    "signal.pthread_kill",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendmsg",
    "socket.sendto",
    "sqlite3.connect",
    "subprocess.Popen",
)
"""What a file must not do while it is parsed, by the names of Python's audit events."""

LISTING = ("os.listdir", "os.scandir")

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_BYTECODE = "__pycache__"
_CHANGING = ("/proc/", "/sys/", "/dev/")
"""Where files have no time of change that means anything."""


class NotWarmError(Exception):
    """The tasks of a DAG file have to parse it themselves; the message says why."""


def variant_of(workload: Any) -> str | None:
    """What the tasks of one DAG file have in common, as a template is told it; None if that is too long to be told."""
    bundle = workload.bundle_info
    variant = json.dumps([bundle.name, bundle.version, os.fspath(workload.dag_rel_path)], ensure_ascii=False)
    return variant if len(variant.encode(errors="surrogateescape")) <= validation.MAX_VARIANT_BYTES else None


def prepare(variant: str) -> frozenset[str]:
    """Parse the DAG file in this process.

    Returns:
        The files and directories that were read.

    Raises:
        NotWarmError: this file cannot be parsed for others; this process is to be given up.
    """
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    from airflow_plugin import parsing

    name, version, file = json.loads(variant)
    bundle = DagBundlesManager().get_bundle(name=name, version=version)  # type: ignore[no-untyped-call]
    bundle.initialize()
    dag_file = parsing.DagFile(bundle, file)
    with _watching() as seen, _without_supervisor(seen), _own_handlers(), _loggers_as_before():
        bag = dag_file.parse()
    if seen.fault is not None:
        raise NotWarmError(seen.fault)
    if bag.import_errors or not bag.dags:
        raise NotWarmError("it gives no DAG without the rest of a task's process")
    dag_file.give(bag)
    return frozenset(seen.paths)


class _Seen:
    """What was done while the file was parsed."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.fault: str | None = None

    def forbid(self, what: str) -> None:
        self.fault = self.fault or f"as it is parsed, it {what}"

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit event of Python's."""
        if event in FORBIDDEN or event.startswith(("ftplib.", "http.", "smtplib.", "urllib.")):
            if not (event.startswith("os.") and arguments and _is_bytecode(arguments[0])):
                self.forbid(f"does what Python calls {event}")
        elif event == "open":
            self._note_file(arguments[0], arguments[2])
        elif event in LISTING:
            self._add("." if arguments[0] is None else arguments[0])

    def _note_file(self, path: Any, flags: Any) -> None:
        if isinstance(path, int):
            return
        if isinstance(flags, int) and flags & _WRITING:
            if not _is_bytecode(path) and os.fsdecode(path) != os.devnull:
                self.forbid("opens a file for writing")
        else:
            self._add(path)

    def _add(self, path: Any) -> None:
        if not isinstance(path, int):
            text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
            if not text.startswith(_CHANGING) and _BYTECODE not in text:
                self.paths.add(text)


def _is_bytecode(path: Any) -> bool:
    """Python writes it beside what it imports."""
    return isinstance(path, (str, bytes, os.PathLike)) and _BYTECODE in os.fsdecode(path)


@contextmanager
def _watching() -> Iterator[_Seen]:
    """See what this process does. The hook stays for ever, and does nothing afterwards."""
    seen = _Seen()
    note: Callable[[str, tuple[Any, ...]], None] | None = seen.note

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if note is not None:
            note(event, arguments)

    sys.addaudithook(hook)
    try:
        yield seen
    finally:
        note = None


class _Nobody:
    """In the place of a task's connection to its supervisor, of which there is none yet."""

    def __init__(self, seen: _Seen) -> None:
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        self._seen.forbid("asks Airflow for something")
        raise NotWarmError("there is no supervisor to ask")


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Airflow leaves what it handles these signals with while it parses; a task gets its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGSEGV)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _loggers_as_before() -> Iterator[None]:
    """What a file's loggers write, a task shall find configured as in a task, also if they wrote as it was parsed."""
    import structlog

    cached = structlog.get_config()["cache_logger_on_first_use"]
    structlog.configure(cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(cache_logger_on_first_use=cached)


@contextmanager
def _without_supervisor(seen: _Seen) -> Iterator[None]:
    """Notice whoever asks the supervisor, also if he goes on without an answer."""
    from airflow.sdk.execution_time import task_runner

    task_runner.SUPERVISOR_COMMS = _Nobody(seen)  # type: ignore[assignment]
    try:
        yield
    finally:
        del task_runner.SUPERVISOR_COMMS
