"""How a task body of these tests speaks with the test: files below $AIRFLOW_HOME/marks.

A body never sleeps for a fixed time: it notes that it started and holds until the test releases it.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

HOLD_SECONDS = 150


def directory() -> Path:
    return Path(os.environ["AIRFLOW_HOME"], "marks")


def note(name: str, text: str) -> None:
    """Append one line; short appends do not mix."""
    with (directory() / name).open("a") as file:
        file.write(text + "\n")


def lines(name: str) -> list[str]:
    file = directory() / name
    return file.read_text().splitlines() if file.exists() else []


def hold(name: str) -> None:
    """Note the start, wait for the release, note the end."""
    note(name, f"start {os.getpid()}")
    deadline = time.monotonic() + HOLD_SECONDS
    while not (directory() / f"{name}.release").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody released {name}")
        threading.Event().wait(0.05)
    note(name, "end")


def missed(name: str) -> None:
    """What the deadline's callback runs."""
    note(name, "missed")
