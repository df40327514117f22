"""A control group (version 2) of a runner and of all that it starts, for what nothing else can find.

A process that has its own session and an empty environment is lost when its runner and its ephemeral runner are both
killed. It cannot leave its group by accident, though, and the next runner looks into the groups of the dead ones. One
group for each runner, not for each job: moving a process costs 10 ms, being born into a group costs nothing. Its name
says which process made it, so that a runner which takes a dead one's name does not take its group.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from air_executor import processes
from air_executor.errors import RunnerError
from air_executor.paths import Home
from air_runner import ours

if TYPE_CHECKING:
    import psutil

log = logging.getLogger(__name__)

PREFIX = "air-executor-"
LEAVE_TIME = 0.5
"""Seconds in which the templates of a runner that ends should be gone."""


class Group:
    """The group of this process, which is moved into it.

    Raises:
        RunnerError: no group can be made here; says why and what to do.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._above = own_directory()
        self._path = self._above / f"{_prefix(home)}{os.getpid()}-{processes.start_time(os.getpid())}"
        try:
            self._path.mkdir(exist_ok=True)
            _move_here(self._path)
        except OSError as error:
            _remove(self._path)
            raise _refusal(f"no control group can be made in {self._above}: {error.strerror}") from None

    def leave(self) -> None:
        """Go back where this process came from; the group goes unless a job is left in it."""
        with contextlib.suppress(OSError):
            _move_here(self._above)
        deadline = time.monotonic() + LEAVE_TIME
        while not _remove(self._path) and time.monotonic() < deadline:
            time.sleep(0.01)

    def sweep(self) -> None:
        """KILL what is left in the groups of dead runners of this home, but no job that goes on, and remove them."""
        for path in of_home(self._home):
            if not _is_its_maker_alive(path.name):
                _end(path)
                _remove(path)


def of_home(home: Home) -> list[Path]:
    """The groups beside this process's, or around it, that runners of a home have made."""
    return sorted(own_directory().glob(f"{_prefix(home)}[0-9]*-[0-9]*"))


def _prefix(home: Home) -> str:
    return f"{PREFIX}{hashlib.sha256(os.fsencode(home.root)).hexdigest()[:12]}-"


def _is_its_maker_alive(name: str) -> bool:
    pid, start_time = name.split("-")[-2:]
    return processes.start_time(int(pid)) == int(start_time)


def _end(path: Path) -> None:
    lost = _lost(path)
    for process in lost:
        log.warning("process %d was left by a job whose runner died; killing it", process.pid)
    if lost:
        processes.kill_all(lambda: _lost(path))
        processes.wait_gone([process.pid for process in lost])


def _lost(path: Path) -> list[psutil.Process]:
    """The members of a group that no living part of a runner is above."""
    import psutil

    found = []
    for pid in _members(path):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)  # first: it knows from now on which process that was
            if ours.is_below_ours(pid) is False:
                found.append(process)
    return found


def _members(path: Path) -> list[int]:
    """A process of another namespace has the number 0."""
    try:
        return [int(pid) for pid in (path / "cgroup.procs").read_bytes().split() if pid != b"0"]
    except OSError:
        return []


def _move_here(path: Path) -> None:
    (path / "cgroup.procs").write_text(str(os.getpid()))


def _remove(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return not path.exists()
    return True


def own_directory() -> Path:
    """Where this process is; if that is the group of a runner, as in a job that starts one, what is above it.

    Raises:
        RunnerError: nowhere.
    """
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        raise _refusal("this system has no control groups") from None
    path = find_directory(mounts, lines)
    if path is None:
        raise _refusal("control groups of version 2 are not mounted")
    return path.parent if path.name.startswith(PREFIX) else path


def find_directory(mounts: list[str], groups: list[str]) -> Path | None:
    """The directory of a process's group, from its mountinfo and its cgroup file. Pure."""
    own = next((line.removeprefix("0::") for line in groups if line.startswith("0::")), None)
    for line in mounts:
        fields, _, kind = line.partition(" - ")
        if own is not None and kind.startswith("cgroup2 "):
            root, point = fields.split()[3:5]
            if own == root or own.startswith(root.rstrip("/") + "/"):
                return Path(point) / own.removeprefix(root).lstrip("/")
    return None


def _refusal(why: str) -> RunnerError:
    return RunnerError(f"[runner] cgroup is on, but {why}; switch it off, or let this user have a group (Delegate=yes)")
