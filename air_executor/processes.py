"""Processes: who is who, who is alive, and how a whole tree is ended. Nothing here knows what a job is.

A process is told by host, boot, pid and start time together, because pids are used again.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from air_executor import model

if TYPE_CHECKING:
    import ctypes

    import psutil

_READ_SIZE = 2**16
_EXEC_PATIENCE = 1.0
"""Seconds that starting a program may take, once it has begun; 30 ms were seen."""
_PF_KTHREAD = 0x00200000
"""Among the flags of a process: it is a part of the kernel (include/linux/sched.h)."""
PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h: descendants whose parent dies become children of this process."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal that this process gets when its parent dies."""

_FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""The inode of the process namespace that Linux starts with (PROC_PID_INIT_INO)."""


@functools.cache
def host() -> str:
    """This host's name. In a container also its process namespace, as the process numbers mean nothing outside it."""
    name = socket.gethostname()
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return name
    return name if namespace == _FIRST_PID_NAMESPACE else f"{name}+{namespace}"


def host_name() -> str:
    """The host's name as a part of other names."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname().split(".")[0]).strip("-") or "host"


def user() -> str:
    """Who runs this process, and where; by number where the user has no name, as in some containers."""
    import getpass

    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = str(os.getuid())
    return f"user {name}@{host_name()}"


@functools.cache
def boot_id() -> str:
    """What changes when this host starts anew."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return f"boot-{int(psutil.boot_time())}"


def read(pid: int, name: str) -> bytes:
    """A file of a process below /proc. No `Path`: some versions of Python keep every part of one for ever.

    Raises:
        OSError: there is no such process, or no such system.
    """
    fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while more := os.read(fd, _READ_SIZE):
            data += more
        return data
    finally:
        os.close(fd)


def start_time(pid: int) -> int | None:
    """When a process of this host started; None if there is none. A zombie has not gone yet, but is not alive."""
    if sys.platform == "linux":
        try:
            stat = read(pid, "stat")
        except (FileNotFoundError, ProcessLookupError):
            return None
        values = stat[stat.rindex(b")") + 2 :].split()
        return None if values[0] in (b"Z", b"X") else int(values[19])
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 1000)
    except psutil.NoSuchProcess:
        return None


def now() -> int:
    """What the start time of a process is that starts now."""
    if sys.platform == "linux":
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    return int(time.time() * 1000)


def identify(pid: int, runner: str | None = None) -> model.Process:
    """The identity of a process of this host; start time 0 if it is gone already, which no process has."""
    started = _own_start_time(pid) if pid == os.getpid() else start_time(pid)
    return model.Process(host(), boot_id(), pid, started or 0, runner)


@functools.lru_cache(maxsize=1)
def _own_start_time(pid: int) -> int | None:
    """By pid, because a forked process is another."""
    return start_time(pid)


os.register_at_fork(after_in_child=_own_start_time.cache_clear)  # its pid may be that of an ancestor that is gone


def age(process: model.Process) -> float | None:
    """Seconds since a process of this host started, or was given its job; None if that cannot be known.

    By a clock that nobody sets.
    """
    if not is_local(process) or process.start_time == 0:
        return None
    if sys.platform == "linux":
        started = process.start_time / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started - process.waited)
    return max(0.0, time.time() - process.start_time / 1000 - process.waited)


def is_local(process: model.Process) -> bool:
    """Whether the process belongs to this host as it runs now."""
    return process.host == host() and process.boot_id == boot_id()


def is_alive(process: model.Process) -> bool | None:
    """Whether the process lives; None if it is another host's and cannot be seen from here."""
    if process.host != host():
        return None
    return process.boot_id == boot_id() and start_time(process.pid) == process.start_time


def open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None where there is no such thing."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def become_subreaper() -> bool:
    """Adopt descendants whose parents die, so that none escapes. False where the system cannot."""
    if sys.platform != "linux":
        return False
    return bool(libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def end_with_parent() -> bool:
    """Let this process be killed when the thread that started it ends. False where the system cannot."""
    if sys.platform != "linux":
        return False
    return bool(libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)


@functools.cache
def libc() -> ctypes.CDLL:
    """The system's C library, for what Python does not know."""
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def tree(pid: int) -> list[psutil.Process]:
    """A process of this host and all its descendants, children before grandchildren."""
    import psutil

    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def send(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Signal each; psutil checks start times, so a pid that was used again is spared. So is what we may not signal."""
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # denied: a task that runs sudo
            process.send_signal(number)


def kill_tree(pid: int) -> None:
    """KILL a process and all its descendants."""
    kill_all(lambda: tree(pid))


def kill_descendants(pid: int) -> None:
    """KILL all descendants of a process, and not the process itself."""
    kill_all(lambda: tree(pid)[1:])


def kill_all(find: Callable[[], list[psutil.Process]]) -> None:
    """KILL what `find` finds. All are stopped first, so that none can fork faster than it is found."""
    seen: set[int] = set()
    found = find()
    while new := [process for process in found if process.pid not in seen]:
        send(new, signal.SIGSTOP)
        seen.update(process.pid for process in new)
        found = find()
    send(list(reversed(found)), signal.SIGKILL)


def children() -> list[int]:
    """The children of this process, also those adopted from descendants that died; zombies are among them."""
    try:
        threads = list(Path("/proc/self/task").iterdir())
        return [int(pid) for thread in threads for pid in (thread / "children").read_bytes().split()]
    except OSError:  # a thread ended meanwhile, or a system without such a file
        import psutil

        return [process.pid for process in psutil.Process().children()]


def kill_remnants(session: int | None, *marks: str, spare: Callable[[int], bool] = lambda _: False) -> None:
    """KILL what a dead process left: its session, what carries all `marks` in its environment, and the trees of both.

    When a process dies, its children get another parent; the session and the environment are what they cannot lose by
    accident. A pid is not used again while it is the number of a session that has members; so if a process has that
    pid, the session is empty and the number belongs to somebody else.

    Args:
        session: the pid of the dead process, which led a session of that number; None: go by the marks alone.
        marks: lines `NAME=value` of the environment that together only its descendants have.
        spare: says of a member of the session that it is somebody else's.
    """
    import psutil

    reused = session is None or start_time(session) is not None
    found = []
    for process in psutil.process_iter():
        member = not reused and session_of(process.pid) == session and not spare(process.pid)
        if process.pid != os.getpid() and (member or carries(process.pid, *marks)):
            found.append(process.pid)
            kill_tree(process.pid)
    wait_gone(found)


def wait_gone(pids: Iterable[int], seconds: float = 1.0) -> None:
    """Wait, not for long, until killed processes write no more: a big one takes a while to die."""
    deadline = time.monotonic() + seconds
    while any(start_time(pid) is not None for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.002)


def session_of(pid: int) -> int | None:
    """The session of a process; None if there is no such process."""
    try:
        return os.getsid(pid)
    except OSError:
        return None


def carries(pid: int, *marks: str) -> bool:
    """Whether a process has all these lines `NAME=value` in the environment that it was started with."""
    try:
        return {os.fsencode(mark) for mark in marks} <= set(_environ(pid).split(b"\0"))
    except OSError:
        return False


def _environ(pid: int) -> bytes:
    deadline = time.monotonic() + _EXEC_PATIENCE
    while not (environ := read(pid, "environ")):
        if not _is_in_exec(pid):
            return read(pid, "environ")  # it may have been until just now
        if time.monotonic() >= deadline:
            break
        time.sleep(0.001)
    return environ


def _is_in_exec(pid: int) -> bool:
    """Whether a process has given up what it was and is not yet what it will be: its environment has no place yet.

    On a busy host that may take a while, and whoever started it takes it for started already. In proc(5), 9 are the
    flags, and 51 is where the environment ends.
    """
    stat = read(pid, "stat")
    values = stat[stat.rindex(b")") + 2 :].split()
    is_gone, is_of_kernel = values[0] in (b"Z", b"X"), bool(int(values[9 - 3]) & _PF_KTHREAD)
    return not is_gone and not is_of_kernel and values[51 - 3] == b"0"


def describe_signal(number: int) -> str:
    """`SIGKILL (9)`."""
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"
