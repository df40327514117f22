"""Looking at jobs, and keeping what they say.

What tells that a job has changed are inode, time and size of its state.json, which is never changed but replaced.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from air_executor import model, store
from air_executor.errors import AirExecutorError, CorruptFileError, NotFoundError
from air_executor.index import rows
from air_executor.index.database import Database
from air_executor.index.filters import marks, storable
from air_executor.index.rows import JobRow
from air_executor.paths import STATE, Home

BATCH = 400
"""So many jobs are read, and then written together."""
_BIGGEST = 2**63 - 1

Sign = tuple[int, int, int]
"""Inode, time and size of a state.json."""


class Known(NamedTuple):
    """What the index has of a job."""

    id: int
    sign: Sign
    damaged: bool
    labels: str


class Kept(NamedTuple):
    """What is written of a job. A job itself takes more memory, and there are many."""

    values: tuple[Any, ...]
    labels_json: str
    labels: list[tuple[str, str]]


def look(home: Home, index: Database, names: Sequence[str]) -> None:
    """Look at these jobs; keep what those say that are new or have changed, and forget those that are gone."""
    with index.reading() as connection:
        known = _known(connection, names)
    gone: list[Known] = []
    changed: list[tuple[Known | None, Kept]] = []
    for name in names:
        had = known.get(name)
        sign = sign_of(home, name)  # before it is read: what changes meanwhile is seen the next time
        if had is not None and had.sign == sign and not had.damaged:
            continue
        try:
            job, damaged = _read(home, name)
            changed.append((had, _kept(job, sign, damaged)))
        except NotFoundError:
            if had is not None:
                gone.append(had)
        except (OSError, AirExecutorError):
            continue  # what cannot be looked at now is left as it was, and looked at again
    if gone or changed:
        with index.writing() as connection:
            for had in gone:
                _drop(connection, had)
            labels = [pair for each in changed for pair in _keep(connection, *each)]
            connection.executemany("INSERT OR IGNORE INTO label VALUES (?, ?, ?)", sorted(labels))


def changed_after(home: Home, index: Database, cursor: int, count: int) -> tuple[int | None, list[str]]:
    """Look at the files of the next jobs that the index has.

    Returns:
        Where to go on, None after the last; and the jobs that have to be looked at more closely.
    """
    with index.reading() as connection:
        found = connection.execute(
            "SELECT id, name, inode, modified, size, damaged FROM job WHERE id > ? ORDER BY id LIMIT ?", (cursor, count)
        ).fetchall()
    changed = [name for _, name, *sign, damaged in found if damaged or sign_of(home, name) != tuple(sign)]
    return (found[-1][0] if found else None), changed


def sign_of(home: Home, name: str) -> Sign:
    """What changes when a job does. A path is put together as text: it is done 100,000 times."""
    try:
        status = os.stat(f"{home.jobs}/{name}/{STATE}")  # noqa: PTH116
    except OSError as error:
        return (-1, error.errno or 0, -1)
    return (status.st_ino & _BIGGEST, status.st_mtime_ns & _BIGGEST, status.st_size & _BIGGEST)


def _read(home: Home, name: str) -> tuple[model.Job, bool]:
    """The job, and whether it only stands for one that is damaged."""
    try:
        return store.read(home, name), False
    except CorruptFileError:
        return store.read_or_damaged(home, name), True


def _known(connection: sqlite3.Connection, names: Sequence[str]) -> dict[str, Known]:
    found = connection.execute(
        f"SELECT name, id, inode, modified, size, damaged, labels FROM job WHERE name IN ({marks(names)})", names
    )
    return {name: Known(id, (i, m, s), bool(damaged), labels) for name, id, i, m, s, damaged, labels in found}


# --- Writing rows ---

_OWN = ("name", "job_id", *JobRow._fields[2:-1], "labels")
_BESIDE = ("dag_id", "place", "damaged", "inode", "modified", "size")
_ALL = (*_OWN, *_BESIDE)

_INSERT = f"INSERT INTO job ({', '.join(_ALL)}) VALUES ({marks(_ALL)})"
_UPDATE = f"UPDATE job SET {', '.join(f'{name} = ?' for name in _ALL)} WHERE id = ?"


def _kept(job: model.Job, sign: Sign, damaged: bool) -> Kept:
    row = rows.row_of(job)
    dag = job.labels.get("dag_id")
    values = (*row, None if dag is None else storable(dag), rows.place_of(job), damaged, *sign)
    return Kept(values, row.labels_json, [(storable(name), storable(value)) for name, value in job.labels.items()])


def _keep(connection: sqlite3.Connection, had: Known | None, kept: Kept) -> list[tuple[str, str, int]]:
    """Write what a job says; the labels that are still to be written are returned, each with its job."""
    if had is None:
        id = connection.execute(_INSERT, kept.values).lastrowid or 0
    else:
        id = had.id
        connection.execute(_UPDATE, (*kept.values, id))
        if had.labels == kept.labels_json:
            return []
        _drop_labels(connection, had)
    return [(name, value, id) for name, value in kept.labels]


def _drop(connection: sqlite3.Connection, had: Known) -> None:
    _drop_labels(connection, had)
    connection.execute("DELETE FROM job WHERE id = ?", (had.id,))


def _drop_labels(connection: sqlite3.Connection, had: Known) -> None:
    pairs = ((storable(name), storable(value), had.id) for name, value in json.loads(had.labels).items())
    connection.executemany("DELETE FROM label WHERE name = ? AND value = ? AND job = ?", pairs)
