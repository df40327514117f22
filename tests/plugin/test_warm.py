"""Warm DAGs: what may be parsed for others, what it depends on, and that nobody is given anything else."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing import dagbag
from airflow.dag_processing.bundles.manager import DagBundlesManager

from air_runner import preloading
from airflow_plugin import config, jobs, warm
from tests.plugin import fleet
from tests.plugin.dagfiles import dags, in_a_fork, write

__all__ = ["dags"]


def prepare(name: str = "file.py") -> tuple[frozenset[str], str | None]:
    """What was read, and why it was refused."""

    def attempt() -> tuple[frozenset[str], str | None]:
        try:
            return warm.prepare(json.dumps(["here", None, name])), None
        except warm.NotWarmError as error:
            return frozenset(), str(error)

    found: tuple[frozenset[str], str | None] = in_a_fork(attempt)
    return found


def bag(path: Path, **changes: Any) -> Any:
    given = {"dag_folder": str(path), "safe_mode": False, "load_op_links": False, "bundle_path": path.parent}
    return dagbag.BundleDagBag(**{**given, "bundle_name": "here", **changes})


def test_the_process_is_as_before_but_for_the_dags(dags: Path) -> None:
    """Else the template would refuse it."""
    write(dags)

    def attempt() -> str | None:
        before = preloading.Footprint.take()
        warm.prepare(json.dumps(["here", None, "file.py"]))
        return preloading.why_unsafe() or before.difference(preloading.Footprint.take())

    assert in_a_fork(attempt) is None


def test_whoever_parses_that_file_first_is_given_what_was_parsed(dags: Path) -> None:
    path = write(dags, "import builtins; builtins.times = getattr(builtins, 'times', 0) + 1")

    def attempt() -> list[int]:
        warm.prepare(json.dumps(["here", None, "file.py"]))
        parsed = []
        for changes in ({"safe_mode": True}, {}, {}):
            assert list(bag(path, **changes).dags) == ["a"]
            parsed.append(builtins.times)  # type: ignore[attr-defined]
        return parsed

    assert in_a_fork(attempt) == [2, 2, 3]


def test_the_arguments_are_those_that_a_task_gives(dags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Airflow parses otherwise one day, a task parses its file itself, and this says why it became slow."""
    from types import SimpleNamespace

    import structlog
    from airflow.sdk.execution_time import task_runner

    write(dags)
    bundle = SimpleNamespace(name="here", version=None)
    ti = SimpleNamespace(dag_id="no such DAG", task_id="t")
    what = SimpleNamespace(bundle_info=bundle, dag_rel_path="file.py", ti=ti, ti_context=SimpleNamespace())

    def attempt() -> list[bool]:
        parsed: list[Any] = []
        real = dagbag.BundleDagBag
        monkeypatch.setattr(dagbag, "BundleDagBag", lambda **given: parsed.append(given) or real(**given))
        warm.prepare(json.dumps(["here", None, "file.py"]))
        monkeypatch.setattr(task_runner, "_maybe_reschedule_startup_failure", lambda **_: None)
        with pytest.raises(SystemExit):
            task_runner.parse(what, structlog.get_logger())  # type: ignore[arg-type]
        return [len(parsed) == 1]

    assert in_a_fork(attempt) == [True]


@pytest.mark.parametrize("writes_bytecode", [False, True])
def test_all_that_is_read_is_known(dags: Path, monkeypatch: pytest.MonkeyPatch, writes_bytecode: bool) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", not writes_bytecode)
    (dags / "helper.py").write_text("VALUE = 1\n")
    (dags / "names.yaml").write_text("[]")
    (dags / "configs").mkdir()
    write(
        dags,
        """
        from pathlib import Path
        import helper
        HERE = Path(__file__).parent
        (HERE / "names.yaml").read_text()
        list((HERE / "configs").glob("*.yaml"))
        if (HERE / "missing.yaml").exists():
            raise ValueError
        try:
            open(HERE / "optional.yaml")
        except FileNotFoundError:
            pass
        """,
    )
    paths, why = prepare()
    assert why is None
    own = {path for path in paths if path.startswith(f"{dags}")}
    assert {f"{dags}/{name}" for name in ("file.py", "names.yaml", "configs", "optional.yaml")} <= own


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("from airflow.sdk import Variable\nVariable.get('a', default='b')", "asks Airflow"),
        ("from airflow.sdk import Connection\ntry:\n  Connection.get('a')\nexcept Exception:\n  ...", "asks Airflow"),
        ("import socket\ntry:\n  socket.create_connection(('127.0.0.1', 9))\nexcept OSError:\n  ...", "socket"),
        ("import subprocess\nsubprocess.run(['true'])", "subprocess.Popen"),
        ("import os\nos.system('true')", "os.system"),
        ("import os\nos.environ['A'] = 'b'", "os.putenv"),
        ("from pathlib import Path\nPath(__file__).with_name('new').write_text('')", "opens a file for writing"),
        ("from pathlib import Path\nPath(__file__).with_name('new').mkdir()", "os.mkdir"),
        ("import sqlite3\nsqlite3.connect(':memory:')", "sqlite3.connect"),
        ("raise ValueError('no')", "gives no DAG"),
        ("import sys\nsys.exit(3)", "gives no DAG"),
    ],
)
def test_what_does_more_than_read_is_refused(dags: Path, does: str, why: str) -> None:
    write(dags, does)
    assert why in (prepare()[1] or "")


def test_a_file_without_a_dag_is_refused(dags: Path) -> None:
    (dags / "file.py").write_text("A = 1\n")
    assert "gives no DAG" in (prepare()[1] or "")
    assert "gives no DAG" in (prepare("missing.py")[1] or "")


def test_only_tasks_have_a_variant_and_only_if_that_is_wanted(home: Any) -> None:
    task, callback = fleet.make_task(), fleet.make_callback()
    for wanted in (False, True):
        options = config.Options(home.root, "default", ("default",), warm_dags=wanted)
        variants = [jobs.submission(each, options, home, "http://x").job.variant for each in (task, callback)]
        assert variants == [warm.variant_of(task) if wanted else None, None]


def test_a_task_with_variables_of_its_own_parses_its_file_itself(home: Any) -> None:
    task = fleet.make_task()
    task.ti.executor_config = {"env": {"TABLE": "staging"}}
    options = config.Options(home.root, "default", ("default",), warm_dags=True)
    assert jobs.submission(task, options, home, "http://x").job.variant is None


def test_a_path_that_is_too_long_to_be_told_is_parsed_by_each_task() -> None:
    task = fleet.make_task()
    task.dag_rel_path = "x" * 1000
    assert warm.variant_of(task) is None


def test_what_logged_while_it_was_parsed_logs_as_configured_later(dags: Path) -> None:
    write(dags, "import structlog\nLOG = structlog.get_logger()\nLOG.warning('parsed')")

    def attempt() -> list[str]:
        import structlog

        structlog.configure(cache_logger_on_first_use=True)
        warm.prepare(json.dumps(["here", None, "file.py"]))
        said: list[str] = []

        def note(_logger: Any, _method: str, event: Any) -> Any:
            said.append(event["event"])
            raise structlog.DropEvent

        structlog.configure(processors=[note])
        [module] = [each for each in list(sys.modules.values()) if getattr(each, "__file__", None) == f"{dags}/file.py"]
        module.LOG.warning("run")
        return said

    assert in_a_fork(attempt) == ["run"]


def test_tasks_of_one_file_have_one_variant_and_those_of_another_version_another() -> None:
    first, second = fleet.make_task(), fleet.make_task()
    assert warm.variant_of(first) == warm.variant_of(second)
    second.bundle_info.version = "abc"
    assert warm.variant_of(first) != warm.variant_of(second)


def test_a_bundle_that_is_unknown_is_an_error(dags: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        warm.prepare(json.dumps(["nowhere", None, "file.py"]))
    assert DagBundlesManager().get_bundle("here")  # type: ignore[no-untyped-call]
