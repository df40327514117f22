"""Files that are whole or absent, markers, and locks between processes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor import _files, _json
from air_executor.errors import CorruptFileError
from air_executor.testing import wait_for
from tests.faults import nasty


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=4))
def test_what_is_written_is_utf8_json_and_comes_back(value: dict[str, object]) -> None:
    raw = _json.pretty(value)
    raw.decode("utf-8")
    assert json.loads(raw) == value


def test_bytes_of_a_command_line_that_are_no_text_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    _files.replace_object(path, {"args": ["caf\udce9", "é"]})
    assert _files.read_object(path) == {"args": ["caf\udce9", "é"]}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b'{"a": 1', "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b"[]", "should hold a JSON object, holds a list"),
        (b"[" * 100_000, "is not valid JSON"),
    ],
)
def test_a_damaged_file_is_named_with_the_reason(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(raw)
    with pytest.raises(CorruptFileError, match=message) as caught:
        _files.read_object(path)
    assert caught.value.path == str(path) and str(path) in str(caught.value)


def test_replacing_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a"
    _files.replace(path, b"old")
    _files.replace(path, b"new", durable=True)
    assert [each.name for each in tmp_path.iterdir()] == ["a"] and path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_replacement_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no")

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        _files.replace(tmp_path / "a", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_directory_in_place_of_a_file_is_kept_and_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "content").touch()
    _files.replace(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new" and (tmp_path / "a.damaged-1" / "content").exists()


@pytest.mark.parametrize("odd", nasty.ODD)
def test_what_is_no_file_is_no_lock(tmp_path: Path, odd: str) -> None:
    nasty.ODD[odd](tmp_path / "lock")
    with pytest.raises(CorruptFileError, match="lock: cannot be locked: it is not a file"):
        _files.Lock(tmp_path / "lock").acquire()
    assert not _files.is_locked(tmp_path / "lock")


def test_a_link_that_leads_nowhere_is_no_missing_file(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/nowhere/at/all")
    with pytest.raises(CorruptFileError, match="leads nowhere"):
        _files.read_object(tmp_path / "a")


def test_a_line_after_one_that_was_cut_off_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "events"
    _files.append_line(path, {"n": 1})
    with path.open("ab") as file:
        file.write(b'{"n": 2, "cut')
    _files.append_line(path, {"n": 3})
    assert path.read_bytes().splitlines() == [b'{"n":1}', b'{"n": 2, "cut', b'{"n":3}']


def test_a_marker_is_created_once(tmp_path: Path) -> None:
    assert _files.create_marker(tmp_path / "m")
    assert not _files.create_marker(tmp_path / "m")


def test_a_move_of_what_is_gone_is_lost_and_one_to_nowhere_an_error(tmp_path: Path) -> None:
    assert not _files.move(tmp_path / "gone", tmp_path / "target")
    (tmp_path / "m").touch()
    with pytest.raises(FileNotFoundError):
        _files.move(tmp_path / "m", tmp_path / "missing" / "m")


def test_a_lock_that_another_thread_takes_while_it_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, close = _files.Lock(tmp_path / "lock"), os.close

    def close_and_acquire(fd: int) -> None:
        close(fd)
        monkeypatch.undo()
        assert lock.acquire()

    assert lock.acquire()
    monkeypatch.setattr(os, "close", close_and_acquire)
    lock.release()
    assert lock.held
    lock.release()
    assert not _files.is_locked(lock.path)


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    first, second = _files.Lock(tmp_path / "lock"), _files.Lock(tmp_path / "lock")
    assert not _files.is_locked(tmp_path / "lock")
    assert first.acquire() and first.held
    assert not second.acquire(wait=0.02) and not second.held
    assert _files.is_locked(tmp_path / "lock")
    first.release()
    first.release()
    assert second.acquire()
    second.release()


def test_a_lock_is_free_the_moment_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import sys, pathlib; from air_executor import _files;"
        "assert _files.Lock(pathlib.Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        assert _files.is_locked(path)
        child.kill()
        child.wait()
        assert not _files.is_locked(path)


def test_a_program_that_the_holder_runs_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = _files.Lock(tmp_path / "lock")
    assert lock.acquire()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()  # the system closes the child's copy a moment after the child began to run
        wait_for(lambda: not _files.is_locked(tmp_path / "lock"), what="a free lock")
        child.communicate(b"\n")


def test_the_filesystem_can_be_made_durable(tmp_path: Path) -> None:
    if _files.SYNCS_FILESYSTEMS:
        _files.sync_filesystem(tmp_path)
    _files.sync_directory(tmp_path)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(os, "write", refuse)
        _files.write_new(tmp_path / "cancel", b"{}")
    assert list(tmp_path.iterdir()) == []
