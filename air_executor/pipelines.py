"""Pipelines: named, parameterised job definitions in `<home>/pipelines/<name>.toml`, and the jobs that come of them.

::

    file ── examine ──> Pipeline ── render(params, environment) ──> Submission ── client ──> job
            (blueprints: all problems)     (parameters: values, placeholders: texts)

A file is read anew each time. Everything is checked before anything is written. No message holds a value that somebody
gave: it may be a secret.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from air_executor import _files, blueprints, definitions, model, parameters, placeholders, store, validation
from air_executor.blueprints import Blueprint
from air_executor.errors import (
    CorruptFileError,
    HomeError,
    InvalidInputError,
    InvalidJobError,
    InvalidParameterError,
    InvalidPipelineError,
    NotFoundError,
)
from air_executor.parameters import ENVIRONMENT
from air_executor.paths import Home
from air_executor.slurm import options as slurm_options

_SUFFIX = ".toml"
_NAME_PART = 180
"""How much of a pipeline's name a made up job name keeps, so that its unique part has room."""
_EXPECTED = {
    **dict.fromkeys(("id", "dependencies", "queue"), "a letter or digit, then ASCII letters, digits, '.', '_' or '-'"),
    **dict.fromkeys((*validation.LIMITS, "max_parallel"), "a positive number"),
    "nice": "a number from -20 to 19",
    "on_failure": " or ".join(model.OnFailure),
    **dict.fromkeys(("retries", "retry_delay"), "a number that is not negative"),
}
"""What a field must be where the message of `validation` cannot be repeated, because it would hold the value."""


@dataclass(frozen=True)
class Pipeline:
    """A pipeline's file as it is now."""

    name: str
    path: Path
    blueprint: Blueprint

    def check(self) -> None:
        """Raise `InvalidPipelineError` if its file has problems."""
        if problems := self.blueprint.problems:
            command = f"air-executor pipeline validate {self.name}"
            more = f" (and {len(problems) - 1} more; see {command})" if len(problems) > 1 else ""
            raise InvalidPipelineError(f"{self.path}: {problems[0]}{more}", problems)

    def render(self, params: Mapping[str, Any] | None = None, environment: str | None = None) -> store.Submission:
        """The job for these values. It has no name yet.

        Args:
            params: values of the declared types, for parameters without a default and for others.
            environment: one of those that the file declares; None: its `default_environment`, if it has one.

        Raises:
            InvalidPipelineError: the file has problems.
            InvalidParameterError: a value or the environment is unknown, missing, or not what the file allows.
        """
        self.check()
        try:
            home = self.path.absolute().parent.parent
            return _render(self.blueprint, self.name, home, {} if params is None else params, environment)
        except InvalidParameterError as error:
            raise InvalidParameterError(f"{self.path}: {error}") from None

    def convert(self, texts: Mapping[str, str]) -> dict[str, placeholders.Value]:
        """Values that somebody typed, of the declared types.

        Raises:
            InvalidParameterError: a parameter is unknown, or a text cannot be read as its type.
        """
        self.check()
        declared = self.blueprint.params
        try:
            return {name: parameters.find(declared, name).from_text(text) for name, text in texts.items()}
        except InvalidParameterError as error:
            raise InvalidParameterError(f"{self.path}: {error}") from None

    def rehearse(self) -> list[str]:
        """What is wrong with the jobs that the defaults make, here and in each environment, where they suffice."""
        found = []
        blueprint = self.blueprint
        own = {name for name, item in blueprint.params.items() if item.default is not None}
        environments = [blueprints.Environment(""), *blueprint.environments.values()]
        for environment in [] if blueprint.problems else environments:
            named = environment.name or blueprint.default_environment
            complete = blueprint.params.keys() <= own | environment.params.keys()
            if complete and (named or not blueprint.needs_environment):
                try:
                    self.render({}, environment.name or None)
                except InvalidParameterError as error:
                    where = f"[environments.{environment.name}] " if environment.name else ""
                    found.append(f"{where}with the defaults: {str(error).removeprefix(f'{self.path}: ')}")
        return list(dict.fromkeys(found))


# --- Files ---


def load(home: Home, name: str) -> Pipeline:
    """The pipeline of this name, ready to be rendered.

    Raises:
        InvalidNameError: this cannot be a pipeline's name.
        NotFoundError: there is no such pipeline.
        InvalidPipelineError: its file has problems.
    """
    pipeline = find(home, name)
    pipeline.check()
    return pipeline


def find(home: Home, name: str) -> Pipeline:
    """The pipeline of this name, with whatever problems it has; raises as `load` otherwise."""
    path = home.pipelines / f"{validation.check_name('the pipeline', name)}{_SUFFIX}"
    try:
        return examine(path)
    except FileNotFoundError:
        known = [pipeline.stem for pipeline in _paths(home)]
        hint = definitions.hint(name, known) if known else "there is none yet"
        raise NotFoundError(f"there is no pipeline {name}: {path} does not exist; {hint}") from None


def find_all(home: Home) -> list[Pipeline]:
    """All pipelines of a home, also those whose file has problems, by name."""
    found = []
    for path in _paths(home):
        try:
            found.append(examine(path))
        except FileNotFoundError:
            continue  # removed meanwhile
    return found


def _paths(home: Home) -> list[Path]:
    try:
        return sorted(path for path in home.pipelines.iterdir() if _is_ours(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise HomeError(f"{home.pipelines} cannot be read: {error.strerror}") from None


def _is_ours(path: Path) -> bool:
    """Not what an editor keeps beside the file."""
    return path.suffix == _SUFFIX and not path.name.startswith(".")


def examine(path: Path) -> Pipeline:
    """A file that holds a pipeline, wherever it is, with whatever problems it has.

    Raises:
        FileNotFoundError: there is no such file.
    """
    name = path.stem
    problems = [] if validation.is_name(name) else [f"no pipeline can have the name {name!r:.60}; rename the file"]
    content = _read(path)
    if isinstance(content, str):
        return Pipeline(name, path, Blueprint(problems=(*problems, content)))
    blueprint = blueprints.read(content)
    return Pipeline(name, path, _with(blueprint, problems) if problems else blueprint)


def _with(blueprint: Blueprint, problems: list[str]) -> Blueprint:
    return replace(blueprint, problems=(*problems, *blueprint.problems))


def _read(path: Path) -> dict[str, Any] | str:
    """What the file holds, or why it cannot be read."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content: dict[str, Any] = tomllib.loads(_files.read_bytes(path).decode("utf-8"))
        return content
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        return f"not valid TOML: {error}"
    except CorruptFileError as error:
        return str(error).removeprefix(f"{path}: ")
    except OSError as error:
        return f"cannot be read: {error.strerror}"


# --- Rendering ---


def _render(
    blueprint: Blueprint, name: str, home: Path, given: Mapping[str, Any], chosen: str | None
) -> store.Submission:
    environment = _environment(blueprint, chosen)
    if blueprint.needs_environment and not environment.name:
        known = ", ".join(sorted(blueprint.environments))
        raise InvalidParameterError(f"the pipeline uses ${{environment}}; choose an environment: {known}")
    values = parameters.bind(blueprint.params, given, environment.params)
    if environment.name:
        values[ENVIRONMENT] = environment.name
    written = _merge(blueprint.options, environment.options)
    options = _expand(written, blueprints.OPTION_TYPES, values)
    shared = {"env": options.pop("env", {}), "cwd": options.pop("cwd", None)}
    tasks = [_task(_expand(task, blueprints.TASK_TYPES, values), home, **shared) for task in blueprint.tasks]
    labels = {"pipeline": name, **({ENVIRONMENT: environment.name} if environment.name else {})}
    options["labels"] = {**options.get("labels", {}), **labels}
    job = model.Job("", trigger=model.Trigger.PIPELINE.value, **options)
    try:
        validation.number_tasks(tasks)
        validation.check_tasks(tasks)
        blueprints.check_options(options)
    except InvalidInputError:
        raise _blame(blueprint, written, values) from None  # its message holds values
    return store.Submission(job, tasks)


def _environment(blueprint: Blueprint, chosen: str | None) -> blueprints.Environment:
    """The environment that counts; one without a name if there is none."""
    name = chosen if chosen is not None else blueprint.default_environment
    if name is None:
        return blueprints.Environment("")
    if not isinstance(name, str) or name not in blueprint.environments:
        hint = definitions.hint(str(name)[:60], blueprint.environments)
        raise InvalidParameterError(f"there is no environment {name!r:.60}; {hint}")
    return blueprint.environments[name]


def _merge(options: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """What an environment says goes before; `env`, `labels` and `slurm` are merged name by name."""
    merged = {**options, **overlay}
    for key in ("env", "labels"):
        if key in merged:
            merged[key] = {**options.get(key, {}), **overlay.get(key, {})}
    if "slurm" in merged:
        merged["slurm"] = slurm_options.combine(options.get("slurm", {}), overlay.get("slurm", {}))
    return merged


def _expand(
    written: Mapping[str, Any], types: Mapping[str, str], values: Mapping[str, placeholders.Value]
) -> dict[str, Any]:
    return {key: blueprints.expand(key, types[key], value, values) for key, value in written.items()}


def _task(content: dict[str, Any], home: Path, *, env: Mapping[str, str], cwd: str | None) -> model.Task:
    """One task, with what the pipeline says of all of them. A directory that is relative lies in the home."""
    content["env"] = {**env, **content.get("env", {})}
    if cwd is not None or content.get("cwd") is not None:
        content["cwd"] = str(home / (cwd or "") / (content.get("cwd") or ""))
    return definitions.to_task(content)


def _blame(
    blueprint: Blueprint, options: Mapping[str, Any], values: Mapping[str, placeholders.Value]
) -> InvalidParameterError:
    """Which field cannot be what these values make of it. All that does not depend on values was checked before."""
    made: list[tuple[str, Mapping[str, Any], Mapping[str, str], Callable[[Mapping[str, Any]], None]]]
    made = [("", options, blueprints.OPTION_TYPES, blueprints.check_options)]
    for number, task in enumerate(blueprint.tasks, 1):
        made.append((f"task {task.get('id', number)}: ", task, blueprints.TASK_TYPES, blueprints.check_task))
    for where, written, types, check in made:
        for key in written:
            try:
                check(_expand({key: written[key]}, types, values))
            except InvalidInputError:
                return InvalidParameterError(f"{where}{_why_not(key, written[key], values)}")
    return InvalidParameterError(
        "with these parameters the tasks do not fit together: an id is there twice, a dependency is no task, or tasks "
        "wait for each other"
    )


def _why_not(key: str, written: Any, values: Mapping[str, placeholders.Value]) -> str:
    """What a field that cannot be what these values make of it should be; of `slurm`, the first such option."""
    expected = _EXPECTED.get(key, "text that a program can be given")
    if key == "slurm":
        for name, value in blueprints.expand(key, "", written, values).items():
            if slurm_options.why_not(name, value):
                key, written, expected = f"slurm {name}", written[name], slurm_options.expected(name)
                break
    names = ", ".join(f"${{{name}}}" for name in placeholders.find(written))
    return f"{key} must be {expected}, and {names} makes it something else"


# --- Jobs ---


def submission(
    home: Home,
    name: str,
    *,
    params: Mapping[str, Any] | None = None,
    environment: str | None = None,
    job_name: str | None = None,
    labels: Mapping[str, str] | None = None,
    **options: Any,
) -> store.Submission:
    """The job that a pipeline makes of these values, ready to be submitted; as `AirExecutorClient.pipeline`."""
    made = load(home, name).render(params, environment)
    unique = job_name if job_name is not None else f"{name[:_NAME_PART]}-{uuid.uuid4().hex[:12]}"
    made.job = replace(made.job, name=unique, id="")  # an id is made from the name
    amend(made.job, labels or {}, options)
    return made


def amend(job: model.Job, labels: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """What somebody says of a job beside what its pipeline says; raises as `submission`."""
    _label(job, labels)
    known = {item.name for item in fields(model.Job)} - {"name", "labels", "id", "state", "extra"}
    for key, value in options.items():
        if key not in known:
            raise InvalidJobError(f"unknown option {key!r:.60}; {definitions.hint(key, definitions.JOB_OPTIONS)}")
        if key == "slurm" and value is not None:
            job.slurm = slurm_options.combine(job.slurm or {}, slurm_options.read(value))
        elif value is not None:
            setattr(job, key, value)
    validation.check_job(job)


def _label(job: model.Job, labels: Mapping[str, str]) -> None:
    if not isinstance(labels, Mapping):
        raise InvalidJobError(f"labels map text to text; a {type(labels).__name__} does not")
    if taken := [label for label in blueprints.RESERVED_LABELS if label in labels]:
        raise InvalidJobError(f"the label {taken[0]} is always set, to the pipeline and its environment; leave it out")
    job.labels = {**job.labels, **labels}
