"""Processes of one thread each, because what is traced is forked from them; a process of pytest may have more."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

WORKERS = 3
ROOT = Path(__file__).parents[2]

Item = TypeVar("Item")
Result = TypeVar("Result")


def call_with_each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The function's results, in the order of the items; each worker has every third item."""
    shares = [items[first::WORKERS] for first in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as threads:
        found = list(threads.map(lambda share: _in_a_worker(function, share), shares))
    return [found[number % WORKERS][number // WORKERS] for number in range(len(items))]


def _in_a_worker(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    if not items:
        return []
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=pickle.dumps((function, items)), capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0, f"a worker ended with {done.returncode}: {done.stderr.decode(errors='replace')}"
    results: list[Result] = pickle.loads(done.stdout)  # noqa: S301  # of our own worker
    return results


def main() -> None:
    """What a worker does. Its output is the answer, so what others print goes elsewhere."""
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        function, items = pickle.load(sys.stdin.buffer)  # noqa: S301  # of the tests
        results: list[Any] = [function(item) for item in items]
        pickle.dump(results, answer)


if __name__ == "__main__":
    main()
