#!/usr/bin/env python3
"""The pages in Airflow: what their first load and each filter take with many finished jobs in the home.

    python -m benchmarks.pages --jobs 100000 --json pages.json

Through the app as Airflow mounts it, with a login, in this process; the jobs are those of `benchmarks.index`. A load is
the document, what it loads, and the first answer to its question.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from air_executor.paths import Home
from benchmarks import places
from benchmarks.index import make_home, parse

if TYPE_CHECKING:
    from tests.plugin.visitors import Web

FILTERS = {
    "none": "",
    "state": "state=failed",
    "queue": "queue=queue_2",
    "trigger": "trigger=executor",
    "label": "label=task_id%3Dtask_3",
    "name or reason": "text=dag_17-",
    "no job fits": "text=nothing-has-this-name",
    "state, queue and label": "state=failed&queue=queue_1&label=dag_id%3Ddag_5",
}
DAY = 86_400


def set_up(directory: Path) -> None:
    """Airflow reads its home when it is imported."""
    os.environ |= {
        "AIRFLOW_HOME": str(directory / "airflow"),
        "AIRFLOW__AIR_EXECUTOR__BASE_PATH": str(directory / "home"),
        "AIRFLOW__API_AUTH__JWT_SECRET": "0123456789abcdef" * 4,
        "AIRFLOW__CORE__EXECUTOR": "airflow_plugin.AirExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{directory}/airflow.db",
    }


def ask(web: Web, headers: dict[str, str], path: str) -> bytes:
    answer = web.request("GET", f"/air-executor/{path}", headers=headers)
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
    return answer.content


def load(web: Web, headers: dict[str, str], page: str, question: str) -> None:
    """All that a browser asks for that was never there."""
    from tests.plugin.visitors import documents

    ask(web, headers, page)
    for name in documents.assets():
        ask(web, headers, f"static/{documents.version()}/{name}")
    ask(web, headers, question)


def measure(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and longest, milliseconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(0.05)
    return statistics.median(times), max(times)


def measure_all(web: Web, headers: dict[str, str], repeats: int) -> dict[str, tuple[float, float]]:
    end = time.time()
    history = f"api/history?begin={end - 7 * DAY:.0f}&end={end:.0f}&step=7200"
    found = {
        "first load of the overview": measure(lambda: load(web, headers, "", "api/overview"), repeats),
        "first load of the jobs": measure(lambda: load(web, headers, "jobs", "api/jobs"), repeats),
        "first load of the history": measure(lambda: load(web, headers, "history", history), repeats),
    }
    for name, query in FILTERS.items():
        found[f"filter: {name}"] = measure(lambda query=query: ask(web, headers, f"api/jobs?{query}"), repeats)  # type: ignore[misc]
        found[f"counts: {name}"] = measure(lambda query=query: ask(web, headers, f"api/counts?{query}"), repeats)  # type: ignore[misc]
    return found


def make_index(web: Web, headers: dict[str, str]) -> float:
    """Seconds until the pages know all jobs, asked as a browser asks."""
    began = time.perf_counter()
    while json.loads(ask(web, headers, "api/jobs"))["unread"]:
        time.sleep(1)
    return time.perf_counter() - began


def main() -> int:
    given = parse("pages", __doc__)
    with places.directory(given.directory) as directory:
        figures = measure_home(directory, given.jobs, given.repeats)
    for name, figure in figures.items():
        print(f"{name}: {figure}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))
    return 0


def measure_home(directory: Path, jobs: int, repeats: int) -> dict[str, object]:
    """Figures of a home of so many jobs, as one sees it who may see all, and one who may not."""
    set_up(directory)
    make_home(Home(directory / "home"), jobs)
    from tests.plugin import visitors

    figures: dict[str, object] = {"jobs": jobs}
    with visitors.api_server_with("tests.plugin.visitors.LimitedAuthManager", dags=200) as web:
        for visitor in ("admin", "viewer"):
            headers = visitors.credentials(visitor)
            figures.setdefault("seconds until all jobs are in the index", round(make_index(web, headers), 1))
            for name, (median, longest) in measure_all(web, headers, repeats).items():
                figures[f"{visitor}, {name}"] = {"median ms": round(median, 1), "longest ms": round(longest, 1)}
    return figures


if __name__ == "__main__":
    sys.exit(main())
