"""What tasks hand over, while the system refuses to read it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from air_executor import _files, model, results
from air_executor.paths import Home, JobPaths


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    paths = Home(tmp_path).job("job")
    paths.logs.mkdir(parents=True)
    paths.output("a").write_text('{"rows": 3}')
    return paths


TASKS = [model.Task(id="a", command="true", status=model.TaskStatus.COMPLETED, tries=1)]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE])
@pytest.mark.parametrize("call", ["read_bytes", "listdir"])
def test_trouble_that_passes_loses_no_result(
    paths: JobPaths, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as trouble:
        trouble.setattr(*((_files, call) if call == "read_bytes" else (os, call)), refuse)
        with pytest.raises(OSError, match=os.strerror(number)):
            results.write(paths, TASKS)
    results.write(paths, TASKS)
    assert json.loads(paths.result.read_text()) == {"a": {"rows": 3}}


def test_a_task_whose_result_cannot_be_read_is_told_why(paths: JobPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(_files, "read_bytes", refuse)
    with pytest.raises(ValueError, match="wrote a result that cannot be read: Too many open files"):
        results.take(paths, "a")


def test_nobody_wrote_anything(paths: JobPaths) -> None:
    paths.output("a").unlink()
    assert results.take(paths, "a") == 0
    paths.logs.rmdir()
    results.write(paths, TASKS)
    assert not paths.result.exists()
