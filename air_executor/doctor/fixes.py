"""What `--fix` does: modes and directories of the home, what dead processes left, the spool, damaged caches.

Never the content of a job, a process, Airflow's configuration, or what belongs to another user: `mine` is asked before
each change, and no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from air_executor import _files, respool, runners, temporaries
from air_executor.doctor.findings import Finding, Remedy
from air_executor.errors import AirExecutorError
from air_executor.paths import Home

LOCK_WAIT = 2.0
"""Seconds to wait for others who have a file."""


def mend(wanted: Iterable[Remedy]) -> Iterator[str]:
    """Apply remedies; a line for each thing that was done, or could not be."""
    for remedy in wanted:
        try:
            yield from remedy.apply()
        except (OSError, AirExecutorError) as error:
            yield f"could not {remedy.does}: {error}"


def remedies(findings: Iterable[Finding]) -> list[Remedy]:
    """What there is to do, without repetitions."""
    found = {finding.remedy.does: finding.remedy for finding in findings if finding.remedy is not None}
    return list(found.values())


def mine(home: Home, path: Path) -> bool:
    """Whether something of the home belongs to this user, and neither is a link nor below one that is in the home: what
    such a link leads to has other things in it."""
    try:
        status = path.lstat()
        linked = any(stat.S_ISLNK(parent.lstat().st_mode) for parent in _between(home, path))
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode) and not linked


def _between(home: Home, path: Path) -> Iterator[Path]:
    return (parent for parent in path.parents if home.root in parent.parents)


def set_mode(home: Home, path: Path, mode: int) -> Remedy | None:
    """Let a file or directory have this mode; None if it is not ours."""
    if not mine(home, path):
        return None

    def apply() -> Iterator[str]:
        if mine(home, path):
            path.chmod(mode)
            yield f"set the mode of {path} to {mode:04o}"

    return Remedy(f"set the mode of {path} to {mode:04o}", apply)


def make_directories(home: Home) -> Remedy | None:
    """What is missing of a home; None where there is something else than a home."""
    if not mine(home, home.root) or not _looks_like_home(home):
        return None

    def apply() -> Iterator[str]:
        for directory in home.directories:
            if not directory.is_dir():
                _files.make_directory(directory)
                yield f"made the directory {directory}"

    return Remedy(f"make the missing directories of {home.root}", apply)


def _looks_like_home(home: Home) -> bool:
    """Who gave a wrong --home shall find nothing new there."""
    try:
        inside = {path.name for path in home.root.iterdir()}
    except OSError:
        return False
    return not inside or "jobs" in inside or "spool" in inside


def remove_temporaries(home: Home, paths: Iterable[Path]) -> Remedy | None:
    """What processes that are gone began to write."""
    return _each(home, paths, temporaries.remove, "remove the temporary files of processes that are gone")


def remove_files(home: Home, paths: Iterable[Path], what: str, *, lock: Path | None = None) -> Remedy | None:
    """Files of no use; under the lock of those who might be making them anew."""
    return _each(home, (path for path in paths if not path.is_dir()), _unlink, f"remove {what}", lock)


def _unlink(path: Path) -> bool:
    path.unlink(missing_ok=True)
    return True


def _each(
    home: Home, paths: Iterable[Path], remove: Callable[[Path], bool], does: str, lock: Path | None = None
) -> Remedy | None:
    ours = [path for path in paths if mine(home, path)]
    if not ours:
        return None

    def apply() -> Iterator[str]:
        with _held(lock):
            for path in ours:
                if mine(home, path) and remove(path):
                    yield f"removed {path}"

    return Remedy(f"{does}: {', '.join(map(str, ours))}", apply)


@contextlib.contextmanager
def _held(path: Path | None) -> Iterator[None]:
    lock = None if path is None else _files.Lock(path)
    if lock is not None and not lock.acquire(wait=LOCK_WAIT):
        raise TimeoutError(f"{lock.path} is held by another process")
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def forget_dead(home: Home) -> Remedy | None:
    """The files of runners that died and left no job."""
    if not mine(home, home.runners):
        return None

    def apply() -> Iterator[str]:
        before = {info.id for info in runners.all_runners(home)}
        runners.forget_dead(home, runners.observe(home))
        for gone in sorted(before - {info.id for info in runners.all_runners(home)}):
            yield f"removed {home.runner(gone)}"

    return Remedy(f"remove what runners that died left in {home.runners}", apply)


def spool_directories(home: Home) -> list[Path]:
    """Those of queues and holders."""
    return [path for parent in (home.waiting, home.claimed) for path in sorted(parent.iterdir()) if path.is_dir()]


def rebuild_spool(home: Home) -> Remedy | None:
    """Bring it in line with the jobs; None if one of its directories leads elsewhere."""
    if not all(mine(home, path) for path in (home.spool, home.finished, *spool_directories(home))):
        return None

    def apply() -> Iterator[str]:
        for change in respool.rebuild(home):
            yield f"{change.job}: {change.what}"

    return Remedy(f"bring {home.spool} in line with the jobs", apply)


def remove_command(paths: Iterable[Path]) -> str:
    """What a person types."""
    return shlex.join(["rm", "-f", *map(str, paths)])
