"""One event to one webhook: what is sent for its kind, and what the answer means."""

from __future__ import annotations

import enum
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from air_executor import validation
from air_executor.errors import SettingsError
from air_executor.paths import Home
from air_executor.webhooks import events, signing, tables, targets, transport
from air_executor.webhooks.tables import WebhookSettings
from air_executor.webhooks.targets import Target
from air_executor.webhooks.transport import Answer, SendError

MAX_RETRY_AFTER = 3600.0
GONE = 410
_CONFLICT, _UNAUTHORIZED = 409, (401, 403)
_TOO_MANY = 429
_WHY_NO_LOG_IN = {
    401: ": the user or the password is wrong",
    404: ": what answers at {place} is not Airflow's API server, or has no /auth/token below the url: see url",
}


class Verdict(enum.Enum):
    """What became of a try."""

    TAKEN = "taken"
    REFUSED = "refused"
    """This event; others may be taken."""
    AWAY = "away"
    """The receiver is not there, or not well: others would not be taken, either."""
    NEVER = "never"
    """The receiver says that it wants nothing any more."""


@dataclass(frozen=True)
class Outcome:
    """What became of a try, and why."""

    verdict: Verdict
    error: str | None = None
    wait: float = 0.0
    """Seconds that the receiver asks to be left alone."""


def judge(answer: Answer) -> Outcome:
    """What an answer means. Pure; nothing that the receiver wrote is repeated."""
    if answer.good:
        return Outcome(Verdict.TAKEN)
    if 300 <= answer.status < 400:
        return Outcome(Verdict.REFUSED, f"HTTP {answer.status}: a redirect, and none is followed; give the final url")
    if answer.status == GONE:
        return Outcome(Verdict.NEVER, "HTTP 410: it wants no events any more")
    away = answer.status >= 500 or answer.status == _TOO_MANY
    return Outcome(Verdict.AWAY if away else Verdict.REFUSED, f"HTTP {answer.status}", _retry_after(answer))


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "").strip()
    return min(MAX_RETRY_AFTER, float(text)) if text.isascii() and text.isdecimal() and len(text) < 10 else 0.0


def explain(status: int, table: WebhookSettings, place: str, right: str) -> str | None:
    """What Airflow means with a status, where that says what to do; None for others. Pure.

    Args:
        place: where it answered.
        right: what the user must be allowed to do with the DAG.
    """
    return {
        400: f"Airflow makes no run of the DAG {table.dag_id}: see its import errors, parameters and allowed run types",
        401: f"Airflow at {place} does not take the {'token of the user' if table.user else 'token'}:"
        " it has expired, or another Airflow made it",
        403: f"{'the user' if table.user else 'the token does not count any more, or'} has no right to {right}"
        f" the DAG {table.dag_id} in Airflow at {place}",
        404: f"Airflow at {place} has no DAG {table.dag_id}, or the url is not that of Airflow's API server",
    }.get(status)


class Delivery:
    """Delivers the events of one webhook.

    Args:
        resolve: what finds the addresses of a host.
    """

    def __init__(
        self,
        home: Home,
        name: str,
        table: WebhookSettings,
        *,
        environ: Mapping[str, str] = os.environ,
        resolve: transport.Resolve | None = None,
    ) -> None:
        self._home, self._name, self._table, self._environ = home, name, table, environ
        self._resolve: dict[str, Any] = {} if resolve is None else {"resolve": resolve}
        self._token: tuple[Target, str] | None = None
        """What Airflow gave the last time, and for what."""

    def deliver(self, event: dict[str, Any]) -> Outcome:
        """Try to deliver an event."""
        try:
            target = targets.find(self._home, self._name, self._table, self._environ)
            if self._table.kind == tables.AIRFLOW:
                return self._airflow(target, event)
            content = {"text": events.as_text(event)} if self._table.kind == tables.SLACK else event
            return judge(self._post(target, event, content))
        except (SettingsError, SendError) as error:
            return Outcome(Verdict.AWAY, str(error))

    def _post(self, target: Target, event: Mapping[str, Any], content: Mapping[str, Any]) -> Answer:
        body = json.dumps(content).encode()
        headers = {signing.ID_HEADER: str(event["id"]), signing.EVENT_HEADER: str(event["event"])}
        if target.secret is not None:
            headers[signing.SIGNATURE_HEADER] = signing.sign(body, target.secret, time.time())
        return self._request("POST", target.url, body, headers)

    def _request(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        return transport.request(
            method,
            url,
            {"Content-Type": "application/json", **headers},
            body,
            timeout=self._table.timeout,
            allow_private=self._table.allow_private,
            **self._resolve,
        )

    # --- Airflow ---

    def _airflow(self, target: Target, event: dict[str, Any]) -> Outcome:
        """Make a DAG run of the event; of a ping, only see whether that would be possible."""
        dag = f"{target.url.rstrip('/')}/api/v2/dags/{quote(self._table.dag_id or '', safe='')}"
        if event["event"] == events.PING:
            return self._judge(self._authorized("GET", dag, b"", target), target, "see")
        run = {"dag_run_id": run_id(event), "logical_date": None, "conf": event}
        answer = self._authorized("POST", f"{dag}/dagRuns", json.dumps(run).encode(), target)
        if answer.status == _CONFLICT:  # there is a run of this id, so of this event: its answer did not arrive
            return Outcome(Verdict.TAKEN)
        return self._judge(answer, target, "make runs of")

    def _judge(self, answer: Answer, target: Target, right: str) -> Outcome:
        outcome = judge(answer)
        why = explain(answer.status, self._table, target.place, right)
        return replace(outcome, error=f"{outcome.error}: {why}") if why else outcome

    def _authorized(self, method: str, url: str, body: bytes, target: Target) -> Answer:
        """A request with a token; with a new one, if the one from before is not valid any more."""
        kept = self._token is not None and self._token[0] == target
        answer = self._request(method, url, body, {"Authorization": f"Bearer {self._find_token(target)}"})
        if kept and self._table.user is not None and answer.status in _UNAUTHORIZED:
            self._token = None
            answer = self._request(method, url, body, {"Authorization": f"Bearer {self._find_token(target)}"})
        return answer

    def _find_token(self, target: Target) -> str:
        if self._table.user is None:
            return target.secret or ""
        if self._token is None or self._token[0] != target:
            self._token = target, self._log_in(target)
        return self._token[1]

    def _log_in(self, target: Target) -> str:
        credentials = json.dumps({"username": self._table.user, "password": target.secret}).encode()
        answer = self._request("POST", f"{target.url.rstrip('/')}/auth/token", credentials, {})
        if not answer.good:
            raise SendError(
                f"Airflow does not log in the user of [webhooks.{self._name}]: HTTP {answer.status}"
                + _WHY_NO_LOG_IN.get(answer.status, "").format(place=target.place)
            )
        try:
            token = json.loads(answer.body)["access_token"]
            if not isinstance(token, str) or not token.isascii() or not token.isprintable():
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise SendError(f"what answers at {target.place} as Airflow gives no token") from None
        return token


def run_id(event: Mapping[str, Any]) -> str:
    """The id of the DAG run of an event: the same at each delivery, so that Airflow makes one."""
    job = event["job"]
    return validation.make_name("webhook", str(job["name"]), str(job["attempt"]), key=str(event["id"]))
