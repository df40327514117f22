"""What is made once in the template is what each process would have made."""

from __future__ import annotations

import importlib.metadata
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk._shared import module_loading
from airflow.sdk._shared.plugins_manager import plugins_manager
from airflow.sdk.execution_time import comms, task_runner
from pydantic import TypeAdapter

from airflow_plugin import warming, workload
from tests.plugin import conftest


def test_adapters_are_made_once() -> None:
    assert isinstance(comms.TypeAdapter, warming.Remembered)  # type: ignore[attr-defined]
    decoder = task_runner.CommsDecoder[Any, Any](socket=None)
    assert decoder.body_decoder is decoder.err_decoder
    assert isinstance(decoder.body_decoder, TypeAdapter)


def test_what_is_remembered_behaves_as_its_class() -> None:
    remembered = warming.Remembered(TypeAdapter)
    assert remembered(int) is remembered(int)
    assert remembered(int).validate_python("3") == 3
    assert remembered(int, config=None) is not remembered(int)
    assert remembered[int] == TypeAdapter[int]
    assert remembered.validate_python is TypeAdapter.validate_python


def test_what_plugins_are_called_is_read_once() -> None:
    found = module_loading.entry_points_with_dist("airflow.plugins")
    entry, own = next(each for each in found if each[0].name == "air_executor")
    assert isinstance(own, warming.Installed)
    source = plugins_manager.EntryPointSource(entry, own)
    assert str(source).startswith(f"air-executor=={importlib.metadata.version('air-executor')}: ")
    assert own.metadata is own.metadata
    assert own.read_text("METADATA"), "and all else as ever"


def test_nothing_is_forgotten_where_nothing_is_configured() -> None:
    logger = logging.getLogger("tests.warming.child")
    assert not logger.isEnabledFor(1)
    remembered = dict(logger._cache)  # type: ignore[attr-defined]
    with warming._caches_cleared_once():
        pass
    assert remembered
    assert logger._cache == remembered  # type: ignore[attr-defined]


def test_levels_that_loggers_remember_are_right_after_a_configuration() -> None:
    logger = logging.getLogger("tests.warming.child")
    parent = logging.getLogger("tests.warming")
    parent.setLevel(logging.ERROR)
    assert not logger.isEnabledFor(logging.INFO)
    with warming._caches_cleared_once():
        parent.setLevel(logging.DEBUG)
    assert logger.isEnabledFor(logging.INFO)
    parent.setLevel(logging.ERROR)
    assert not logger.isEnabledFor(logging.INFO), "and each change counts again"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS", "mine.CONFIG"), ("AIRFLOW__LOGGING__REMOTE_LOGGING", "True")],
)
def test_a_logging_configuration_of_ones_own_is_left_to_each_process(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    configured: list[bool] = []
    monkeypatch.setattr(warming, "configure_logging_for_supervisor", lambda: configured.append(True))
    warming.configure_logging()
    assert configured == [True]
    monkeypatch.setenv(variable, value)
    warming.configure_logging()
    assert configured == [True]


def test_what_was_read_is_watched() -> None:
    paths = {os.path.realpath(path) for path in workload.watched_paths()}
    home = Path(os.path.realpath(conftest.AIRFLOW_HOME))
    assert paths == {str(home / name) for name in ("airflow.cfg", "plugins", "config")}
