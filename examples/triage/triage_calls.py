"""What is said to the two servers, and what their answers mean."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import triage_rules
from triage_errors import EndError
from triage_settings import PREFIX, Settings
from triage_web import Caller

MOST_ISSUES = 1000
"""As many as GitHub's search gives away for one question."""


def ask(caller: Caller, settings: Settings, day: str, page: int) -> str:
    """One page of the issues of a day, as it came."""
    query = {
        "q": f"{settings.source_query} created:{day}",
        "sort": "created",
        "order": "asc",
        "per_page": settings.page_size,
        "page": page,
    }
    return caller.get(settings.source_url, query, settings.source_token)


def opened(text: str) -> tuple[int, list[Any]]:
    """How many issues there are in all, and those of this page."""
    try:
        envelope = json.loads(text)
        total, items, cut = envelope["total_count"], envelope["items"], envelope.get("incomplete_results", False)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise EndError("the source did not answer with a page of issues", passing=False) from None
    if not isinstance(total, int) or not isinstance(items, list):
        raise EndError("the source did not answer with a page of issues", passing=False)
    if cut:
        raise EndError("the source ran out of time, and gave only some of the issues", passing=True)
    if total > MOST_ISSUES:
        raise EndError(
            f"the source has {total} issues for that day and gives away {MOST_ISSUES}: narrow {PREFIX}SOURCE_QUERY",
            passing=False,
        )
    return total, items


class Fresh:
    """A page may begin with the end of the one before, when an issue has come between two questions."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def of(self, items: list[Any]) -> list[Any]:
        """Those that no earlier page had."""
        return [item for item in items if self._is_new(item)]

    def _is_new(self, item: Any) -> bool:
        number = item.get("number") if isinstance(item, dict) else None
        if not isinstance(number, int):
            return True
        known = number in self._seen
        self._seen.add(number)
        return not known


def key(day: str, issue: dict[str, Any]) -> str:
    """Names the alert of an issue, in each try of the day."""
    return f"{day}-{issue['number']}"


def tell(caller: Caller, settings: Settings, name: str, issue: dict[str, Any]) -> None:
    """Post an alert.

    Raises:
        EndError: it was not taken.
    """
    content = {"text": triage_rules.alert_text(issue)}
    if settings.alert_channel:
        content["channel"] = settings.alert_channel
    answer = caller.post(settings.alert_url, content, settings.alert_token, name)
    with contextlib.suppress(ValueError):  # a webhook says "ok", and no JSON
        said = json.loads(answer)
        if isinstance(said, dict) and said.get("ok") is False:
            raise EndError(f"the alert was refused: {str(said.get('error'))[:100]}", passing=False)
