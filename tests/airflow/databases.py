"""The metadata databases a stack can run on. Both answer `query`, which only reads."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.airflow import postgres

NAMES = ("sqlite", "postgres")
ON_POSTGRES = pytest.mark.parametrize("shared_airflow", ["postgres"], indirect=True)
"""For a test that is slow and does not depend on the database."""


class Database(Protocol):
    """What a stack needs of its metadata database."""

    url: str

    def query(self, statement: str) -> list[tuple[Any, ...]]: ...


class SqliteDatabase:
    """One file, as Airflow sets it up by default."""

    def __init__(self, file: Path) -> None:
        self.url = f"sqlite:///{file}"
        self._file = file

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=30)) as connection:
            return list(connection.execute(statement).fetchall())


class PostgresDatabase:
    """One database on the session's server."""

    def __init__(self, server: postgres.Postgres, database: str) -> None:
        self.url = server.create_database(database)
        self._server, self._database = server, database

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self._server.query(self._database, statement)
