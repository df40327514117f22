"""How programs start, also where Python or the system lacks what is used for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from air_runner import signals, spawning


def test_a_python_that_was_built_without_sessions_starts_programs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise NotImplementedError("setsid")

    monkeypatch.setattr(os, "posix_spawn", refuse)
    with (tmp_path / "out").open("wb") as out:
        pid = spawning.spawn(["echo", "said"], os.environb, out.fileno(), None)
    assert os.waitpid(pid, 0)[1] == 0
    assert (tmp_path / "out").read_text() == "said\n"


def test_children_are_counted_where_there_is_no_waitid(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS before Python 3.13."""
    monkeypatch.delattr(os, "waitid")
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert not signals.has_no_children()
    os.waitpid(pid, 0)
