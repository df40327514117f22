#!/usr/bin/env python3
"""The HTTP API: what it takes to submit a run, with several clients at once, and that each run completes once.

    python -m benchmarks.api --runs 1000 --clients 8 --json api.json

The real server and the real runner, each in a process of its own; the clients are threads of this one, with an
Idempotency-Key for each run. A run is one task that appends a line to a file: more or fewer lines than runs would be a
run that was lost, or made twice. For comparison the same from this process to the files, without HTTP.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from air_executor import AirExecutorClient, store
from air_executor.http import tokens
from air_executor.paths import Home
from air_executor.testing import running_runner, wait_for
from benchmarks import places

ENOUGH = {"AIR_EXECUTOR_HTTP_RATE": "0", "AIR_EXECUTOR_HTTP_STRANGER_RATE": "0"}
PATIENCE = 1800.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    with places.directory(None) as directory:
        results = measure(directory, args.runs, args.clients)
    show(results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(directory: Path, runs: int, clients: int) -> dict[str, object]:
    home, lines = Home(directory / "home"), directory / "lines"
    store.ensure_home(home)
    lines.touch()
    with running_runner(home, "--slots", "8"):
        before = time.process_time()
        by_files = _submit_to_files(home, lines, runs, clients)
        cpu_of_files = time.process_time() - before
        _wait_for_all(home)
        _check(lines, runs)
        lines.write_text("")
        began = time.monotonic()
        by_http, cpu_of_server = _submit_over_http(home, lines, runs, clients)
        submitted = time.monotonic() - began
        _wait_for_all(home)
        took = time.monotonic() - began
        _check(lines, runs)
    return {
        "runs": runs,
        "clients": clients,
        "processors": os.cpu_count(),
        "submit_ms": {"http": _spread(by_http), "files": _spread(by_files)},
        "cpu_ms": {"http": round(cpu_of_server / runs * 1000, 2), "files": round(cpu_of_files / runs * 1000, 2)},
        "submitted_per_second": round(runs / submitted, 1),
        "completed_per_second": round(runs / took, 1),
        "each_completed_once": True,
    }


def _tasks(lines: Path, number: int) -> list[dict[str, object]]:
    return [{"command": "sh", "args": ["-c", f"echo {number} >> {lines}"]}]


def _submit_to_files(home: Home, lines: Path, runs: int, clients: int) -> list[float]:
    client = AirExecutorClient(home.root)

    def submit(number: int) -> float:
        began = time.monotonic()
        client.create_job(f"files-{number}", _tasks(lines, number))
        return time.monotonic() - began

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(submit, range(runs)))


def _submit_over_http(home: Home, lines: Path, runs: int, clients: int) -> tuple[list[float], float]:
    """How long each took, and the processor time of the server."""
    _, token = tokens.create(home, "benchmark", ["submit"], by="benchmark")
    command = [sys.executable, "-m", "air_executor", "--home", str(home.root), "serve", "--port", "0"]
    log = home.root / "serve.log"
    with log.open("w") as output, subprocess.Popen(command, stderr=output, env={**os.environ, **ENOUGH}) as server:
        try:
            url = wait_for(lambda: log.read_text().partition("://")[2].partition(";")[0], 60, "the server")
            before = _cpu(server.pid)
            took = _submit_to(f"http://{url}", token, lines, runs, clients)
            return took, _cpu(server.pid) - before
        finally:
            server.terminate()


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _submit_to(url: str, token: str, lines: Path, runs: int, clients: int) -> list[float]:
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, limits=limits, timeout=60, trust_env=False) as client:

        def submit(number: int) -> float:
            key = {"Idempotency-Key": f"key-{number}"}
            began = time.monotonic()
            answer = client.post("/api/v1/runs", json={"tasks": _tasks(lines, number)}, headers=key)
            took = time.monotonic() - began
            assert answer.status_code == 201, answer.text
            return took

        with ThreadPoolExecutor(clients) as pool:
            return list(pool.map(submit, range(runs)))


def _wait_for_all(home: Home) -> None:
    client = AirExecutorClient(home.root)
    states = [client.wait(name, PATIENCE).state.value for name in store.names(home)]
    assert set(states) == {"completed"}, set(states)


def _check(lines: Path, runs: int) -> None:
    found = sorted(int(line) for line in lines.read_text().split())
    assert found == list(range(runs)), f"{len(found)} lines of {runs} runs"


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 1)
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
    }


def show(results: dict[str, object]) -> None:
    print("| submit, ms | p50 | p95 | p99 | max | processor time |\n| --- | --- | --- | --- | --- | --- |")
    spreads, cpu = results["submit_ms"], results["cpu_ms"]
    assert isinstance(spreads, dict) and isinstance(cpu, dict)
    for name, spread in spreads.items():
        print(f"| {name} | " + " | ".join(str(value) for value in (*spread.values(), cpu[name])) + " |")
    print(
        f"\n{results['runs']} runs by {results['clients']} clients: {results['submitted_per_second']} submitted and "
        f"{results['completed_per_second']} completed a second; each completed once: {results['each_completed_once']}"
    )


if __name__ == "__main__":
    main()
