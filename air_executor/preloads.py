"""What templates have learned to preload, `preload/<host>-<python>-<installation>.json`: one file for each such Python.

Templates write it, under a lock, for several runners of a host may share a home; people read it, and may refuse
modules. It holds what was decided. How often a module was seen is in the memory of a template alone.

A damaged file costs what was learned and nothing else: it is put aside and learning begins anew.
"""

from __future__ import annotations

import enum
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from air_executor import _files, model, processes, validation
from air_executor.errors import CorruptFileError, InvalidJobError
from air_executor.paths import Home

LOCK_WAIT = 2.0
"""Seconds to wait for others who write."""


class Verdict(str, enum.Enum):
    """What becomes of a module that jobs import again and again."""

    PRELOADED = "preloaded"
    CHEAP = "cheap"
    """Importing it takes so little that it is left to the jobs."""
    REFUSED = "refused"

    __str__ = str.__str__


@dataclass
class Module:
    """What is known of a module."""

    verdict: Verdict
    cost_ms: float | None = None
    """What importing it took, without what was imported before."""
    why: str | None = None
    """Why it is refused."""
    by_hand: bool = False
    """Refused by a person: nothing but a person changes that."""
    at: str = field(default_factory=model.now)


@dataclass
class Learned:
    """What is known for one template."""

    base_ms: float | None = None
    """What its own module and what that imports took."""
    modules: dict[str, Module] = field(default_factory=dict)
    """In the order in which they are imported."""

    def having(self, verdict: Verdict) -> list[str]:
        """The modules of a verdict."""
        return [name for name, module in self.modules.items() if module.verdict is verdict]


@dataclass
class Knowledge:
    """The content of a file."""

    host: str = field(default_factory=processes.host_name)
    python: str = sys.version.partition(" ")[0]
    prefix: str = sys.prefix
    packages: str = ""
    """Tells one state of the installed packages from another: with a new one, what was refused is tried again."""
    templates: dict[str, Learned] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def of(self, template: str) -> Learned:
        """What is known for a template."""
        return self.templates.setdefault(template, Learned())

    def forget_refusals(self) -> None:
        """Those that the modules themselves were the reason for."""
        for learned in self.templates.values():
            kept = {name: module for name, module in learned.modules.items() if _outlasts_packages(module)}
            learned.modules = kept


def _outlasts_packages(module: Module) -> bool:
    return module.by_hand or module.verdict is Verdict.PRELOADED


def own_file(home: Home) -> Path:
    """The file of this host and this Python."""
    installation = hashlib.sha256(os.fsencode(sys.prefix)).hexdigest()[:8]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return home.preload / f"{processes.host_name()}-{version}-{installation}.json"


def read(path: Path) -> Knowledge:
    """What a file holds; nothing if there is none.

    Raises:
        CorruptFileError: it is damaged.
    """
    try:
        content = _files.read_object(path)
    except (FileNotFoundError, NotADirectoryError):
        return Knowledge()
    try:
        return _knowledge(content)
    except (InvalidJobError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise CorruptFileError(path, f"is no knowledge of templates ({type(error).__name__}: {error})") from None


def _knowledge(content: Mapping[str, Any]) -> Knowledge:
    plain = {name: _text(name, content[name]) for name in ("host", "python", "prefix", "packages") if name in content}
    templates = {name: _learned(value) for name, value in content.get("templates", {}).items()}
    extra = {key: value for key, value in content.items() if key not in (*plain, "templates", "schema")}
    return Knowledge(**plain, templates=templates, extra=extra)


def _learned(content: Mapping[str, Any]) -> Learned:
    modules = {_text("a name", name): _module(value) for name, value in content.get("modules", {}).items()}
    return Learned(_number("base_ms", content.get("base_ms")), modules)


def _module(content: Mapping[str, Any]) -> Module:
    why = content.get("why")
    validation.check_time("at", content.get("at"))
    return Module(
        Verdict(content["verdict"]),
        _number("cost_ms", content.get("cost_ms")),
        None if why is None else _text("why", why),
        content.get("by_hand") is True,
        _text("at", content["at"]),
    )


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} should be a text, is {type(value).__name__}")
    return value


def _number(what: str, value: object) -> float | None:
    if value is not None:
        validation.check_number(what, value)
    return value  # type: ignore[return-value]


def write(path: Path, known: Knowledge) -> None:
    """Replace a file."""
    content = asdict(known)
    content |= {"schema": model.SCHEMA, **content.pop("extra")}
    _files.replace_object(path, content)


def update(path: Path, change: Callable[[Knowledge], None]) -> Knowledge:
    """Read, change and write a file while nobody else does; returns what it holds then.

    Raises:
        OSError: it cannot be read or written at this moment, or others have held its lock all the time.
    """
    lock = _files.Lock(path.with_suffix(".lock"))
    _files.make_directory(path.parent)
    if not lock.acquire(wait=LOCK_WAIT):
        raise TimeoutError(f"{lock.path} was held by another process for {LOCK_WAIT:.0f} s")
    try:
        known = read_or_begin_anew(path)
        before = asdict(known)
        change(known)
        if asdict(known) != before:
            write(path, known)
        return known
    finally:
        lock.release()


def read_or_begin_anew(path: Path) -> Knowledge:
    """`read`; what is damaged is put aside."""
    try:
        return read(path)
    except CorruptFileError:
        _files.set_aside(path)
        return Knowledge()


def all_files(home: Home) -> Iterable[Path]:
    """Of all hosts and Pythons that ever had a runner here."""
    return sorted(home.preload.glob("*.json"))
