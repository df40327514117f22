"""One file of the index: its tables, opening it, and whose it is. `database` says who does that when."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
from pathlib import Path

from air_executor import processes
from air_executor.errors import AirExecutorError

SCHEMA = 1
"""Of the file; another one is made anew, and a later one left alone."""
_APPLICATION = 0x41495245
"""SQLite's number for files of one program."""
_BUSY_MS = 5000

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE job (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, job_id TEXT NOT NULL, state TEXT NOT NULL, queue TEXT NOT NULL,
  trigger TEXT NOT NULL, attempt INTEGER, priority INTEGER, created REAL NOT NULL, queued REAL NOT NULL, started REAL,
  finished REAL, wait REAL, run REAL, exit_kind TEXT, reason TEXT, exit_code INTEGER, exit_signal INTEGER, runner TEXT,
  wall REAL, cpu REAL, max_rss REAL, max_tree_rss REAL, dag_id TEXT,
  place TEXT, damaged INTEGER NOT NULL, inode INTEGER, modified INTEGER, size INTEGER, labels TEXT NOT NULL);
CREATE INDEX job_created ON job (created);
CREATE INDEX job_state ON job (state, created);
CREATE INDEX job_queue ON job (queue, created);
CREATE INDEX job_dag ON job (dag_id, created, state, queue, trigger);
CREATE INDEX job_finished ON job (finished, dag_id, state, queue, wait, run);
CREATE TABLE label (name TEXT, value TEXT, job INTEGER, PRIMARY KEY (name, value, job)) WITHOUT ROWID;
"""


_PRAGMAS = (
    "cell_size_check = ON",
    "trusted_schema = OFF",
    "temp_store = MEMORY",
    "cache_size = -16000",
    "wal_autocheckpoint = 4000",
    "synchronous = NORMAL",
)


class Foreign(Exception):
    """The file is none of ours, or of an earlier schema."""


class Unusable(AirExecutorError):
    """The file is damaged, locked for too long, or the disk refuses: `Database.replace` finds another way."""


def host_name() -> str:
    """The host as the name of a file; the whole name, as two that share the first part may share the home."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname()).strip("-.")[:100] or "host"


def belongs_elsewhere(connection: sqlite3.Connection) -> bool:
    """Whether another host of the same name has taken the file over."""
    return get(connection, "boot") != processes.boot_id()


def take_over(connection: sqlite3.Connection) -> None:
    """Make the file this host's. Whose it was cannot be told from this one before it was started anew."""
    put(connection, "boot", processes.boot_id())


def get(connection: sqlite3.Connection, name: str) -> object:
    """A value that was put; None if there is none."""
    found = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return found[0] if found else None


def put(connection: sqlite3.Connection, name: str, value: object) -> None:
    """Keep a value beside the jobs."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def connect(path: Path, *, new: bool = False) -> sqlite3.Connection:
    """A connection to a file of this schema.

    Args:
        new: whether the file is empty, and is to become one.

    Raises:
        Foreign: it is something else.
        Unusable: it is of a later version, which may be using it.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise Foreign
    uri = f"{path.absolute().as_uri()}?mode=rw"  # it is made by us, with our mode, and never by SQLite
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise sqlite3.OperationalError("unable to open a write-ahead log")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the log, too
        if new:
            _create(connection)
        else:
            _check_schema(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_schema(connection: sqlite3.Connection) -> None:
    program = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if program != _APPLICATION or version < SCHEMA:
        raise Foreign
    if version > SCHEMA:
        raise Unusable("the index was made by a later version")


def _create(connection: sqlite3.Connection) -> None:
    connection.executescript(
        f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {SCHEMA};"
    )
    put(connection, "stamp", os.urandom(8).hex())
    connection.execute("COMMIT")


_REFUSALS = ("full", "readonly", "unable to open", "locked", "permission")


def is_refusal(error: sqlite3.Error) -> bool:
    """Whether the disk or another process refused, so that the same file would be of no use again.

    By the words, as Python 3.10 does not tell SQLite's numbers.
    """
    return isinstance(error, sqlite3.OperationalError) and any(word in str(error).lower() for word in _REFUSALS)


def files_of(path: Path) -> list[Path]:
    return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]


def remove(path: Path) -> None:
    for each in reversed(files_of(path)):
        each.unlink(missing_ok=True)
