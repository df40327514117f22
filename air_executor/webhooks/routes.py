"""Which webhooks are told of the end of a job: those that it names, and those that choose it by pipeline or label.

Whoever writes the end of a job asks this, for each job: so what config.toml says of it is kept as JSON in the spool,
together with what tells that file from a changed one. A home without config.toml costs one look.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection, Mapping
from typing import Any

from air_executor import _files, model
from air_executor.errors import CorruptFileError, InvalidJobError, SettingsError
from air_executor.paths import Home

log = logging.getLogger(__name__)

Route = Mapping[str, Any]
"""`states`, `pipelines`, `labels` and `all_jobs` of a webhook, as they are in its table."""
PIPELINE_LABEL = "pipeline"
EVERY = "*"


def chosen(routes: Mapping[str, Route], job: model.Job, state: model.JobState) -> list[str]:
    """The webhooks that are told that a job came to a state. Pure.

    One that the job names and nobody knows is told, too: that it is unknown is said where others see it.
    """
    return [name for name in concerned(routes, job) if name not in routes or _tells(routes[name], state)]


def concerned(routes: Mapping[str, Route], job: model.Job) -> list[str]:
    """The webhooks that are told of some ends of jobs like this one. Pure."""
    return list(dict.fromkeys([*job.webhooks, *(name for name, route in routes.items() if _wants(route, job))]))


def _tells(route: Route, state: model.JobState) -> bool:
    return str(state) in route.get("states", ())


def _wants(route: Route, job: model.Job) -> bool:
    """Whether a webhook is told of jobs like this one, also if they do not name it."""
    if route.get("all_jobs"):
        return True
    pipelines, labels = route.get("pipelines") or (), route.get("labels") or {}
    pipeline = job.labels.get(PIPELINE_LABEL)
    if pipelines and pipeline not in pipelines and not (EVERY in pipelines and pipeline is not None):
        return False
    return bool(pipelines or labels) and all(job.labels.get(key) == value for key, value in labels.items())


def of_home(home: Home) -> Mapping[str, Route]:
    """The webhooks of a home. While config.toml has a mistake, those that it had before.

    Raises:
        OSError: the home refused.
    """
    sign = _sign(home)
    if sign is None:
        return {}
    kept = _read_kept(home)
    if kept is not None and kept["config"] == sign:
        return kept["webhooks"]  # type: ignore[no-any-return]
    from air_executor import settings

    try:
        tables = settings.webhooks(home)
    except SettingsError as error:
        _complain(str(error))
        return {} if kept is None else kept["webhooks"]
    routes = {name: _route(table) for name, table in tables.items()}
    with contextlib.suppress(OSError):  # the next one reads the file, too
        _files.replace_object(home.webhook_routes, {"schema": model.SCHEMA, "config": sign, "webhooks": routes})
    return routes


_said: set[str] = set()


def _complain(why: str) -> None:
    """Once in a process: a runner asks every few seconds."""
    if why not in _said:
        _said.add(why)
        log.warning("which webhooks are to be told is not clear, going by what was valid before: %s", why)


def check_known(home: Home, names: Collection[str]) -> None:
    """Raise `InvalidJobError` unless config.toml has tables for all of these webhooks, and `SettingsError` as that."""
    if not names:  # mostly
        return
    from air_executor import definitions, settings

    known = settings.webhooks(home)
    for name in names:
        if name not in known:
            hint = definitions.hint(name, known)
            raise InvalidJobError(f"there is no webhook {name:.60}: {home.config} has no [webhooks.{name:.60}]; {hint}")


def _route(table: Any) -> dict[str, Any]:
    lists = {key: list(getattr(table, key)) for key in ("states", "pipelines")}
    return {**lists, "labels": dict(table.labels), "all_jobs": table.all_jobs}


def _sign(home: Home) -> list[int] | None:
    """What tells config.toml from a changed one; None if there is none."""
    try:
        status = os.stat(home.config)  # noqa: PTH116  # mostly there is none
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [status.st_ino, status.st_mtime_ns, status.st_size]


def _read_kept(home: Home) -> dict[str, Any] | None:
    try:
        content = _files.read_object(home.webhook_routes)
    except (FileNotFoundError, NotADirectoryError, CorruptFileError):
        return None
    routes = content.get("webhooks")
    whole = isinstance(routes, dict) and all(isinstance(route, dict) for route in routes.values())
    return content if whole and "config" in content else None
