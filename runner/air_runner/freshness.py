"""Whether what a process has loaded is still what is on disk: its modules, files it was told of, installed packages.

A look costs some microseconds for each file, so it holds for a second. Only what can be seen from outside counts:
modification time, size, inode. What was changed while it was being loaded counts as changed.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator

LOOK_INTERVAL = 1.0
"""Seconds for which the answer of one look holds."""

PACKAGES = (".dist-info", ".egg-info", ".egg-link", ".pth")
"""Endings of the names by which a directory of `sys.path` says what is installed in it."""

_CLOCK_STEP = 0.02
"""Seconds by which the clock that stamps files may be behind."""

_Sign = tuple[int, int, int] | frozenset[str] | None
"""Time, size and inode of a file; the names in a directory; None if there is neither."""


class Freshness:
    """What was on disk when this process loaded it.

    Args:
        since: when it began to load, in seconds since the epoch.
    """

    def __init__(self, since: float) -> None:
        self._since = since - _CLOCK_STEP
        self._files: dict[str, _Sign] = {}
        self._packages = {path: _Packages(path) for path in _search_path()}
        self._looked_at = time.monotonic()
        self._found: str | None = None

    def note(self, paths: Iterable[os.PathLike[str] | str] = (), since: float | None = None) -> None:
        """Remember the modules that are loaded by now, and these files; of directories the Python files below them.

        Args:
            since: when loading them began, if that was later than the first.
        """
        began = self._since if since is None else since - _CLOCK_STEP
        now = time.time() + _CLOCK_STEP
        for path in (*module_files(), *(file for each in paths for file in _expand(os.fspath(each)))):
            if path not in self._files:
                sign = self._files[path] = _sign(path)
                if isinstance(sign, tuple) and began <= sign[0] / 1e9 <= now:
                    self._found = self._found or f"{path} was changed as it was loaded"
        for path in _search_path():
            if path not in self._packages:
                self._packages[path] = _Packages(path)

    def change(self) -> str | None:
        """What is not as it was loaded, in a few words; None if everything is."""
        moment = time.monotonic()
        if self._found is None and moment - self._looked_at >= LOOK_INTERVAL:
            self._found, self._looked_at = self._look(), moment
        return self._found

    def _look(self) -> str | None:
        for path, sign in self._files.items():
            if _sign(path) != sign:
                return f"{path} has changed"
        for path, packages in self._packages.items():
            if packages.have_changed():
                return f"packages were installed or removed in {path}"
        return None


class Snapshot:
    """Files and directories as they were when something was made of them; looked at every time, for they are few.

    Args:
        since: when making it began, in seconds since the epoch.
    """

    def __init__(self, paths: Iterable[str], since: float) -> None:
        self._signs = {path: _exact_sign(path) for path in paths}
        self._since = since - _CLOCK_STEP

    def change(self) -> str | None:
        """Which of them is not, or may not be, as it was; None if all are."""
        for path, sign in self._signs.items():
            if _exact_sign(path) != sign:
                return f"{path} has changed"
            if sign is not None and self._since <= sign[0] / 1e9 <= time.time() + _CLOCK_STEP:
                return f"{path} was changed as it was loaded"
        return None


def _exact_sign(path: str) -> tuple[int, int, int] | None:
    """Of a directory, it changes with what is in it by name."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class _Packages:
    """What a directory says of the packages in it. One that is installed anew has another inode."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._at, self._names = self._time(), self._read()

    def have_changed(self) -> bool:
        """Reads the directory only if something in it was created or removed, which may be anything."""
        at = self._time()
        if at == self._at:
            return False
        self._at = at
        return self._read() != self._names

    def _time(self) -> int | None:
        try:
            return os.stat(self._path).st_mtime_ns  # noqa: PTH116
        except OSError:
            return None

    def _read(self) -> frozenset[tuple[str, int]]:
        try:
            with os.scandir(self._path) as entries:
                return frozenset((entry.name, entry.inode()) for entry in entries if entry.name.endswith(PACKAGES))
        except OSError:
            return frozenset()


def module_files() -> set[str]:
    """The files of all modules that this process has loaded."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return {file for file in files if isinstance(file, str)}


def _search_path() -> list[str]:
    return [path or os.curdir for path in sys.path]


def _expand(path: str) -> Iterator[str]:
    """A file; or a directory with all Python files and directories below it."""
    yield path
    for directory, below, names in os.walk(path):
        below[:] = [name for name in below if _is_source(name, is_directory=True)]
        yield from (f"{directory}/{name}" for name in below)
        yield from (f"{directory}/{name}" for name in names if _is_source(name, is_directory=False))


def _is_source(name: str, *, is_directory: bool) -> bool:
    """Whether a name in a directory of source files counts; bytecode comes and goes."""
    return not name.startswith((".", "__pycache__")) if is_directory else name.endswith(".py")


def _sign(path: str) -> _Sign:
    try:
        status = os.stat(path)  # noqa: PTH116
        if not stat.S_ISDIR(status.st_mode):
            return status.st_mtime_ns, status.st_size, status.st_ino
        with os.scandir(path) as entries:
            return frozenset(entry.name for entry in entries if _is_source(entry.name, is_directory=entry.is_dir()))
    except OSError:
        return None
