"""Importing modules into a process that will be forked: what they cost, and what makes forking them unsafe.

A module may do more than define things as it is imported. What a fork would lack (threads), share (descriptors) or what
every job would find changed (environment, working directory) is found by comparing the process before and after.
"""

from __future__ import annotations

import functools
import gc
import importlib
import itertools
import os
import re
import signal
import site
import sys
import time
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from types import ModuleType

from air_executor import processes
from air_runner import sharing

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_STRAYS = 20
"""How many modules may have gone from `sys.modules`, so that there are more new ones than it has grown by."""
_UNREAL = frozenset({"__main__", "__mp_main__"})

FOR_EVERY_JOB = ("ctypes",)
"""What ephemeral runners import when they need it."""


MAX_MIB = 100
"""Memory that a module may take. What a fork shares with its template counts for the limits of its job."""


class NotPreloadableError(Exception):
    """A module must not be preloaded; the message says why."""


def preload(module: str) -> float:
    """Import a template's module and let it import more; returns what that took, in milliseconds."""
    began = time.perf_counter()
    for name in FOR_EVERY_JOB:
        importlib.import_module(name)
    loaded = importlib.import_module(module)
    hook = getattr(loaded, "preload", None)
    if hook is not None:
        hook()
    return round((time.perf_counter() - began) * 1000, 1)


def freeze() -> None:
    """So that neither using nor collecting what is loaded copies the pages that forks share."""
    gc.collect()
    sharing.keep_unwritten()
    gc.freeze()


def why_unsafe() -> str | None:
    """What makes a fork of this process unsound, if anything does."""
    if others := _named_threads():
        return f"it started the threads {', '.join(others)}"
    if left := _lasting_threads():
        return f"it started {left} threads that are not Python's"
    return None


def _named_threads() -> list[str]:
    """Those that Python knows. Asked for, `threading` would be in the process, and do something in each fork."""
    threading = sys.modules.get("threading")
    if threading is None:
        return []
    return [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]


def _lasting_threads() -> int:
    """Threads of libraries that go on when the process forks. OpenBLAS, for one, ends its own and starts them anew."""
    if _threads() > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of exactly what is to be found out here
            pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    return _threads() - 1


def _threads() -> int:
    """Of this process, whoever started them; where that cannot be seen, as many as Python knows."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208
    except OSError:
        return 1 + len(_named_threads())


# --- One module ---


@dataclass(frozen=True)
class Footprint:
    """What of a process an import must not change."""

    descriptors: frozenset[tuple[str, str]]
    children: frozenset[int]
    handlers: tuple[object, ...]
    environment: frozenset[tuple[str, str]]
    directory: str
    start_method: str | None

    @classmethod
    def take(cls) -> Footprint:
        """Of this process, now."""
        return cls(
            descriptors=frozenset(_descriptors()),
            children=frozenset(processes.children()),
            handlers=tuple(signal.getsignal(number) for number in sorted(signal.valid_signals())),
            environment=frozenset(os.environ.items()),
            directory=os.getcwd(),  # noqa: PTH109
            start_method=_start_method(),
        )

    def difference(self, after: Footprint) -> str | None:
        """What has changed since, in words that name no value. Pure."""
        if opened := sorted(target for _, target in after.descriptors - self.descriptors):
            return f"it keeps {_describe(opened[0])} open"
        if self.environment != after.environment:
            names = sorted({name for name, _ in self.environment ^ after.environment})
            return f"it changes the environment: {', '.join(names)}"
        changed = [item.name for item in fields(self) if getattr(self, item.name) != getattr(after, item.name)]
        words = {"children": "the child processes", "handlers": "the handlers of signals"}
        words |= {"directory": "the working directory", "start_method": "the start method of multiprocessing"}
        return f"it changes {words.get(changed[0], changed[0])}" if changed else None


def _start_method() -> str | None:
    multiprocessing = sys.modules.get("multiprocessing")
    method: str | None = multiprocessing.get_start_method(allow_none=True) if multiprocessing else None
    return method


def _descriptors() -> Iterable[tuple[str, str]]:
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            yield number, os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
        except FileNotFoundError:  # the listing's own
            continue


def _describe(target: str) -> str:
    return "a socket" if target.startswith("socket:") else "a pipe" if target.startswith("pipe:") else target


def is_loaded(name: str) -> bool:
    """Whether a module has been imported."""
    return name in sys.modules


def load(name: str) -> float:
    """Import one module more; returns what that took, in milliseconds. After an error this process is to be given up.

    Raises:
        NotPreloadableError: it cannot be imported, or forking is unsafe now.
    """
    before, resident = Footprint.take(), _resident_mb()
    began = time.perf_counter()
    try:
        importlib.import_module(name)
    except BaseException as error:
        text = " ".join(str(error).split())[:200]
        raise NotPreloadableError(f"it cannot be imported by itself: {type(error).__name__}: {text}") from None
    took = (time.perf_counter() - began) * 1000
    why = why_unsafe() or before.difference(Footprint.take())
    if why is None and (grown := _resident_mb() - resident) > MAX_MIB:
        why = f"it takes {grown} MiB of memory, which would count for every job"
    if why is None and not is_installed(name, sys.modules.get(name)):
        why = "what has this name here is neither in site-packages nor of the standard library"
    if why is not None:
        raise NotPreloadableError(why)
    return round(took, 1)


def _resident_mb() -> int:
    """The memory of this process, MiB."""
    try:
        pages = int(processes.read(os.getpid(), "statm").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


# --- What jobs import ---


@functools.cache
def _installed_in() -> tuple[str, ...]:
    """The directories of the standard library and of installed packages."""
    import sysconfig

    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {*map(sysconfig.get_path, kinds), *site.getsitepackages(), site.getusersitepackages()}
    return tuple(f"{each}/" for path in found if path for each in {path.rstrip("/"), os.path.realpath(path)})


def is_installed(name: str, module: ModuleType | None) -> bool:
    """Whether a module comes from the standard library or an installed package, and is found there by this name.

    What is compiled into Python is not, nor is what somebody loaded from a file and gave a name of his own.
    """
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None)
    if not isinstance(origin, str) or not origin.startswith(_installed_in()):
        return False
    folder, file = origin.split("/")[-2:]
    last = name.rpartition(".")[2]
    return getattr(spec, "name", None) == name and last == (
        folder if file.startswith("__init__.") else file.split(".")[0]
    )


class Loaded:
    """The modules that are loaded when this is made, and what is imported later."""

    def __init__(self, also: Collection[str] = ()) -> None:
        self._known = frozenset(sys.modules)
        self._ignored = frozenset(also)
        self._count = len(sys.modules)

    def since(self) -> list[str]:
        """The installed modules that were imported since; those that imported others go before these.

        What was imported last is last in `sys.modules`. The rest of it is left alone: to look at a name is to write
        to its page, which a fork shares with others until then.
        """
        missing = len(sys.modules) - self._count
        names = []
        for name in list(itertools.islice(reversed(sys.modules), missing + _STRAYS)):
            if name not in self._known and name not in self._ignored and _NAME.match(name):
                names.append(name)
        return [name for name in names if name not in _UNREAL and is_installed(name, sys.modules.get(name))]


def renew_randomness() -> None:
    """After a fork: Python's own generators have seen to it themselves, NumPy's global one has not."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
