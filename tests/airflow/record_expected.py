"""`python -m tests.airflow.record_expected`: run the examples under LocalExecutor and write expected_states.json.

Run it again when the Airflow version changes; `--check` compares instead of writing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.airflow import databases, examples, postgres, stack

DISTRIBUTIONS = ("apache-airflow-core", "apache-airflow-providers-standard")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executor", default="LocalExecutor")
    parser.add_argument("--check", action="store_true", help="compare with the recorded states, write nothing")
    options = parser.parse_args()
    started = time.monotonic()
    dags = record(options.executor)
    sys.stderr.write(f"{len(dags)} DAGs under {options.executor} in {time.monotonic() - started:.0f} s\n")
    if options.check:
        return _report({dag_id: outcome for dag_id, outcome in dags.items() if outcome != _expected(dag_id)})
    versions = {name: importlib.metadata.version(name) for name in DISTRIBUTIONS}
    text = json.dumps({"versions": versions, "dags": dags}, indent=1, sort_keys=True)
    examples.EXPECTED.write_text(text + "\n")
    return 0


def record(executor: str) -> dict[str, examples.Outcome]:
    with tempfile.TemporaryDirectory(prefix="air-examples-") as directory, postgres.Postgres() as server:
        database = databases.PostgresDatabase(server, "examples")
        root = Path(directory)
        none = root / "dags"
        with stack.Stack(root, database, executor=executor, dags=none, settings=examples.SETTINGS) as airflow:
            return examples.run_all(airflow, examples.to_run(airflow), 240)


def _expected(dag_id: str) -> Any:
    return examples.expected()["dags"].get(dag_id)


def _report(different: dict[str, examples.Outcome]) -> int:
    for dag_id, outcome in different.items():
        sys.stderr.write(f"{dag_id}:\n  expected {_expected(dag_id)}\n  got      {outcome}\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
