"""The DAG files of the example `examples/triage`: Airflow reads them, and nobody who parses them loads a network."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import triage_errors

TRIAGE = Path(__file__).parents[2] / "examples" / "triage"
DAY = "2026-03-02"


@pytest.mark.parametrize(
    ("name", "tasks"), [("triage", {"triage", "record"}), ("triage_mapped", {"list_issues", "issue", "gather"})]
)
def test_airflow_reads_the_dag(name: str, tasks: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.delitem(sys.modules, "pipeline", raising=False)
    monkeypatch.setitem(sys.modules, "offbit_reflow", None)  # whoever imports it now fails
    file = TRIAGE / ("triage_dag.py" if name == "triage" else f"{name}.py")
    bag = DagBag(str(file))
    assert bag.import_errors == {}
    assert {task.task_id for task in bag.dags[name].tasks} == tasks


@pytest.mark.parametrize(("first", "catches_up", "begins"), [(None, False, None), (" ", False, None), (DAY, True, DAY)])
def test_only_who_says_from_which_day_on_catches_up(
    first: str | None, catches_up: bool, begins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever un-pauses the example must not have posted months of alerts."""
    dag = triage_dag(monkeypatch, first)["dag"]
    assert dag.catchup is catches_up
    assert begins is None or dag.start_date.date().isoformat() == begins


def test_a_first_day_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(triage_errors.SettingError, match=r"^TRIAGE_FIRST_DAY: '1 March' is no day, such as"):
        triage_dag(monkeypatch, "1 March")


def triage_dag(monkeypatch: pytest.MonkeyPatch, first: str | None) -> dict[str, Any]:
    """What the file of the DAG holds, with this in the environment of who reads it."""
    monkeypatch.delenv("TRIAGE_FIRST_DAY", raising=False)
    if first is not None:
        monkeypatch.setenv("TRIAGE_FIRST_DAY", first)
    return runpy.run_path(str(TRIAGE / "triage_dag.py"))


def test_only_the_network_needs_reflow() -> None:
    """A job's tasks start a thousand times."""
    look = "import sys, triage_job, triage_stub; sys.exit('offbit_reflow' in sys.modules or 'airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], cwd=TRIAGE, check=False).returncode == 0
