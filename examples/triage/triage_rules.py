"""What an issue is to the triage: how it is read, which ones are alerts, what is said of them. Plain functions."""

from __future__ import annotations

import datetime
from typing import Any

LABELS = ("bug", "security", "priority:high")
"""Of an issue that somebody is told of."""

RULES = {
    "rules": {
        "type": "IF",
        "groups": [
            {
                "connector": "OR",
                "rules": [{"field": "labels", "operator": "contains", "value": label} for label in LABELS],
            }
        ],
    }
}
"""`LABELS`, in the words of reflow's rules engine."""

MOST_NUMBER = 2**53


class UnreadableError(Exception):
    """The source gave something that is no issue; its text says what is wrong with it."""


def normalised(item: Any) -> dict[str, Any]:
    """What is kept of an issue: only what a later look at the same day finds again."""
    if not isinstance(item, dict):
        raise UnreadableError("is no object")
    number = item.get("number")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < MOST_NUMBER:
        raise UnreadableError("has no number")
    user = item.get("user")
    return {
        "number": number,
        "title": _text(item, "title"),
        "url": _text(item, "html_url"),
        "author": _text(user, "login") if isinstance(user, dict) else "",
        "labels": _labels(item.get("labels")),
        "created_at": _moment(_text(item, "created_at")),
    }


def is_alert(issue: dict[str, Any]) -> bool:
    """What the rules say, for who has no network to ask."""
    return not set(LABELS).isdisjoint(issue["labels"])


def alert_text(issue: dict[str, Any]) -> str:
    """One line, with what Slack takes for markup made harmless."""
    text = f"#{issue['number']} {issue['title']} ({', '.join(issue['labels'])}) {issue['url']}"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _text(item: dict[str, Any], name: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise UnreadableError(f"has no {name}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnreadableError(f"has a {name} that is no text") from None
    return value


def _labels(labels: Any) -> list[str]:
    if not isinstance(labels, list):
        raise UnreadableError("has no labels")
    return sorted({_text(label if isinstance(label, dict) else {"name": label}, "name") for label in labels})


def _moment(text: str) -> str:
    try:
        moment = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        raise UnreadableError("has a created_at that is no moment") from None
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
