"""The DAG files of the example `examples/triage`: Airflow reads them, and nobody who parses them loads a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TRIAGE = Path(__file__).parents[2] / "examples" / "triage"


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


def test_only_the_network_needs_reflow() -> None:
    """A job's tasks start a thousand times."""
    look = "import sys, triage_job, triage_stub; sys.exit('offbit_reflow' in sys.modules or 'airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], cwd=TRIAGE, check=False).returncode == 0
