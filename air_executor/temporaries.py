"""Temporary files and directories: how they are named, and which of them nobody will ever finish.

::

    jobs/.tmp-<writer>                a submission that is being written
    jobs/.tmp-removed-<writer>        a job that is being removed
    <directory>/.<file>.<writer>.tmp  what is about to replace a file
    jobs/<job>/.<file>.attempt-<n>.tmp  what replaces a file once state.json says that this attempt has begun

`<writer>` says which process it was, so that what a dead one left can go at once, and what a living one writes is left
alone however long it takes.
"""

from __future__ import annotations

import binascii
import contextlib
import functools
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from air_executor import processes
from air_executor.paths import TEMPORARY_PREFIX

GIVEN_UP_TIME = 86_400.0
"""Seconds after which a temporary goes whose writer cannot be seen from here: a clock may be an hour wrong."""

_SUFFIX = ".tmp"
_WRITER = re.compile(r"(?P<host>[0-9a-f]{8})(?P<boot>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{8}(\.tmp)?\Z")


def submission(jobs: Path) -> Path:
    """Where to write a job before it gets its name."""
    return jobs / f"{TEMPORARY_PREFIX}{writer()}"


def removal(jobs: Path) -> Path:
    """Where a job goes before its files are removed."""
    return jobs / f"{TEMPORARY_PREFIX}removed-{writer()}"


def replacement(path: Path) -> Path:
    """Where to write what shall replace a file. No longer than it must be: a name may have 255 bytes."""
    return path.with_name(f".{path.name[:150]}.{writer()}{_SUFFIX}")


def of_attempt(path: Path, attempt: int) -> Path:
    """Where to write what shall replace a file when an attempt begins."""
    return path.with_name(f".{path.name}.attempt-{attempt}{_SUFFIX}")


def writer() -> str:
    """What is in a name that only this process uses."""
    return f"{_this_process(os.getpid())}-{os.urandom(4).hex()}"


@functools.lru_cache(maxsize=1)
def _this_process(pid: int) -> str:
    """By pid, because a forked process is another."""
    return f"{_short(processes.host())}{_short(processes.boot_id())}-{pid}-{processes.identify(pid).start_time}"


os.register_at_fork(after_in_child=_this_process.cache_clear)


@functools.lru_cache(maxsize=8)
def _short(text: str) -> str:
    return f"{binascii.crc32(text.encode()):08x}"


def is_temporary(name: str) -> bool:
    """Whether a file or directory of that name is a temporary."""
    return name.startswith(TEMPORARY_PREFIX) or (name.startswith(".") and name.endswith(_SUFFIX))


def within(directory: Path) -> list[Path]:
    """The temporaries in a directory."""
    try:
        names = os.listdir(directory)  # noqa: PTH208  # `iterdir` makes a path of each
    except OSError:  # a later look finds them
        return []
    return [directory / name for name in names if is_temporary(name)]


def abandoned(directory: Path) -> Iterator[Path]:
    """The temporaries in a directory that nobody will ever finish."""
    for path in within(directory):
        with contextlib.suppress(FileNotFoundError):
            if is_of_the_dead(path.name) or time.time() - path.lstat().st_mtime > GIVEN_UP_TIME:
                yield path


def is_of_the_dead(name: str) -> bool:
    """Whether the process in a name was one of this host and is gone."""
    return writer_lives(name) is False


def has_writer(path: Path) -> bool:
    """Whether its name says which process it was of, so that it is ours whatever else there may be beside it."""
    return _WRITER.search(path.name) is not None


def writer_lives(name: str) -> bool | None:
    """Whether the process in a name lives; None if there is none in it, or one of another host."""
    found = _WRITER.search(name)
    if found is None or found["host"] != _short(processes.host()):
        return None
    if found["boot"] != _short(processes.boot_id()):
        return False
    return processes.start_time(int(found["pid"])) == int(found["start"])


def refresh(directory: Path) -> None:
    """Let this host see what others have just written there: NFS looks anew at a directory that was changed here."""
    path = directory / f".look.{writer()}{_SUFFIX}"
    with contextlib.suppress(OSError):  # who cannot write there sees it when the cache is old enough
        path.touch()
        path.unlink()


def remove(path: Path) -> bool:
    """Remove one; whether it is gone. What is left of it is found again."""
    if not os.path.lexists(path):
        return True
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            import shutil

            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return not os.path.lexists(path)
