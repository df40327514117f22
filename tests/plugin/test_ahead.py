"""Parsing ahead: before the first message, in Airflow's order of messages, and only once."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing import dagbag
from airflow.dag_processing.bundles.local import LocalDagBundle
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.sdk.execution_time import task_runner
from airflow.sdk.listener import get_listener_manager

from airflow_plugin import ahead
from tests.plugin import fleet
from tests.plugin.dagfiles import dags, in_a_fork, write

__all__ = ["dags"]

ASKS = """
    import builtins
    from airflow.sdk.execution_time import task_runner
    builtins.story.append("parsed")
    task_runner.SUPERVISOR_COMMS.send("a variable")
    """
PARSES = """
    import builtins
    builtins.story.append("parsed")
    """
FAILS = """
    import builtins
    builtins.story.append("parsed")
    raise SystemExit("no")
    """


THREADS = """
    from concurrent.futures import ThreadPoolExecutor
    from airflow.sdk.execution_time import task_runner
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: task_runner.SUPERVISOR_COMMS.send("a variable"), range(8)))
    """
READS = """
    import builtins, subprocess
    builtins.story.append(f"read {subprocess.check_output(['cat'])}")
    """


class Connection:
    def __init__(self, story: list[str]) -> None:
        self._story = story

    def send(self, message: str) -> None:
        self._story.append(f"sent {message}")

    def _get_response(self) -> str:
        return "details"


def start(path: Path, *, bundle: str = "here", patience: float = 0.0) -> tuple[list[str], bool]:
    """What happens in the process of a task, in order; and whether what was parsed ahead is what Airflow gets."""

    def attempt() -> tuple[list[str], bool]:
        import builtins

        reader, writer = os.pipe()
        os.dup2(reader, 0)  # whoever reads it waits for ever
        story: list[str] = []
        builtins.story = story  # type: ignore[attr-defined]
        connection = Connection(story)

        def receive() -> str:
            time.sleep(patience)  # of the API server, and there is nothing else to wait for
            assert task_runner.SUPERVISOR_COMMS._get_response() == "details"
            story.append("received")
            return "details"

        task_runner.SUPERVISOR_COMMS = connection  # type: ignore[assignment]
        task_runner.get_startup_details = receive  # type: ignore[assignment]
        work = fleet.make_task(dag_id="a", task_id="t")
        info = work.bundle_info.model_copy(update={"name": bundle, "version": None})
        ahead.install(work.ti, info, path.name)
        assert task_runner.get_startup_details() == "details"
        assert task_runner.SUPERVISOR_COMMS is connection
        os.close(writer)
        before = len(story)
        given = DagBundlesManager().get_bundle(name=bundle, version=None)  # type: ignore[no-untyped-call]
        wanted: dict[str, Any] = {"safe_mode": False, "load_op_links": False, "bundle_path": given.path}
        wanted |= {"dag_folder": str(path), "bundle_name": bundle}
        bag = dagbag.BundleDagBag(**wanted)
        parsed_ahead = len(story) == before
        dagbag.BundleDagBag(**wanted)
        assert len(story) > before, "a second time is the caller's own"
        story[before:] = []
        return story, parsed_ahead and (not bag.dags or "a" in bag.dags)

    found: tuple[list[str], bool] = in_a_fork(attempt)
    return found


def test_the_file_is_parsed_before_the_first_message_is_there(dags: Path) -> None:
    assert start(write(dags, PARSES)) == (["parsed", "received"], True)


def test_whoever_asks_for_something_has_the_first_message_received_before(dags: Path) -> None:
    assert start(write(dags, ASKS)) == (["parsed", "received", "sent a variable"], True)


def test_a_file_that_cannot_be_parsed_is_parsed_again_by_airflow(dags: Path) -> None:
    assert start(write(dags, FAILS)) == (["parsed", "received"], False)


def test_of_several_threads_one_receives_the_first_message(dags: Path) -> None:
    story, parsed_ahead = start(write(dags, THREADS))
    assert parsed_ahead
    assert story == ["received", *["sent a variable"] * 8]


def test_a_program_that_the_file_starts_does_not_read_the_first_message(dags: Path) -> None:
    assert start(write(dags, READS)) == (["read b''", "received"], True)


def test_the_time_that_the_api_server_takes_is_not_the_files(dags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT", "0.3")
    assert start(write(dags, ASKS), patience=1.0) == (["parsed", "received", "sent a variable"], True)


def test_a_listener_is_told_before_the_file_is_parsed(dags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(get_listener_manager()), "has_listeners", True)
    assert start(write(dags, PARSES)) == (["received"], False)


class Fetched(LocalDagBundle):
    """Stands for a bundle that is fetched from somewhere."""


def test_what_has_to_be_fetched_is_parsed_by_airflow(dags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "LocalDagBundle", Fetched)
    assert start(write(dags, PARSES)) == (["received"], False)


def test_what_goes_wrong_ahead_is_left_to_airflow() -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("no such bundle")

    assert in_a_fork(lambda: receive_with_a_broken_bundle(refuse)) == "details"


def receive_with_a_broken_bundle(refuse: Any) -> str:
    DagBundlesManager.get_bundle = refuse  # type: ignore[method-assign]
    task_runner.SUPERVISOR_COMMS = Connection([])  # type: ignore[assignment]
    task_runner.get_startup_details = lambda: "details"  # type: ignore[assignment, return-value]
    work = fleet.make_task(dag_id="a", task_id="t")
    ahead.install(work.ti, work.bundle_info, "file.py")
    return str(task_runner.get_startup_details())
