"""The file of the index: making and opening it, several readers at once, and what to do when it is of no use.

::

    <home>/index/<host>.sqlite        with -wal and -shm beside it, which are SQLite's
    <home>/index/<host>.lock          held for a moment by who opens or removes the file
    <home>/index/<host>.looking       held by who brings it up to date

A write-ahead log, so that readers and the one writer do not wait for each other. It needs memory that all of them
share, so no two hosts share a file; two of one name notice that (`belongs_elsewhere`). `synchronous=NORMAL`: after a
power cut the last changes may be missing, which the next look finds, and it is never inconsistent. Where a file is
impossible (a home that cannot be written, a full disk, a filesystem without shared memory or locks) the index is in
memory.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator

from air_executor import _files
from air_executor.errors import AirExecutorError
from air_executor.index import files
from air_executor.index.files import Unusable
from air_executor.paths import Home

_LOCK_WAIT = 5.0
_KEPT_DAYS = 30
"""So long the file of a host is kept that nobody has used: containers may have another name each time."""

Opened = tuple[int, tuple[int, int] | None]
"""A process and the file that its connections are of."""


class Database:
    """Connections to the file, for any thread, also after a fork; or one to memory."""

    def __init__(self, home: Home) -> None:
        host = files.host_name()
        self.looking = _files.Lock(home.index_looking(host))
        self.in_memory = False
        self.generation = 0
        """Another number when it was made anew: what somebody knows of its content does not hold any more."""
        self._home = home
        self._path = home.index_file(host)
        self._lock = _files.Lock(home.index_lock(host))
        self._pool_lock = threading.Lock()
        self._free: list[sqlite3.Connection] = []
        self._opened: Opened = (0, None)
        """The process and the file that the free connections are of."""
        self._stamp: object = None
        """What the file has that was opened last, and no other."""
        self._memory: sqlite3.Connection | None = None
        self._memory_lock = threading.RLock()
        self._failures = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one moment; questions may leave tables of their own there.

        Raises:
            Unusable: see `replace`.
        """
        with self._connection() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are seen together, or not at all; raises as `reading`."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        in_memory = self._uses_memory()  # once: the lock and the connection must be of the same, whatever others do
        with self._memory_lock if in_memory else contextlib.nullcontext():
            try:
                connection, opened = (self._take_memory(), None) if in_memory else self._take()
            except (OSError, AirExecutorError, sqlite3.Error) as error:
                raise Unusable(f"{self._path}: {error}") from error
            try:
                yield connection
            except sqlite3.Error as error:
                self._undo(connection)
                if isinstance(error, sqlite3.ProgrammingError):
                    raise
                raise Unusable(f"{self._path}: {error}") from error
            except BaseException:
                self._undo(connection)
                raise
            if opened is not None:
                self._give_back(connection, opened)

    def _uses_memory(self) -> bool:
        if not self.in_memory and self._opened[1] is None:  # find out whether there can be a file
            try:
                self._give_back(*self._open())
            except (OSError, AirExecutorError, sqlite3.Error):
                self._to_memory()
        return self.in_memory

    def _take(self) -> tuple[sqlite3.Connection, Opened]:
        current = (os.getpid(), _files.identity(self._path))
        with self._pool_lock:
            if self._opened != current:
                self._drop_connections()
            if self._free:
                return self._free.pop(), self._opened
        return self._open()

    def _take_memory(self) -> sqlite3.Connection:
        if self._memory is None:
            self._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            self._memory.executescript(files.TABLES)
            self.generation += 1
        return self._memory

    def _undo(self, connection: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        if connection is not self._memory:
            connection.close()

    def _give_back(self, connection: sqlite3.Connection, opened: Opened) -> None:
        """Keep it, unless the file was replaced while it was in use."""
        with self._pool_lock:
            if self._opened == opened:
                self._free.append(connection)
                return
        connection.close()

    def _drop_connections(self) -> None:
        """Those of a process that this one was forked from stay as they are: to close one may remove the log."""
        if self._opened[0] == os.getpid():
            for connection in self._free:
                connection.close()
        else:
            _INHERITED.extend(self._free)
        self._free = []

    # --- the file ---

    def _open(self) -> tuple[sqlite3.Connection, Opened]:
        """A connection to a file of this schema, made if need be.

        Under the lock, because SQLite opens the file and its log one after the other, by their names.

        Raises:
            OSError, AirExecutorError, sqlite3.Error: there can be none.
        """
        self._path.parent.mkdir(mode=_files.PRIVATE_DIRECTORY, exist_ok=True)  # a home that is gone is not made again
        if not self._lock.acquire(wait=_LOCK_WAIT):
            raise Unusable(f"{self._lock.path} is held by somebody")
        try:
            connection = self._connect()
            try:
                opened = (os.getpid(), _files.identity(self._path))
                stamp = files.get(connection, "stamp")
            except BaseException:
                connection.close()
                raise
            with self._pool_lock:
                if self._opened != opened:
                    self._drop_connections()
                    self._opened = opened
                if self._stamp != stamp:  # a new file may have the inode of one that was removed
                    self._stamp = stamp
                    self.generation += 1
            return connection, opened
        finally:
            self._lock.release()

    def _connect(self) -> sqlite3.Connection:
        if os.path.lexists(self._path):
            try:
                return files.connect(self._path)
            except files.Foreign:
                pass
            except sqlite3.DatabaseError as error:
                if files.is_refusal(error):
                    raise
        files.remove(self._path)
        self._tidy()
        _files.write_new(self._path, b"")
        return files.connect(self._path, new=True)

    def _tidy(self) -> None:
        """Remove the files of hosts that nobody used for a long time."""
        if self._path.parent.is_symlink():  # where it leads to, others may have theirs
            return
        for path in self._path.parent.glob("*.sqlite"):
            with contextlib.suppress(OSError):
                used = max(each.stat().st_mtime for each in files.files_of(path) if each.exists())
                if time.time() - used > _KEPT_DAYS * 86400:
                    files.remove(path)
                    for lock in (".lock", ".looking"):
                        path.with_suffix(lock).unlink(missing_ok=True)

    def replace(self, why: Exception) -> None:
        """Make the index anew: in a file, and if that was of no use either, in memory."""
        self._failures += 1
        if self.in_memory:
            self.close()
            return
        if self._failures < 3 and self._is_replaced():
            return
        cause = why.__cause__
        refused = isinstance(cause, sqlite3.Error) and files.is_refusal(cause)
        if self._failures > 1 or refused or not self._remove():
            self._to_memory()

    def _is_replaced(self) -> bool:
        """Whether somebody has done so already. Of a home that cannot be looked at the next attempt tells."""
        try:
            return self._opened[1] != _files.identity(self._path)
        except OSError:
            return True

    def _remove(self) -> bool:
        try:
            if not self._lock.acquire(wait=_LOCK_WAIT):
                return False
            try:
                files.remove(self._path)
            finally:
                self._lock.release()
            self._give_back(*self._open())
        except (OSError, AirExecutorError, sqlite3.Error):
            return False
        return True

    def leave(self) -> None:
        """Use no file any more, as it is another's."""
        self._to_memory()

    def works(self) -> None:
        """Something was written: what goes wrong from now on is new."""
        self._failures = 0

    def _to_memory(self) -> None:
        with self._pool_lock:
            self._drop_connections()
            self._opened = (0, None)
        self.in_memory = True
        self.generation += 1

    def close(self) -> None:
        """Close what is open and not in use."""
        with self._pool_lock:
            self._drop_connections()
        with self._memory_lock:
            if self._memory is not None:
                self._memory.close()
                self._memory = None


_INHERITED: list[sqlite3.Connection] = []
