"""From the tables of a pipeline's file to a `Blueprint`, with everything that is wrong with them. Pure functions.

All problems are found, not only the first: whoever mends the file wants to see them together. What needs the values of
the parameters, such as ids that are made from them, is checked when there are some, in `pipelines`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from air_executor import definitions, model, parameters, placeholders, validation
from air_executor.errors import InvalidInputError
from air_executor.parameters import ENVIRONMENT, Parameter
from air_executor.slurm import options as slurm_options

RESERVED_LABELS = ("pipeline", ENVIRONMENT)
"""Labels that every job of a pipeline has; they say which one, and in which environment."""
_SHARED = ("cwd", "env")
"""Options of a pipeline that are those of its tasks."""


def _types(kind: type[Any], names: Collection[str]) -> dict[str, str]:
    return {item.name: str(item.type) for item in fields(kind) if item.name in names}


TASK_TYPES = _types(model.Task, definitions.TASK_KEYS)
OPTION_TYPES = {**_types(model.Job, definitions.JOB_OPTIONS), **_types(model.Task, _SHARED)}
"""What a pipeline or one of its environments may say of the whole job, and the types as the model declares them."""
_GRAPH = {"id", "dependencies"}
_MANY = 1000
"""Among so many ids nobody looks for the one that was meant: it would take long."""
_TYPED = {"int": ("integer",), "float": ("integer", "number"), "bool": ("boolean",)}
"""Where a placeholder becomes a value that is no text: the types that its parameter may have."""


@dataclass(frozen=True)
class Environment:
    """One overlay: what is different in it."""

    name: str
    params: dict[str, placeholders.Value] = field(default_factory=dict)
    """Other defaults."""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Blueprint:
    """What a pipeline's file says, before parameters have values."""

    description: str = ""
    params: dict[str, Parameter] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)
    default_environment: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the job, and `cwd` and `env` of all its tasks, with their placeholders."""
    tasks: tuple[dict[str, Any], ...] = ()
    problems: tuple[str, ...] = ()
    """Why nothing can be run from it."""
    warnings: tuple[str, ...] = ()

    @property
    def needs_environment(self) -> bool:
        """Whether there is something that is not known as long as no environment is chosen."""
        return any(ENVIRONMENT in placeholders.find(each) for each in (self.options, *self.tasks))


def typed(declared: str) -> bool:
    """Whether a field of this type takes the value of a placeholder as it is."""
    return declared.removesuffix(" | None") in _TYPED


def expand(key: str, declared: str, value: Any, values: Mapping[str, placeholders.Value]) -> Any:
    """A field of this type with its placeholders replaced; in `slurm`, too, numbers become numbers."""
    if key == "slurm":
        numbers = slurm_options.NUMERIC
        return {name: placeholders.expand(item, values, typed=name in numbers) for name, item in value.items()}
    return placeholders.expand(value, values, typed=typed(declared))


def read(content: Mapping[str, Any]) -> Blueprint:
    """What the content of a file says; look at `problems` before anything is made of it."""
    return _Reader().read(content)


def check_task(task: Mapping[str, Any]) -> None:
    """Raise `InvalidInputError` unless these fields, with nothing left to be replaced, could be those of a task."""
    alone = {"command": "true", "id": "task", **task, "dependencies": []}
    for dependency in task.get("dependencies", ()):
        validation.check_name("the dependency", dependency, validation.MAX_ID_BYTES)
    validation.check_tasks([model.Task(**alone)])


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `InvalidInputError` unless these could be the options of a job; as `check_task`."""
    check_task({key: options[key] for key in _SHARED if key in options})
    validation.check_job(model.Job("job", **{key: options[key] for key in options if key not in _SHARED}))


class _Reader:
    """Goes through the tables once and collects what is wrong."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.params: dict[str, Parameter] = {}
        self.environments: dict[str, Environment] = {}
        self.used: set[str] = set()

    def read(self, content: Mapping[str, Any]) -> Blueprint:
        known = ("description", "params", "environments", "default_environment", "tasks", *OPTION_TYPES)
        self._refuse_unknown("", content, known)
        description = content.get("description", "")
        if not isinstance(description, str):
            self._say("description", "must be a text")
        self.params = {name: self._param(name, table) for name, table in self._tables(content, "params")}
        named = self._tables(content, "environments")
        self.environments = {name: Environment(name) for name, _ in named}  # ${environment} is known from here on
        self.environments = {name: self._environment(name, table) for name, table in named}
        return Blueprint(
            description=str(description),
            params=self.params,
            environments=self.environments,
            default_environment=self._default_environment(content),
            options=self._options("", content),
            tasks=self._tasks(content.get("tasks")),
            problems=tuple(self.problems),
            warnings=tuple(self._warnings()),
        )

    def _say(self, where: str, why: str) -> None:
        self.problems.append(f"{where}: {why}" if where else why)

    def _refuse_unknown(self, where: str, table: Mapping[str, Any], known: Collection[str]) -> None:
        for key in sorted(table.keys() - set(known)):
            self._say(f"{where}{key:.60}", f"is unknown; {definitions.hint(key, known)}")

    def _tables(self, content: Mapping[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
        """The named tables below a key."""
        tables = content.get(key, {})
        if not isinstance(tables, dict):
            self._say(key, f"should be tables; write [{key}.NAME]")
            return []
        for name in (name for name, table in tables.items() if not isinstance(table, dict)):
            self._say(f"{key}.{name}", f"should be a table; write [{key}.{name}]")
        return [(name, table) for name, table in tables.items() if isinstance(table, dict)]

    def _param(self, name: str, table: Mapping[str, Any]) -> Parameter:
        where = f"[params.{name:.60}]"
        if not placeholders.is_name(name):
            self._say(where, "a parameter's name is an ASCII letter or '_', then letters, digits or '_'")
        if name == ENVIRONMENT:
            self._say(where, "a parameter cannot have that name; ${environment} is the chosen environment")
        return parameters.declare(name, table, lambda key, why: self._say(f"{where} {key}", why))

    def _environment(self, name: str, table: Mapping[str, Any]) -> Environment:
        where = f"[environments.{name:.60}]"
        try:
            validation.check_name("an environment", name)
        except InvalidInputError as error:
            self._say(where, str(error))
        self._refuse_unknown(f"{where} ", table, ("params", *OPTION_TYPES))
        return Environment(name, self._overlay(f"{where} params", table.get("params", {})), self._options(where, table))

    def _overlay(self, where: str, given: Any) -> dict[str, placeholders.Value]:
        if not isinstance(given, dict):
            self._say(where, "should be a table")
            return {}
        for key, value in given.items():
            if key not in self.params:
                self._say(f"{where}.{key:.60}", f"there is no such parameter; {definitions.hint(key, self.params)}")
            elif self.params[key].type and (why := self.params[key].why_not(value)):
                self._say(f"{where}.{key}", why)
        return given

    def _default_environment(self, content: Mapping[str, Any]) -> str | None:
        name = content.get("default_environment")
        if name is not None and (not isinstance(name, str) or name not in self.environments):
            why = definitions.hint(str(name)[:60], self.environments)
            self._say("default_environment", f"there is no such environment; {why}")
            return None
        return name

    # --- Options and tasks ---

    def _options(self, where: str, table: Mapping[str, Any]) -> dict[str, Any]:
        where = f"{where} " if where else ""
        good = self._fields(where, table, OPTION_TYPES, check_options)
        for label in RESERVED_LABELS:
            if label in good.get("labels", {}):
                self._say(f"{where}labels.{label}", "is always set, to the pipeline and its environment; leave it out")
        return good

    def _tasks(self, given: Any) -> tuple[dict[str, Any], ...]:
        if not isinstance(given, list) or not all(isinstance(task, dict) for task in given) or not given:
            self._say("tasks", "a pipeline needs tasks; write each as [[tasks]]")
            return ()
        tasks = tuple(self._task(number, task) for number, task in enumerate(given, 1))
        sound = all(_GRAPH & table.keys() == _GRAPH & task.keys() for table, task in zip(given, tasks, strict=True))
        if sound and not any(_is_made(task) for task in tasks):
            self._check_graph(tasks)
        return tasks

    def _task(self, number: int, table: Mapping[str, Any]) -> dict[str, Any]:
        given = table.get("id")
        where = f"task {given:.60}: " if isinstance(given, str) and given else f"task {number}: "
        name = given if isinstance(given, str) and validation.is_name(given) else f"task-{number}"
        self._refuse_unknown(where, table, TASK_TYPES)
        if "command" not in table:
            self._say(f"{where}command", "is missing; give a program to run")
        return self._fields(where, table, TASK_TYPES, lambda known: check_task({"id": name, **known}))

    def _fields(
        self,
        where: str,
        table: Mapping[str, Any],
        types: Mapping[str, str],
        check: Callable[[Mapping[str, Any]], None],
    ) -> dict[str, Any]:
        """The fields of a table that are in order, with their placeholders."""
        good: dict[str, Any] = {}
        for key in (key for key in types if key in table):
            if wrong := self._wrong(key, types[key], table[key]):
                self.problems += [f"{where}{key}: {why}" for why in wrong]
            else:
                good[key] = table[key]
        fixed = {key: placeholders.expand(value, {}) for key, value in good.items() if not placeholders.find(value)}
        if _fails(check, fixed):
            for key in fixed:
                if why := _fails(check, {key: fixed[key]}):
                    self._say(f"{where}{key}", why)
        return good

    def _wrong(self, key: str, declared: str, value: Any) -> list[str]:
        """Why a field cannot be what the file says, as far as the type and the placeholders tell."""
        try:
            names = placeholders.find(value)
            if unknown := [why for name in names if (why := self._why_unknown(name))]:
                return unknown
            if names and isinstance(value, str) and typed(declared):
                return self._wrong_type(declared.removesuffix(" | None"), value)
            model.check_value(key, declared, value)
            if key == "slurm":
                return [f"{name} {why}" for name, item in value.items() for why in self._wrong_in_slurm(name, item)]
        except ValueError as error:
            return [str(error)]
        return []

    def _wrong_type(self, declared: str, text: str) -> list[str]:
        wanted = _TYPED[declared]
        name = placeholders.only(text)
        if name is None:
            return ["should be a number, or one placeholder and nothing else"]
        kind = self.params[name].type if name in self.params else "string"
        if kind not in ("", *wanted):
            return [f"needs a parameter of the type {' or '.join(wanted)}; the type of {name} is {kind}"]
        return []

    def _wrong_in_slurm(self, name: str, value: Any) -> list[str]:
        if name not in slurm_options.NAMES:
            return [f"is unknown; {definitions.hint(name, slurm_options.NAMES)}"]
        if not placeholders.find(value):
            why = slurm_options.why_not(name, placeholders.expand(value, {}))
            return [why] if why else []
        if name in slurm_options.WHOLE and isinstance(value, str):
            return self._wrong_type("int", value)
        is_right = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return [] if (is_right if name == "extra" else isinstance(value, str)) else [slurm_options.must_be(name)]

    def _why_unknown(self, name: str) -> str | None:
        """Why there is nothing to put in for this placeholder."""
        self.used.add(name)
        if name == ENVIRONMENT:
            return None if self.environments else f"${{{name}}} needs a table [environments.NAME]; there is none"
        if name in self.params:
            return None
        known = [*self.params, ENVIRONMENT] if self.environments else self.params
        return f"${{{name:.60}}} is no declared parameter; {definitions.hint(name, known)}"

    def _check_graph(self, tasks: tuple[dict[str, Any], ...]) -> None:
        """Ids that no parameter changes: each once, and known where something depends on it; no cycle."""
        graph = [_vertex(task) for task in tasks]
        validation.number_tasks(graph)
        seen: set[str] = set()
        for task in graph:
            if task.id in seen:
                self._say(f"task {task.id}", "there are two tasks of that id; ids are unique in a pipeline")
            seen.add(task.id)
        unknown = [(task.id, name) for task in graph for name in task.dependencies if name not in seen]
        for name, dependency in unknown:
            hint = f"; {definitions.hint(dependency, seen)}" if len(seen) < _MANY else ""
            self._say(f"task {name}: dependencies", f"{dependency!r:.60} is not a task of this pipeline{hint}")
        told = len(seen) < len(graph) or unknown or not all(map(validation.is_name, seen))
        if not told and (cycle := _fails(validation.check_tasks, graph)):
            self._say("tasks", cycle)

    def _warnings(self) -> list[str]:
        """Nothing of a file with problems: what is not used may be used where something is wrong."""
        if self.problems:
            return []
        unused = [name for name in self.params if name not in self.used]
        literal = [name for name, item in self.params.items() if isinstance(item.default, str) and "${" in item.default]
        return [
            *(f"[params.{name}]: nothing uses it" for name in unused),
            *(f"[params.{name}] default: placeholders are not replaced in values" for name in literal),
        ]


def _vertex(task: Mapping[str, Any]) -> model.Task:
    """A task as far as the graph is concerned."""
    plain = placeholders.expand({key: task[key] for key in ("id", "dependencies") if key in task}, {})
    return model.Task("true", **plain)


def _is_made(task: Mapping[str, Any]) -> bool:
    """Whether its place in the graph depends on parameters."""
    return bool(placeholders.find([task.get("id", ""), task.get("dependencies", [])]))


def _fails(check: Callable[[Any], None], value: Any) -> str | None:
    try:
        check(value)
    except InvalidInputError as error:
        return str(error)
    return None
