"""The tables `[webhooks.<name>]` of config.toml. Pure functions; no file is read, no variable looked at.

::

    [webhooks.ops]
    url = "https://ops.example.org/jobs"
    secret_file = "webhooks/ops.secret"     # in the home, or an absolute path; never the secret itself
    pipelines = ["nightly"]
    states = ["failed"]
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from air_executor import conversions, definitions, model, validation
from air_executor.errors import InvalidInputError, SettingsError

JSON, SLACK, AIRFLOW = "json", "slack", "airflow"
KINDS = (JSON, SLACK, AIRFLOW)
STATES = tuple(str(state) for state in model.JobState if state.terminal)
EVERY = "*"
"""In `pipelines`: whatever the pipeline."""
MAX_TIMEOUT = 120.0
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_URL = re.compile(r"[!-~]+\Z")
_IN_PLACE_OF_SECRETS = {
    "secret": "secret_file or secret_env, which say where it is",
    "token": "secret_file or secret_env, which say where the token is",
    "password": "user, and secret_file or secret_env, which say where the password is",
}


@dataclass(frozen=True)
class WebhookSettings:
    """One table `[webhooks.<name>]`."""

    url: str | None = None
    """Where events go; of `airflow`, where the API server is."""
    url_env: str | None = None
    """The variable that holds the URL, where that is itself a secret."""
    url_file: str | None = None
    """The file that holds it."""
    kind: str = JSON
    """What is sent: a signed event (json), a text for a chat (slack), or a DAG run (airflow)."""
    secret_env: str | None = None
    """The variable that holds the key of signatures; of `airflow`, the password of `user`, or a token."""
    secret_file: str | None = None
    """The file that holds it."""
    user: str | None = None
    """Who logs in to Airflow; None: the secret is a token."""
    dag_id: str | None = None
    """The DAG of which Airflow shall make a run."""
    states: tuple[str, ...] = STATES
    """The ends that are told."""
    pipelines: tuple[str, ...] = ()
    """Whose jobs are told, beside those that name this webhook; `*`: of all pipelines."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What labels a job must have that does not name this webhook."""
    all_jobs: bool = False
    """Whether all jobs are told, those of Airflow included."""
    allow_private: bool = False
    """Whether it may be an address of this host or of a private network, and plain HTTP."""
    timeout: float = 10.0
    """Seconds that one delivery may take."""
    max_attempts: int = 0
    """How often an event is tried before it is given up; 0: any number."""
    give_up_after: float = 3 * 86_400.0
    """Seconds after the end of the job after which it is given up."""


_TYPES = {item.name: str(item.type) for item in dataclasses.fields(WebhookSettings) if item.name != "labels"}
_NAMES = (*_TYPES, "labels")


def read(where: str, tables: Any) -> dict[str, WebhookSettings]:
    """The webhooks that have a table, in their order.

    Args:
        where: how errors call the file.
        tables: what it holds below `webhooks`.

    Raises:
        SettingsError: one of them cannot be what it says; no value that may be a secret is in the message.
    """
    if not isinstance(tables, Mapping):
        raise SettingsError(f"{where}: [webhooks] should be tables; write [webhooks.NAME]")
    return {name: _read_one(where, name, table) for name, table in tables.items()}


def _read_one(where: str, name: str, table: Any) -> WebhookSettings:
    try:
        validation.check_name("the webhook", name, validation.MAX_WEBHOOK_BYTES)
    except InvalidInputError as error:
        raise SettingsError(f"{where}: [webhooks.{name[:40]}]: {error}") from None
    here = f"{where}: [webhooks.{name}]"
    if not isinstance(table, Mapping):
        raise SettingsError(f"{where}: webhooks.{name} should be a table; write [webhooks.{name}]")
    for option in table:
        _refuse_unknown(here, option)
    values = {option: _check(f"{here} {option}", option, table[option]) for option in table if option in _TYPES}
    settings = WebhookSettings(**values, labels=_labels(f"{here} labels", table.get("labels", {})))
    _check_whole(here, settings)
    return settings


def _refuse_unknown(here: str, option: str) -> None:
    if option in _IN_PLACE_OF_SECRETS:
        raise SettingsError(f"{here} has no option {option}; give {_IN_PLACE_OF_SECRETS[option]}")
    if option not in _NAMES:
        raise SettingsError(f"{here} has the unknown option {option[:60]}; {definitions.hint(option, _NAMES)}")


def _check(where: str, name: str, value: Any) -> Any:
    if name in ("url", "url_env", "url_file", "secret_env", "secret_file") and not isinstance(value, str):
        raise SettingsError(f"{where} must be a text")  # whatever it is, it may be a secret
    converted = conversions.CONVERTERS[_TYPES[name]](where, value)
    if name == "kind" and converted not in KINDS:
        raise SettingsError(f"{where} must be one of {', '.join(KINDS)}, not {conversions.show(converted)}")
    if name == "states" and (not converted or set(converted) - set(STATES)):
        raise SettingsError(f"{where} must be some of {', '.join(STATES)}, not {conversions.show(value)}")
    if name == "pipelines" and (
        wrong := [text for text in converted if text != EVERY and not validation.is_name(text)]
    ):
        raise SettingsError(f"{where} must be names of pipelines, or {EVERY!r}, not {conversions.show(wrong[0])}")
    if name in ("url_env", "secret_env") and not _VARIABLE.match(converted):
        raise SettingsError(f"{where} must be the name of an environment variable; what it is now is none")
    if name in ("url_file", "secret_file", "user", "dag_id") and (not converted.strip() or "\0" in converted):
        raise SettingsError(f"{where} must not be empty, nor hold a NUL character")
    if name == "timeout" and not 0 < converted <= MAX_TIMEOUT:
        raise SettingsError(f"{where} must be more than 0 s and at most {MAX_TIMEOUT:g} s, not {converted}")
    if name == "max_attempts" and converted < 0:
        raise SettingsError(f"{where} must be 0 for any number, or more, not {converted}")
    if name == "give_up_after" and converted <= 0:
        raise SettingsError(f"{where} must be more than 0 s, not {converted}")
    return converted


def _labels(where: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise SettingsError(f'{where} must map text to text, such as {{ team = "data" }}')
    return dict(value)


def _check_whole(here: str, settings: WebhookSettings) -> None:
    """What options say together."""
    _check_one_of(here, settings, "url", must=True)
    _check_one_of(here, settings, "secret", must=settings.kind != SLACK)
    if settings.url is not None:
        check_url(f"{here} url", settings.url, settings)
    if settings.kind == AIRFLOW and settings.dag_id is None:
        raise SettingsError(f"{here} needs dag_id: the DAG of which a run is made")
    if settings.kind != AIRFLOW and (settings.dag_id is not None or settings.user is not None):
        option = "user" if settings.dag_id is None else "dag_id"
        raise SettingsError(f'{here} {option} is for those of the kind {AIRFLOW}; set kind = "{AIRFLOW}", too')
    if settings.all_jobs and (settings.pipelines or settings.labels):
        raise SettingsError(f"{here} has all_jobs, and pipelines or labels that choose some; leave out one of them")


def _check_one_of(here: str, settings: WebhookSettings, what: str, *, must: bool) -> None:
    known = [name for name in (what, f"{what}_file", f"{what}_env") if name in _TYPES]
    given = [name for name in known if getattr(settings, name) is not None]
    if len(given) > 1:
        raise SettingsError(f"{here} has both {given[0]} and {given[1]}; leave out one of them")
    if must and not given:
        raise SettingsError(f"{here} needs one of {', '.join(known)}")


def check_url(where: str, url: str, settings: WebhookSettings) -> None:
    """Raise `SettingsError` unless something can be sent there; the message does not hold the URL: it may be secret."""
    from urllib.parse import urlsplit

    try:
        if not _URL.match(url):
            raise ValueError
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname  # the first raises for a port that is none
    except ValueError:
        raise SettingsError(f"{where} is no URL: it needs a host, a port below 65536 if any, and no spaces") from None
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise SettingsError(f"{where} must be of the form https://HOST[:PORT]/PATH")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise SettingsError(f"{where} must hold neither a user, nor a password, nor a fragment (#...)")
    if parts.scheme == "http" and not settings.allow_private:
        raise SettingsError(f"{where} must be https://; plain http is for private networks: set allow_private = true")
