"""Ways to damage a file: cut off, bytes changed, and JSON whose values are not what they should be."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

DEEP = "[" * 300 + "]" * 300
VALUES: list[str] = [
    *("null", "true", "0", "-1", "1.5", "65536", "4194305", "2147483648", "9223372036854775808", "1e308", "-1e400"),
    *("NaN", "Infinity", "9" * 400, "9" * 4299, "9" * 5000),
    *('""', '" "', '"x"', '"../../../evil"', '"a/b"', '".."', '"/etc/passwd"', r'"\ud800"', r'"\u0000"'),
    *(f'"{"x" * 5000}"', "[]", "{}", '[""]', '[[["x"]]]', '{"kind": "failed"}', '{"a": {"b": [1]}}'),
    *(DEEP, "[" * 200_000, '{"a":' * 900 + "1" + "}" * 900),
    *('"99999-01-01T00:00:00Z"', '"0001-01-01T00:00:00+23:59"', '"9999-12-31T23:59:59-23:59"', '"2026-01-01"'),
    *('"1960-01-01T00:00:00Z"', '"2026-13-45T99:99:99Z"', '"waiting"', '"working"', '"completed"', '"failed"'),
    *('"running"', '"pending"', '"task-1"'),
]
"""JSON in place of a value: of the wrong type, too large, too deep, no time, no name, half a character."""

_HOLE = "c0ffee-hole"


def replace_value(raw: bytes, position: int, value: str) -> bytes:
    """JSON with one of its values replaced by `value`, which need not be JSON."""
    document = json.loads(raw)
    places = list(_places(document))
    holder, key = places[position % len(places)]
    holder[key] = _HOLE
    return json.dumps(document, indent=2).replace(f'"{_HOLE}"', value).encode("utf-8", "surrogatepass")


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(items):
        yield value, key
        yield from _places(child)


def add_key(raw: bytes, key: str, value: str) -> bytes:
    """JSON with one more key at its end; if there is one of that name, this one counts."""
    text = raw.decode().rstrip()
    return f"{text[:-1].rstrip()},\n  {json.dumps(key)}: {value}\n}}\n".encode()


def _spliced(raw: bytes, start: int, length: int, new: bytes) -> bytes:
    start %= len(raw) + 1
    return raw[:start] + new + raw[start + length :]


_BYTES = st.binary(max_size=8) | st.sampled_from(
    [b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\n", b'"', b"[" * 5000, b"9" * 5000]
)
_KEYS = ("name", "id", "state", "tasks", "queue", "exit", "runner", "usage", "unknown", "process", "heartbeat")


@st.composite
def damaged(draw: st.DrawFn, raw: bytes, *, is_json: bool = True) -> bytes:
    """`raw`, damaged in one way or several."""
    for _ in range(draw(st.integers(1, 2))):
        try:
            raw = _damage_once(draw, raw, is_json=is_json)
        except (ValueError, RecursionError, AttributeError):  # it is no JSON object any more
            raw = raw[: len(raw) // 2]
    return raw


def _damage_once(draw: st.DrawFn, raw: bytes, *, is_json: bool) -> bytes:
    place = draw(st.integers(0, 5000))
    kind = draw(st.sampled_from(["splice", "value", "value", "key", "encoding"] if is_json else ["splice", "line"]))
    if kind == "value":
        return replace_value(raw, place, draw(st.sampled_from(VALUES)))
    if kind == "key":
        return add_key(raw, draw(st.sampled_from(_KEYS)), draw(st.sampled_from(VALUES)))
    if kind == "encoding":
        return raw.decode().encode(draw(st.sampled_from(["utf-16", "utf-32-be", "utf-7", "cp500"])))
    if kind == "line":
        lines = raw.splitlines()
        lines[place % len(lines)] = draw(st.sampled_from(VALUES)).encode("utf-8", "surrogatepass")
        return b"\n".join(lines)
    return _spliced(raw, place, draw(st.integers(0, 6)), draw(_BYTES))
