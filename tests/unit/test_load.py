"""How busy the processors are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from air_executor import load


@pytest.mark.parametrize(("runnable", "idle"), [(1, 4), (3, 2), (5, 0), (40, 0), (0, 5)])
def test_processors_that_have_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runnable: int, idle: int
) -> None:
    """This process is one of those that run."""
    file = tmp_path / "loadavg"
    file.write_text(f"0.31 0.40 0.37 {runnable}/512 4711\n")
    monkeypatch.setattr(load, "_LOADAVG", file)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert load.idle_processors() == idle


@pytest.mark.parametrize("content", ["", "0.31", "0.31 0.40 0.37 many/512 4711"])
def test_where_it_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(load, "_LOADAVG", tmp_path / "nowhere")
    assert load.idle_processors() is None
    monkeypatch.setattr(load, "_LOADAVG", tmp_path / "loadavg")
    (tmp_path / "loadavg").write_text(content)
    assert load.idle_processors() is None


@pytest.mark.parametrize(("runnable", "crowded"), [(1, False), (5, False), (6, True)])
def test_whether_more_want_to_run_than_can_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runnable: int, crowded: bool
) -> None:
    file = tmp_path / "loadavg"
    monkeypatch.setattr(load, "_LOADAVG", file)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert not load.is_crowded(), "it is not known"
    file.write_text(f"0.31 0.40 0.37 {runnable}/512 4711\n")
    assert load.is_crowded() is crowded


def test_processors_of_this_process() -> None:
    assert 1 <= load.processors() <= (os.cpu_count() or 1)
