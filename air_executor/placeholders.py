"""`${name}` in texts: where it stands, and what it becomes. Pure functions.

`$$` is a dollar sign, and so is a `$` before anything else than `{` or `$`. What is put in is text and nothing more: it
is not looked at again. Where a number or a truth value is expected, a text that is one placeholder and nothing else
becomes the value itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TOKEN = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[^{}]*)\}|(?P<open>\{))")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

Value = str | int | float | bool
"""What a parameter may be."""


def is_name(text: str) -> bool:
    """Whether a placeholder can name it."""
    return _NAME.match(text) is not None


def find(value: Any) -> list[str]:
    """The names in all texts of a value (a text, a list, a dictionary; not in its keys), each once, in their order.

    Raises:
        ValueError: a placeholder is malformed.
    """
    return list(dict.fromkeys(name for text in _texts(value) for name in _names(text)))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _names(text: str) -> Iterator[str]:
    for token in _TOKEN.finditer(text):
        if token["open"]:
            raise ValueError("there is a '${' without its '}'; a dollar sign before a brace is written $$")
        if token["name"] is not None:
            if not is_name(token["name"]):
                raise ValueError(f"{token[0]!r:.60} names no parameter; a dollar sign before a brace is written $$")
            yield token["name"]


def only(text: str) -> str | None:
    """The name, if the text is one placeholder and nothing else."""
    token = _TOKEN.fullmatch(text)
    return token["name"] if token else None


def expand(value: Any, values: Mapping[str, Value], *, typed: bool = False) -> Any:
    """A value with all placeholders of its texts replaced, once, by what they name.

    Args:
        value: a text, a list, a dictionary, or anything else, which stays as it is.
        values: what the names mean; all names that `find` finds.
        typed: whether a text that is one placeholder becomes the value as it is, not as text.
    """
    if isinstance(value, str):
        name = only(value) if typed else None
        return _fill(value, values) if name is None else values[name]
    if isinstance(value, list):
        return [expand(item, values) for item in value]
    if isinstance(value, dict):
        return {key: expand(item, values) for key, item in value.items()}
    return value


def _fill(text: str, values: Mapping[str, Value]) -> str:
    return _TOKEN.sub(lambda token: "$" if token["dollar"] else to_text(values[token["name"]]), text)


def to_text(value: Value) -> str:
    """A parameter's value as it appears in a text: `true`, `false`, numbers as Python spells them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
