"""JSON as it stands in files: indented, for people, and as lines. What it means is for others.

The text is that of `json.dumps`, which with an indent is made by Python code that asks ten questions of each item.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring
from typing import Any

_SCALARS: Mapping[type, Callable[[Any], str]] = {
    str: encode_basestring,
    int: int.__repr__,
    bool: {True: "true", False: "false"}.__getitem__,
    float: lambda number: float.__repr__(number) if math.isfinite(number) else json.dumps(number),
    type(None): {None: "null"}.__getitem__,
}
_scalar = _SCALARS.get
_line = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def pretty(value: Any) -> bytes:
    """JSON that people read: indented, keys in the order given, one newline at the end."""
    try:
        return (_pretty(value, "\n") + "\n").encode()
    except (
        UnicodeEncodeError,
        TypeError,
    ):  # a byte that is not UTF-8, which Python holds as a lone surrogate; or a key
        return (json.dumps(value, indent=2) + "\n").encode()  # that is no text


def line(value: Any) -> bytes:
    """JSON in one line, without spaces, with its newline."""
    try:
        return (_line(value) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(value, separators=(",", ":")) + "\n").encode()


def _pretty(value: Any, newline: str) -> str:
    """`newline` is what begins a line beside the value, with its indent."""
    if write := _scalar(type(value)):
        return write(value)
    deeper = newline + "  "
    if isinstance(value, dict):
        if not value:
            return "{}"
        items = [
            f"{encode_basestring(key)}: {write(item) if (write := _scalar(type(item))) else _pretty(item, deeper)}"
            for key, item in value.items()
        ]
        return "{" + deeper + ("," + deeper).join(items) + newline + "}"
    if isinstance(value, (list, tuple)):
        if not value:
            return "[]"
        return "[" + deeper + ("," + deeper).join([_pretty(item, deeper) for item in value]) + newline + "]"
    return json.dumps(value, ensure_ascii=False)
