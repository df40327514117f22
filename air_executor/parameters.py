"""The parameters of a pipeline: what it declares, and what may be given for them. Pure functions.

A value may be a secret: no message repeats one. The default and the choices of a parameter are in the pipeline's file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from air_executor import definitions, placeholders
from air_executor.errors import InvalidParameterError
from air_executor.placeholders import Value

ENVIRONMENT = "environment"
"""`${environment}` is the chosen environment; no parameter may have that name."""
TYPES: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "string": ("a text", (str,)),
    "integer": ("a whole number", (int,)),
    "number": ("a number", (int, float)),
    "boolean": ("true or false", (bool,)),
}
"""For each type what people call it, and what it is in Python."""
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}\Z")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\Z")
KEYS = ("type", "default", "description", "choices", "min", "max", "pattern")
"""What may be declared of a parameter."""

Report = Callable[[str, str], None]
"""Takes a problem of a file: the key, and what is wrong."""


@dataclass(frozen=True)
class Parameter:
    """One parameter as the file declares it."""

    name: str
    type: str = "string"
    """One of `TYPES`."""
    default: Value | None = None
    """None: it must be given."""
    description: str = ""
    choices: tuple[Value, ...] = ()
    """The values that it may have; empty: any."""
    min: float | None = None
    max: float | None = None
    pattern: str | None = None
    """A regular expression that the whole text must match."""

    def why_not(self, value: object) -> str | None:
        """Why it cannot have this value, or None; never says the value."""
        if not _is_of(self.type, value):
            return f"must be {TYPES[self.type][0]}"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(map(placeholders.to_text, self.choices))}"
        if self.min is not None and value < self.min:  # type: ignore[operator]
            return f"must be at least {self.min}"
        if self.max is not None and value > self.max:  # type: ignore[operator]
            return f"must be at most {self.max}"
        if self.pattern is not None and not re.fullmatch(self.pattern, str(value)):
            return f"must match {self.pattern}"
        return None

    def from_text(self, text: str) -> Value:
        """The value that somebody typed.

        Raises:
            InvalidParameterError: it cannot be read as the declared type.
        """
        if self.type == "string":
            return text
        if self.type == "boolean" and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if self.type != "boolean" and _INTEGER.match(text):
            return int(text)
        if self.type == "number" and _NUMBER.match(text):
            return float(text)
        raise InvalidParameterError(f"the parameter {self.name} must be {TYPES[self.type][0]}")


def _is_of(kind: str, value: object) -> bool:
    """Whether it is of this type: True is no number, and neither is what no number of 64 bits can hold."""
    if not isinstance(value, TYPES[kind][1]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    return not isinstance(value, (int, float)) or abs(value) < 2**63


def bind(
    declared: Mapping[str, Parameter], given: Mapping[str, Any], defaults: Mapping[str, Value]
) -> dict[str, Value]:
    """A value for each parameter: what was given, else the environment's default, else its own.

    Args:
        declared: the parameters, by name.
        given: what somebody chose, of the declared types.
        defaults: those of the environment.

    Raises:
        InvalidParameterError: one is unknown, missing, or cannot be what was given.
    """
    if not isinstance(given, Mapping):
        raise InvalidParameterError(f"the parameters should map names to values, not be a {type(given).__name__}")
    for name, value in given.items():
        if why := find(declared, name).why_not(value):
            raise InvalidParameterError(f"the parameter {name} {why}{_found(declared[name], value)}")
    own = {name: item.default for name, item in declared.items() if item.default is not None}
    values = {**own, **defaults, **given}
    if missing := [name for name in declared if name not in values]:
        need = ", ".join(f"{name} ({TYPES[declared[name].type][0]})" for name in missing)
        raise InvalidParameterError(f"the pipeline needs a value for {need}")
    return values


def _found(parameter: Parameter, value: object) -> str:
    """What was given instead, by its type: a text "7" is easily taken for the number."""
    known = {str: "a text", bool: "a truth value", int: "a whole number", float: "a number"}
    given = known.get(type(value), f"of the type {type(value).__name__}")
    return "" if _is_of(parameter.type, value) else f"; what was given is {given}"


def find(declared: Mapping[str, Parameter], name: object) -> Parameter:
    """The parameter of this name.

    Raises:
        InvalidParameterError: there is none.
    """
    if not isinstance(name, str) or name not in declared:
        raise InvalidParameterError(f"there is no parameter {name!r:.60}; {definitions.hint(str(name)[:60], declared)}")
    return declared[name]


# --- Declarations ---


def declare(name: str, table: Mapping[str, Any], report: Report) -> Parameter:
    """The parameter that a table of the file declares, and a report of each problem.

    Keys that are wrong are left out, so that one mistake is reported once.
    """
    for key in sorted(table.keys() - set(KEYS)):
        report(key, f"is unknown; {definitions.hint(key, KEYS)}")
    kind = table.get("type", "string")
    if not isinstance(kind, str) or kind not in TYPES:
        report("type", f"is not a type; {definitions.hint(str(kind)[:60], TYPES)}")
        return Parameter(name, type="")
    good = {key: value for key in KEYS[2:] if key in table and _is_sound(key, value := table[key], kind, report)}
    good["choices"] = tuple(good.get("choices", ()))
    parameter = Parameter(name, kind, **good)
    if parameter.min is not None and parameter.max is not None and parameter.min > parameter.max:
        report("min", "is more than max")
        return Parameter(name, kind)
    return _with_default(parameter, table, report)


def _with_default(parameter: Parameter, table: Mapping[str, Any], report: Report) -> Parameter:
    from dataclasses import replace

    if "default" not in table:
        return parameter
    if why := parameter.why_not(table["default"]):
        report("default", why)
        return parameter
    return replace(parameter, default=table["default"])


def _is_sound(key: str, value: Any, kind: str, report: Report) -> bool:
    """Whether a key of a declaration, other than type and default, makes sense; reports why not."""
    why = {"description": _no_text, "choices": _no_choices, "pattern": _no_pattern}.get(key, _no_bound)(value, kind)
    if why:
        report(key, why)
    return why is None


def _no_text(value: Any, kind: str) -> str | None:
    return None if isinstance(value, str) else "must be a text"


def _no_choices(value: Any, kind: str) -> str | None:
    if not isinstance(value, list) or not value or not all(_is_of(kind, item) for item in value):
        return f"must be a list, each {TYPES[kind][0]}"
    return None


def _no_pattern(value: Any, kind: str) -> str | None:
    if kind != "string":
        return f"is for texts only, and the type is {kind}"
    try:
        re.compile(value)
    except (TypeError, re.error, OverflowError, RecursionError) as error:
        return f"is not a regular expression: {error}"
    return None


def _no_bound(value: Any, kind: str) -> str | None:
    if kind not in ("integer", "number"):
        return f"is for numbers only, and the type is {kind}"
    return None if _is_of("number", value) else "must be a number"
