"""The triage of a day in three steps, for those who spread its issues over processes: list, handle one, gather.

`triage_job` makes tasks of an Air-Executor job of them, `triage_mapped` mapped tasks of Airflow. Files and summary are
those of `pipeline`.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

import triage_calls
import triage_files
import triage_rules
from triage_settings import Settings
from triage_web import Caller

Row = dict[str, Any]


def listed(day: str, settings: Settings) -> list[str]:
    """All issues of a day, each as JSON."""
    caller, fresh, found, page = _caller(settings), triage_calls.Fresh(), list[str](), 1
    while True:
        total, items = triage_calls.opened(triage_calls.ask(caller, settings, day, page))
        found += map(json.dumps, fresh.of(items))
        if not items or page * settings.page_size >= total:
            settings.output.mkdir(parents=True, exist_ok=True)
            return found
        page += 1


def handled(day: str, settings: Settings, text: str) -> Row:
    """What becomes of one issue: its outcome, and what is to be kept of it. An alert is told before this returns."""
    try:
        issue = triage_rules.normalised(json.loads(text))
    except triage_rules.UnreadableError as error:
        return {"outcome": "refused", "row": {"why": str(error), "issue": text}}
    if not triage_rules.is_alert(issue):
        return {"outcome": "archived", "row": issue}
    files, key = triage_files.DayFiles(settings.output, day).load(), triage_calls.key(day, issue)
    if not files.is_delivered(key):
        triage_calls.tell(_caller(settings), settings, key, issue)
        files.note_delivery({**issue, "key": key})
    return {"outcome": "alerted"}


def gathered(day: str, settings: Settings, ends: Iterable[Row]) -> Row:
    """Write the files of a day of which each issue was handled; its summary."""
    rows: dict[str, list[Row]] = {"archived": [], "refused": []}
    outcomes: Counter[str] = Counter()
    for end in ends:
        outcomes[end["outcome"]] += 1
        if end["outcome"] in rows:
            rows[end["outcome"]].append(end["row"])
    with triage_files.DayFiles(settings.output, day) as files:
        return triage_files.summary(day, outcomes, files.finish(rows["archived"], rows["refused"]))


def _caller(settings: Settings) -> Caller:
    return Caller(uuid.uuid4().hex, time.monotonic() + settings.time_limit, threading.Event())
