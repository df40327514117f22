"""Files that are either whole or absent: atomic writes, durable directories, locks.

Nothing here knows what a job is. Every function raises `OSError` for the system's refusals, and `CorruptFileError`
where the content is not what it should be.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from air_executor import _json, processes, temporaries
from air_executor.errors import CorruptFileError

TRANSIENT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.EINTR, errno.ETIMEDOUT})
"""Errors that say something of the system at this moment, and nothing of a file."""

NO_LOCK = frozenset({errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EOPNOTSUPP})
"""Errors of opening a directory, a link, a fifo or a socket as a lock."""

READ_SIZE = 2**16
PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700

SYNCS_FILESYSTEMS = sys.platform == "linux"
"""Whether there is `sync_filesystem`."""


def read_bytes(path: Path) -> bytes:
    """What `path` holds.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file.
        CorruptFileError: it is none that can be read, such as a directory.
        OSError: the system refuses at this moment.
    """
    try:
        return _read_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():  # what is written there would come to nothing
            raise CorruptFileError(path, "cannot be read: it is a link that leads nowhere") from None
        raise
    except OSError as error:
        if error.errno in TRANSIENT:  # nobody may take a sound file for a damaged one
            raise
        raise CorruptFileError(path, f"cannot be read: {error.strerror}") from None


def _read_regular(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # one would wait for the other end of a fifo
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise CorruptFileError(path, "cannot be read: it is not a file")
        data = os.read(fd, status.st_size + 1)
        while more := os.read(fd, READ_SIZE):
            data += more
        return data
    finally:
        os.close(fd)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; raises as `read_bytes`, and `CorruptFileError` if it is not one JSON object."""
    raw = read_bytes(path)
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        what = "is empty" if not raw.strip() else f"is not valid JSON ({error})"
        raise CorruptFileError(path, what) from None
    if not isinstance(value, dict):
        raise CorruptFileError(path, f"should hold a JSON object, holds a {type(value).__name__}")
    return value


@contextlib.contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """The system says what went wrong with a descriptor, and not whose it was."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_new(path: Path | str, data: bytes, *, mode: int = PRIVATE_FILE, durable: bool = False) -> None:
    """Create `path`, which must not exist yet. Not atomic: for directories that nobody sees yet, and for markers."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        _write_all(fd, data)
        if durable:
            os.fsync(fd)
    except BaseException as error:  # a full disk: half a file would count as a whole one
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the system says what went wrong with a descriptor, and not whose it was
        raise
    finally:
        os.close(fd)


def fill_directory(directory: Path, files: Mapping[str, bytes], *, durable: bool) -> None:
    """Create files, given by name, as `write_new` does, in a directory that goes if this fails.

    Those that shall be durable, and all names in the directory, are on their way before the first is waited for, and
    that is the directory: meanwhile the files are written, and a filesystem with a journal writes that once for all.
    """
    contents = {f"{directory}/{name}": data for name, data in files.items()}  # a `Path` of each takes longer
    if not durable:
        for path, data in contents.items():
            write_new(path, data)
        return
    with contextlib.ExitStack() as opened:
        fds = {}
        for path, data in contents.items():
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
            opened.callback(os.close, fd)
            fds[path] = fd
            with _naming(path):
                _write_all(fd, data)
        for fd in fds.values():
            _begin_to_save(fd)
        sync_directory(directory)
        for path, fd in fds.items():
            with _naming(path):
                os.fsync(fd)


def _begin_to_save(fd: int) -> None:
    """Linux does so when told that something is not needed in memory, and keeps it there all the same if that is less
    than a page."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):  # an advice
            os.posix_fadvise(fd, 0, 1, os.POSIX_FADV_DONTNEED)


def replace(path: Path, data: bytes, *, mode: int = PRIVATE_FILE, durable: bool = False) -> None:
    """Write `path` so that a reader sees the old content or the new, never a part."""
    temporary = temporaries.replacement(path)
    try:
        write_new(temporary, data, mode=mode, durable=durable)
        _put_in_place(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def _put_in_place(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)  # noqa: PTH105
    except IsADirectoryError:  # somebody's damage: it is kept, and must not be in the way for ever
        set_directory_aside(path)
        temporary.replace(path)


def replace_object(path: Path, value: dict[str, Any], *, durable: bool = False) -> None:
    """`replace` with JSON."""
    replace(path, _json.pretty(value), durable=durable)


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append one JSON line. One write call, so that lines of several writers do not mix."""
    line = _json.line(value)
    fd = open_to_append(path)
    try:
        # After a line that was cut off by a crash a new one begins; else this one would be lost with it.
        with _naming(path):
            _write_all(fd, line if _ends_with_newline(fd) else b"\n" + line)
    finally:
        os.close(fd)


def open_to_append(path: Path) -> int:
    """A descriptor at the end of a private file, created if it is missing."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)


def time_in(directory: Path) -> float:
    """What time it is for whoever stamps the files of a directory, in seconds since the epoch."""
    path = temporaries.replacement(directory / "clock")  # it names its writer, should that be killed here
    try:
        write_new(path, b"")
        return path.stat().st_mtime
    finally:
        path.unlink(missing_ok=True)


def create_marker(path: Path) -> bool:
    """Create an empty file; False if it is there already."""
    try:
        write_new(path, b"")
    except FileExistsError:
        return False
    return True


def create_quietly(path: Path) -> bool:
    """`create_marker` that wakes nobody who watches for files that were written and closed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    except FileExistsError:
        return False
    os.close(fd)
    return True


def discard(path: Path) -> None:
    """Remove a file, if there is one. A directory of its name is not ours: it stays."""
    try:
        os.unlink(path)  # noqa: PTH108  # there is none, mostly, and `Path` takes its time to find that out
    except FileNotFoundError:
        pass
    except OSError:
        if not path.is_dir():
            raise


def set_aside(path: Path) -> None:
    """Rename what is there to a name beside it that is free, for inspection."""
    with contextlib.suppress(FileNotFoundError):
        path.rename(_free_name(path))


def set_directory_aside(path: Path) -> None:
    """`set_aside` for a directory alone, also while others do the same: a file that is there by then stays."""
    target = _free_name(path)
    target.mkdir(mode=PRIVATE_DIRECTORY)
    try:
        path.rename(target)  # an empty directory is replaced by a directory, and never by a file
    except NotADirectoryError:
        target.rmdir()


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def move(source: Path, target: Path) -> bool:
    """Rename; False if the source is gone, which is how a claim is lost."""
    try:
        source.rename(target)
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise
        return False
    return True


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _naming(path):
            os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network filesystems cannot sync a directory: it is durable at once there
            raise
    finally:
        os.close(fd)


def sync_filesystem(path: Path) -> None:
    """Make everything on the filesystem of `path` durable in one call."""
    import ctypes

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if processes.libc().syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(fd)


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file or directory from one that was made anew under its name; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def make_directory(path: Path) -> None:
    """Create a private directory and what is missing above it."""
    path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)


def make_lasting_directory(path: Path) -> None:
    """`make_directory`, of which a power cut takes nothing."""
    missing = list(itertools.takewhile(lambda each: not each.exists(), (path, *path.parents)))
    make_directory(path)
    for each in missing:
        with contextlib.suppress(PermissionError):  # of a directory that may be written to, and not read
            sync_directory(each.parent)


class Lock:
    """An exclusive `flock` on a file, free the moment its holder dies.

    The descriptor is not inherited by programs that the holder executes; a forked child shares it, so a job stays
    locked until its last forked process is gone, which is what "may still be alive" means.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self, *, wait: float = 0.0) -> bool:
        """Take the lock, trying for `wait` seconds; False if another holds it.

        Raises:
            CorruptFileError: something else than a file is in its place.
        """
        deadline = time.monotonic() + wait
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def _try(self) -> bool:
        fd = _open_lock(self.path)
        try:
            with _naming(self.path):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
            # Its directory may have been removed, and made anew, since it was opened: then the lock keeps nobody out.
            if identity(self.path) == (status.st_dev, status.st_ino):
                self._fd, fd = fd, -1
        except BlockingIOError:
            return False
        finally:
            if fd >= 0:
                os.close(fd)
        return self.held

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        fd, self._fd = self._fd, None  # first: once it is closed another thread may have taken the lock by this object
        if fd is not None:
            os.close(fd)

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None


def _open_lock(path: Path) -> int:
    """A link is no lock: two that lead to one file would be one."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as error:
        if error.errno not in NO_LOCK:
            raise
        raise CorruptFileError(path, "cannot be locked: it is not a file") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise CorruptFileError(path, "cannot be locked: it is not a file")
    return fd


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock. A look only: it may change the next moment."""
    if not os.path.exists(path):  # noqa: PTH110  # `Path` raises in a directory that is closed to us
        return False
    lock = Lock(path)
    try:
        locked = not lock.acquire()
    except CorruptFileError:
        return False
    lock.release()
    return locked


def _ends_with_newline(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return size == 0 or os.pread(fd, 1, size - 1) == b"\n"


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data) if data else 0
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])
