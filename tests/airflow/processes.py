"""Which processes belong to a stack, and how they are ended.

A stack must leave nothing behind, also not what left its process group or lost its parent. So a process is recognised
by what it cannot easily shed: a mark in its environment, its working directory, or an open file below the stack's
directory.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from tests.airflow import waiting

MARK = "AIR_TEST_STACK"
GONE = (OSError, psutil.Error)


def belonging(directory: Path) -> list[psutil.Process]:
    """Every live process that was started below `directory`, whoever its parent is now."""
    found = (process for process in psutil.process_iter() if process.pid != os.getpid())
    return [process for process in found if alive(process) and _belongs(process, directory)]


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except GONE:
        return False


def exists(pid: int) -> bool:
    try:
        return alive(psutil.Process(pid))
    except GONE:
        return False


def describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} (parent {process.ppid()}): {' '.join(process.cmdline())[:160]}"
    except GONE:
        return f"{process.pid} (gone)"


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except GONE:
            continue


def end(processes: list[psutil.Process], grace: float) -> None:
    """TERM, then KILL what is still there after `grace` seconds."""
    send(processes, signal.SIGTERM)
    try:
        waiting.until(lambda: not any(map(alive, processes)), "processes to end", grace)
    except TimeoutError:
        send(processes, signal.SIGKILL)
        waiting.until(lambda: not any(map(alive, processes)), "killed processes to be gone", 10)


def _belongs(process: psutil.Process, directory: Path) -> bool:
    # setproctitle writes over the environment that /proc shows, hence the two other signs.
    try:
        if process.environ().get(MARK) == str(directory):
            return True
        return any(directory in Path(path).parents for path in _open_paths(process.pid))
    except GONE:
        return False


def _open_paths(pid: int) -> Iterator[str]:
    proc = Path("/proc", str(pid))
    for link in (proc / "cwd", *(proc / "fd").iterdir()):
        try:
            path = str(link.readlink())
        except OSError:
            continue
        yield path + "/." if link.name == "cwd" else path
