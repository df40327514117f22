"""Metrics as text, in the format of Prometheus (0.0.4): runners write it, others read it and put it together.

A family is one metric with all its samples; a histogram's have the suffixes `_bucket`, `_sum` and `_count`. No I/O.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

KINDS = ("counter", "gauge", "histogram")

OTHER = "other"
"""What stands for all names beyond those that have a label of their own."""

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)\Z")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|\Z)')
_ESCAPES = {"\\": r"\\", "\n": r"\n", '"': r"\""}
_ESCAPED = re.compile(r"\\(.)")


class Sample(NamedTuple):
    """One number."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass
class Family:
    """A metric: what it is, and its samples."""

    name: str
    kind: str
    help: str
    samples: list[Sample] = field(default_factory=list)


class Names:
    """The names that have a label of their own, first come, first served."""

    def __init__(self, most: int, known: Iterable[str] = ()) -> None:
        self._most = most
        self._known: set[str] = set()
        for name in known:
            self.label(name)

    def label(self, name: str) -> str:
        """What stands for this name."""
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name


def render(families: Iterable[Family]) -> str:
    """The text that says this."""
    lines = []
    for family in families:
        text = family.help.replace("\\", r"\\").replace("\n", r"\n")
        lines += [f"# HELP {family.name} {text}", f"# TYPE {family.name} {family.kind}"]
        lines += map(_line, family.samples)
    return "".join(f"{line}\n" for line in lines)


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escape(value)}"' for name, value in sample.labels.items())
    return f"{sample.name}{{{labels}}} {number(sample.value)}" if labels else f"{sample.name} {number(sample.value)}"


def _escape(text: str) -> str:
    """As the format has it, which is UTF-8: half a character, which a name of a file may hold, is written out."""
    whole = text.encode("utf-8", "backslashreplace").decode()
    return "".join(_ESCAPES.get(character, character) for character in whole)


def number(value: float) -> str:
    """A number as the format has it."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def parse(text: str) -> list[Family]:
    """What `render` wrote.

    Raises:
        ValueError: it is something else; names the line.
    """
    families: list[Family] = []
    for position, line in enumerate(text.removesuffix("\n").split("\n"), start=1):  # names may hold other line ends
        try:
            _take(line, families)
        except (ValueError, IndexError):
            raise ValueError(f"line {position} is no metric: {line[:80]!r}") from None
    return families


def _take(line: str, families: list[Family]) -> None:
    if line.startswith("# HELP "):
        _, _, name, help_text = line.split(" ", 3)
        families.append(Family(name, "", _unescape(help_text)))
    elif line.startswith("# TYPE "):
        _, _, name, kind = line.split(" ", 3)
        if families[-1].name != name or kind not in KINDS:
            raise ValueError
        families[-1].kind = kind
    else:
        sample = _sample(line)
        if not families[-1].kind or not sample.name.startswith(families[-1].name):
            raise ValueError
        families[-1].samples.append(sample)


def _sample(line: str) -> Sample:
    found = _SAMPLE.match(line)
    if found is None:
        raise ValueError
    name, inner, value = found.groups()
    if _LABEL.sub("", inner or ""):
        raise ValueError
    return Sample(name, {key: _unescape(text) for key, text in _LABEL.findall(inner or "")}, float(value))


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def merge(many: Iterable[Iterable[Family]]) -> list[Family]:
    """One family of each name, with the samples of all."""
    merged: dict[str, Family] = {}
    for families in many:
        for family in families:
            known = merged.setdefault(family.name, Family(family.name, family.kind, family.help))
            known.samples += family.samples
    return list(merged.values())
