"""What a `sync` of the executor costs when nothing has finished. Run by `benchmarks.engine`, which says more.

Prints the median and the longest of many, in milliseconds, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

SECONDS = 3.0
"""So long that what is done once a second is among it."""
INTERVAL = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sync_cost", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("--in-flight", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="air-engine-airflow-") as airflow:
        section = "AIRFLOW__AIR_EXECUTOR__"
        os.environ |= {"AIRFLOW_HOME": airflow, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        os.environ |= {f"{section}BASE_PATH": str(options.home), f"{section}START_RUNNER": "False"}
        os.environ[f"{section}SYNC_WAIT"] = "0"
        times = _measure(options.in_flight)
    print(json.dumps({"median": statistics.median(times), "longest": max(times)}))


def _measure(count: int) -> list[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Airflow warns of while it is imported is not about us
        from airflow_plugin import ledger
        from airflow_plugin.executor import AirExecutor
    from air_executor import model, store
    from air_executor.paths import Home

    executor = AirExecutor()
    executor.start()
    assert executor._door.site is not None
    home: Home = executor._door.site.home
    names = [f"airflow-in-flight-{number}" for number in range(count)]
    for start in range(0, count, 1000):
        batch = [store.Submission(model.Job(each), [model.Task("true")]) for each in names[start : start + 1000]]
        refused = store.submit_batch(home, batch)
        assert not refused, refused
    for name in names:
        executor._ledger.add(ledger.Entry(name, name, "default"))
        executor.running.add(name)  # type: ignore[arg-type]
    times = []
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        began = time.perf_counter()
        executor.sync()
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(INTERVAL)
    executor.end()
    return times


if __name__ == "__main__":
    main()
