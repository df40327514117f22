"""Tells by which process it was parsed, from what, and what it found changed by others."""

from __future__ import annotations

import json
import os
import sys

import marks
from airflow.sdk import DAG, task

PLACE = marks.directory() / "warm"
PARSED_BY = os.getpid()
CHANGES: list[int] = []

sys.path.insert(0, str(PLACE))
try:
    from warm_word import WORD
except ImportError:  # a test has not written it yet
    WORD = None
NAMES = sorted(path.stem for path in PLACE.glob("*.name"))

with DAG("warm", schedule=None):

    @task
    def tell() -> None:
        CHANGES.append(os.getpid())
        found = {"warm": os.getpid() != PARSED_BY, "word": WORD, "names": NAMES, "changes": len(CHANGES)}
        marks.note("warm-told", json.dumps(found))

    tell()
