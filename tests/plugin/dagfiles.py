"""DAG files in a bundle of their own, and processes that may be changed for ever."""

from __future__ import annotations

import json
import os
import pickle
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DAG = """
    from airflow.sdk import DAG, task
    with DAG("a", schedule=None):
        @task
        def t():
            pass
        t()
    """


@pytest.fixture
def dags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is a bundle of that name."""
    directory = tmp_path / "dags"
    directory.mkdir()
    bundles = [
        {
            "name": "here",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(directory)},
        }
    ]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    return directory


def write(dags: Path, top: str = "", name: str = "file.py") -> Path:
    path = dags / name
    path.write_text(textwrap.dedent(top) + "\n" + textwrap.dedent(DAG))
    return path


def in_a_fork(function: Callable[[], Any]) -> Any:
    """What a function returns in a process of its own, for it changes its process for ever."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with os.fdopen(writer, "wb") as file:
                pickle.dump(function(), file)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return pickle.loads(answer)  # noqa: S301  # of our own fork
