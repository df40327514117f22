"""The text of JSON in files is that of Python's own module."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor import _json
from air_executor.model import JobState

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)


@given(values)
def test_as_the_standard_library_writes_it(value: Any) -> None:
    assert _json.pretty(value).decode() == json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    assert _json.line(value).decode() == json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n"


@pytest.mark.parametrize("value", [(), (1, [2]), {1: {None: 2}, False: []}, JobState.WAITING, [signal.SIGTERM]])
def test_what_is_no_plain_json(value: Any) -> None:
    assert _json.pretty(value).decode() == json.dumps(value, indent=2) + "\n"


def test_a_byte_that_is_not_utf8_is_escaped() -> None:
    value = {"args": ["\udcff", "ä"]}
    for text in (_json.pretty(value), _json.line(value)):
        assert json.loads(text.decode("ascii")) == value


def test_what_cannot_be_json_is_refused() -> None:
    with pytest.raises(TypeError, match="serializable"):
        _json.pretty({"a": [object()]})
