"""`python -m tests.airflow.record_expected`: run the examples under LocalExecutor and write expected_states.json.

Run it again when the Airflow version changes; `--check` compares instead of writing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.airflow import databases, examples, postgres, stack


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executor", default="LocalExecutor")
    parser.add_argument("--check", action="store_true", help="compare with the recorded states, write nothing")
    options = parser.parse_args()
    started = time.monotonic()
    dags = record(options.executor)
    sys.stderr.write(f"{len(dags)} DAGs under {options.executor} in {time.monotonic() - started:.0f} s\n")
    if not options.check:
        examples.write(dags)
        return 0
    different = examples.differences(examples.recorded() or {}, dags)
    sys.stderr.writelines(f"{name}:\n  recorded {old}\n  got      {new}\n" for name, (old, new) in different.items())
    return 1 if different else 0


def record(executor: str) -> dict[str, examples.Outcome]:
    with tempfile.TemporaryDirectory(prefix="air-examples-") as directory, postgres.Postgres() as server:
        database = databases.PostgresDatabase(server, "examples")
        root = Path(directory)
        none = root / "dags"
        with stack.Stack(root, database, executor=executor, dags=none, settings=examples.SETTINGS) as airflow:
            return examples.run_all(airflow, examples.to_run(airflow), 300)


if __name__ == "__main__":
    sys.exit(main())
