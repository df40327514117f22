"""A throw-away PostgreSQL server: Debian's binaries, a unix socket and no port, data in a temporary directory.

Nothing here knows Airflow; a stack gets a fresh database by name.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg2  # type: ignore[import-untyped]

from tests.airflow import processes, waiting

# The server's data lives for one test session, so durability is only cost.
UNSAFE_BUT_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300")


class Postgres:
    """One server. Use as a context manager."""

    def __init__(self) -> None:
        # pytest's tmp_path is closed to the user postgres and its name can be too long for a unix socket.
        self.directory = Path(tempfile.mkdtemp(prefix="air-pg-"))
        self.directory.chmod(0o755)
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Postgres:
        data = self.directory / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            for path in (data, self.directory):
                shutil.chown(path, "postgres")
        self._run("initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-D", data)
        self._server = self._start(data)
        try:
            waiting.until(self._accepts, "PostgreSQL to accept connections", 60)
        except TimeoutError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            # An immediate shutdown (QUIT) does not wait for clients that a failed test left connected.
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(30)
            self._server = None
        processes.end(processes.belonging(self.directory), 5)
        shutil.rmtree(self.directory)

    @property
    def pid(self) -> int:
        """The process that all others of the server have as their parent."""
        assert self._server is not None
        return self._server.pid

    def create_database(self, name: str) -> str:
        """Create the database and return its SQLAlchemy address."""
        connection = _connection(self.directory, "postgres")
        connection.autocommit = True  # a database cannot be created inside a transaction
        try:
            connection.cursor().execute(f'create database "{name}"')
        finally:
            connection.close()
        return f"postgresql+psycopg2://postgres@/{name}?host={self.directory}"

    def query(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        connection = _connection(self.directory, database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def execute(self, database: str, statements: str) -> None:
        connection = _connection(self.directory, database)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statements)
        finally:
            connection.close()

    def _start(self, data: Path) -> subprocess.Popen[bytes]:
        options = [part for option in UNSAFE_BUT_FAST for part in ("-c", option)]
        where = ["-D", str(data), "-k", str(self.directory), "-c", "listen_addresses="]
        with (self.directory / "postgres.log").open("ab") as log:
            popen: subprocess.Popen[bytes] = subprocess.Popen(
                [_program("postgres"), *where, *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_as_postgres(),
            )
        return popen

    def _run(self, program: str, *arguments: object) -> None:
        command = [_program(program), *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **_as_postgres())

    def _accepts(self) -> bool:
        try:
            _connection(self.directory, "postgres").close()
        except psycopg2.OperationalError:
            return False
        return True


def _connection(directory: Path, database: str) -> Any:
    return psycopg2.connect(host=str(directory), user="postgres", dbname=database)


def _program(name: str) -> str:
    """Debian keeps the server's programs out of PATH, one directory for each version."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name}: these tests need the PostgreSQL server's programs (apt install postgresql)")
    return found


def _as_postgres() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {"cwd": "/"}
    user = pwd.getpwnam("postgres")
    return {"cwd": "/", "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
