#!/usr/bin/env python3
"""Jobs of one line on a throw-away Slurm of this host: one by one, as arrays, and as `sbatch` alone does it.

    python -m benchmarks.slurm --jobs 200 --rounds 3 --json slurm.json

Sets up the cluster and a home for each way, and ends and removes all of it, also when it is interrupted. Exits with 1
if a body did not run exactly once. Needs Slurm's programs (see scripts/slurm-testcluster), and no Airflow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from air_executor import AirExecutorClient, JobState, store, testing
from air_executor.paths import Home
from tests.slurm.cluster import Cluster

QUEUES: Mapping[str, str] = {"one by one": "", "array=50": "array = 50", "3 pilots": "pilots = 3"}
"""The ways of Air-Executor: what the table of the queue says beside its launcher."""
ALONE = "sbatch alone"
COUNTED = ("sbatch", "squeue")
COUNTING = '#!/bin/sh\nprintf "x\\n" >>"$0.calls"\nPATH=${PATH#*:}\nexec "${0##*/}" "$@"\n'
PATIENCE = 600.0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slurm", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians are told (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=2, help="of the cluster (default: %(default)s)")
    parser.add_argument("--cpus", type=int, default=4, help="of each node (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that what was started is ended
    cluster = Cluster(options.nodes, options.cpus)
    os.environ["SLURM_CONF"] = cluster.environment["SLURM_CONF"]
    try:
        with tempfile.TemporaryDirectory(prefix="air-slurm-bench-", ignore_cleanup_errors=True) as directory:
            rounds = [_round(cluster, Path(directory) / str(number), options.jobs) for number in range(options.rounds)]
        version = cluster.run("sbatch", "--version").stdout.strip()
    finally:
        cluster.close()
    ways = {way: _median([each[way] for each in rounds]) for way in rounds[0]}
    result = {"jobs": options.jobs, "rounds": options.rounds, "slurm": version, "python": platform.python_version()}
    _tell({**result, "ways": ways}, options.json)
    return 0 if all(way["once"] for way in ways.values()) else 1


def _round(cluster: Cluster, place: Path, jobs: int) -> dict[str, dict[str, Any]]:
    """In turns, so that a machine that gets slower does so for all of them."""
    found = {ALONE: _measure(place / "alone", jobs, lambda site: _submit_alone(cluster, site, jobs))}
    for way, table in QUEUES.items():
        found[way] = _measure(place / way.replace(" ", "-"), jobs, lambda site, table=table: _run(site, jobs, table))  # type: ignore[misc]
    return found


def _measure(place: Path, jobs: int, work: Callable[[Path], list[float]]) -> dict[str, Any]:
    programs = place / "programs"
    programs.mkdir(parents=True)
    for name in COUNTED:
        (programs / name).write_text(COUNTING)
        (programs / name).chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{programs}:{before}"
    try:
        began = time.monotonic()
        waits = work(place)
        seconds = time.monotonic() - began
    finally:
        os.environ["PATH"] = before
    lines = (place / "lines").read_text().split()
    return {
        "ms_per_job": 1000 * seconds / jobs,
        "ms_to_end": 1000 * statistics.median(waits) if waits else None,
        **{name: _count(programs / f"{name}.calls") for name in COUNTED},
        "once": len(lines) == len(set(lines)) == jobs,
    }


def _count(calls: Path) -> int:
    return len(calls.read_text().splitlines()) if calls.exists() else 0


def _submit_alone(cluster: Cluster, place: Path, jobs: int) -> list[float]:
    lines, sbatch = place / "lines", shutil.which("sbatch") or "sbatch"
    for number in range(jobs):
        cluster.run(sbatch, "--output=/dev/null", "--wrap", f"echo {number} >>{lines}", cwd=place)
    testing.wait_for(lambda: lines.exists() and len(lines.read_text().split()) >= jobs, PATIENCE, "the end of all jobs")
    return []


def _run(place: Path, jobs: int, table: str) -> list[float]:
    """The seconds from the submission to the end of each job."""
    home = Home(place / "home")
    store.ensure_home(home)
    home.config.write_text(f'[queues.slurm]\nlauncher = "slurm"\n{table}\n')
    client, lines = AirExecutorClient(home.root), place / "lines"
    with testing.running_runner(home):
        for number in range(jobs):
            task = {"command": "sh", "args": ["-c", f"echo {number} >>{lines}"]}
            client.create_job(f"job-{number}", [task], queue="slurm")
        ended = [client.wait(f"job-{number}", PATIENCE) for number in range(jobs)]
    assert all(job.state is JobState.COMPLETED for job in ended), [job.exit for job in ended]
    return [_moment(job.finished_at) - _moment(job.created_at) for job in ended]


def _moment(text: str | None) -> float:
    return datetime.fromisoformat((text or "").replace("Z", "+00:00")).timestamp()


def _median(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    def of(name: str) -> float | None:
        values = [each[name] for each in rounds if each[name] is not None]
        return round(statistics.median(values), 1) if values else None

    names = [name for name in rounds[0] if name != "once"]
    return {**{name: of(name) for name in names}, "once": all(each["once"] for each in rounds)}


def _tell(result: dict[str, Any], file: Path | None) -> None:
    print(
        f"{result['jobs']} jobs, medians of {result['rounds']} rounds, {result['slurm']}, Python {result['python']}\n"
    )
    print("| way | ms per job | ms from submission to end | sbatch | squeue | each once |")
    print("| --- | --- | --- | --- | --- | --- |")
    for way, found in result["ways"].items():
        to_end = "" if found["ms_to_end"] is None else f"{found['ms_to_end']:.0f}"
        calls = f"{found['sbatch']:.0f} | {found['squeue']:.0f}"
        print(f"| {way} | {found['ms_per_job']:.0f} | {to_end} | {calls} | {'yes' if found['once'] else 'NO'} |")
    if file is not None:
        file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
