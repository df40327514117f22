"""What a run needs to know, from the variables of its environment; and what a day is."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from triage_errors import SettingError

PREFIX = "TRIAGE_"


@dataclass(frozen=True)
class Settings:
    """What a run needs to know; each is a variable of the environment, `TRIAGE_SOURCE_URL` and so on."""

    source_url: str
    """Answers as GitHub's `/search/issues` does."""
    alert_url: str = field(repr=False)
    """Takes JSON with a `text`, as Slack's webhooks and `chat.postMessage` do."""
    output: Path = Path("triage-output")
    source_query: str = "is:issue"
    """In GitHub's words, such as `repo:apache/airflow is:issue`; the day is added."""
    source_token: str = field(default="", repr=False)
    alert_token: str = field(default="", repr=False)
    alert_channel: str = ""
    concurrency: int = 4
    """Alerts that are posted at once."""
    window: int = 200
    """Issues in the network at which no further page is asked for."""
    page_size: int = 50
    time_limit: float = 300.0
    """Seconds for the whole day."""
    drain: float = 3.0
    """Seconds for what has begun when a stop is asked for. Airflow kills a task 5 seconds after its TERM."""


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Settings from variables; what is empty counts as not set."""
    kinds = {"int": int, "float": float, "Path": Path, "str": str}
    values: dict[str, Any] = {}
    for item in fields(Settings):
        name, kind = PREFIX + item.name.upper(), str(item.type)
        if text := environment.get(name, "").strip():
            values[item.name] = _converted(name, text, kinds[kind])
    missing = [PREFIX + name.upper() for name in ("source_url", "alert_url") if name not in values]
    if missing:
        raise SettingError(f"{' and '.join(missing)} must be set: see README.md beside pipeline.py")
    return Settings(**values)


def _converted(name: str, text: str, kind: Any) -> Any:
    if name.endswith("_URL") and not text.startswith(("http://", "https://")):
        raise SettingError(f"{name} is no address that begins with http:// or https://")
    try:
        value = kind(text)
    except ValueError:
        raise SettingError(f"{name} is no number: {text!r}") from None
    if isinstance(value, int | float) and not 0 < value < float("inf"):
        raise SettingError(f"{name} is {text}, and must be above 0")
    return value


def checked(day: str) -> str:
    try:
        if datetime.date.fromisoformat(day).isoformat() == day:
            return day
    except ValueError:
        pass
    raise SettingError(f"{day!r} is no day, such as 2026-01-31")
