"""Where this command runs: Python, variables that slow everything down, settings and where they come from, limits.

No finding repeats the value of a variable.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
from collections.abc import Iterator, Mapping

from air_executor import processes, sentences, settings
from air_executor.doctor.findings import Check, Finding, ok, problem, warn
from air_executor.errors import SettingsError
from air_executor.paths import Home

NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"

FILES_PER_SLOT, FILES_BESIDE = 4, 128
"""Open files that a runner needs for each of its jobs, and for itself."""
PROCESSES_PER_SLOT, PROCESSES_BESIDE = 6, 64
"""Processes and threads of a job of Airflow, and of what runs beside them."""


def python_version() -> Finding:
    """Which Python runs this, on which host: the first thing one asks."""
    return ok(Check.PYTHON, f"{sys.version.split()[0]} at {sys.executable} on {processes.host()}")


def check_environment(environ: Mapping[str, str] = os.environ) -> Finding:
    """Python may keep what it compiles."""
    if environ.get(NO_BYTECODE):
        text = f"${NO_BYTECODE} is set: every process compiles all that it imports, and Airflow starts much more slowly"
        fix = f"unset {NO_BYTECODE}, also where the scheduler and runners are started (profile, unit, Dockerfile)"
        return warn(Check.ENVIRONMENT, text, fix)
    return ok(Check.ENVIRONMENT, "Python keeps what it compiles")


def has_variable(pid: int, name: str) -> bool:
    """Whether a process was started with a variable; False if the system does not tell."""
    import psutil

    try:
        return bool(psutil.Process(pid).environ().get(name))
    except (psutil.Error, OSError):
        return False


# --- Settings ---


def check_settings(home: Home, environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """config.toml and the environment are in order, and do not contradict each other."""
    try:
        in_file = settings.load(home, {})
    except SettingsError as error:
        yield problem(Check.SETTINGS, str(error), f"edit {home.config}")
        return
    try:
        effective = settings.load(home, environ)
    except SettingsError as error:
        variable = next((name for name in sorted(environ) if name in str(error)), "the variable")
        yield problem(Check.SETTINGS, sentences.without_value(error), f"unset {variable}, or correct it")
        return
    found = [*_overrides(home, in_file, effective, environ), *_unread(environ)]
    yield from found or [
        ok(Check.SETTINGS, str(home.config) if home.config.exists() else "defaults and environment, no config.toml")
    ]


def _variables() -> dict[str, tuple[str, str]]:
    """The variable of each option: its table and name."""
    return {
        f"{settings.VARIABLE_PREFIX}{table}_{item.name}".upper(): (table, item.name)
        for table, kind in settings.TABLES.items()
        for item in dataclasses.fields(kind)
    }


def _overrides(
    home: Home, in_file: settings.Settings, effective: settings.Settings, environ: Mapping[str, str]
) -> Iterator[Finding]:
    """A variable wins silently over what somebody wrote into the file."""
    written = settings.written(home)
    for variable, (table, name) in _variables().items():
        differs = getattr(getattr(in_file, table), name) != getattr(getattr(effective, table), name)
        if variable in environ and differs and name in written.get(table, {}):
            text = f"${variable} overrides {name} of [{table}] in {home.config}"
            yield warn(Check.SETTINGS, text, f"unset {variable}, or remove the line '{name} = ...' from {home.config}")


def _unread(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that look like options and that nothing reads, such as one without its table."""
    known = _variables()
    options = {f"{settings.VARIABLE_PREFIX}{option}".upper(): name for name, (_, option) in known.items()}
    for name in sorted(environ):
        if not name.startswith(settings.VARIABLE_PREFIX) or name in known:
            continue
        meant = options.get(name) or next(iter(difflib.get_close_matches(name, known, 1, 0.9)), None)
        if meant:
            text = f"nothing reads ${name}; the variable is called {meant}"
            yield warn(Check.SETTINGS, text, f'export {meant}="${name}"; unset {name}')


# --- Limits ---


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much a process may have of what is limited; None: as much as it likes."""

    files: int | None
    processes: int | None


def own_limits() -> Limits:
    """Of this process, and of a runner that it would start."""
    import resource

    return Limits(_finite(resource.getrlimit(resource.RLIMIT_NOFILE)), _finite(_own_processes()))


def _own_processes() -> tuple[int, int]:
    import resource

    if os.geteuid() == 0:  # whom the system allows any number
        return resource.RLIM_INFINITY, resource.RLIM_INFINITY
    return resource.getrlimit(resource.RLIMIT_NPROC)


def limits_of(pid: int) -> Limits | None:
    """Of another process; None if the system does not tell."""
    import psutil

    if not hasattr(psutil, "RLIMIT_NOFILE"):  # Linux alone
        return None
    try:
        process = psutil.Process(pid)
        unlimited = process.uids().effective == 0
        count = None if unlimited else _finite(process.rlimit(psutil.RLIMIT_NPROC))
        return Limits(_finite(process.rlimit(psutil.RLIMIT_NOFILE)), count)
    except (psutil.Error, OSError):
        return None


def _finite(limit: tuple[int, int]) -> int | None:
    """The limit that counts now; a negative one is none."""
    return limit[0] if 0 <= limit[0] < 2**62 else None


def judge_limits(who: str, slots: int, limits: Limits) -> Iterator[Finding]:
    """Whether so many jobs can run at once. Pure."""
    files = FILES_BESIDE + FILES_PER_SLOT * slots
    count = PROCESSES_BESIDE + PROCESSES_PER_SLOT * slots
    for have, need, what, flag, unit in (
        (limits.files, files, "open files", "-n", "LimitNOFILE"),
        (limits.processes, count, "processes", "-u", "LimitNPROC"),
    ):
        if have is not None and have < need:
            text = f"{who} has {slots} slots and may have {have} {what}; that many jobs may need {need}"
            fix = f"ulimit {flag} {need} before the runner is started, or {unit}={need} in its unit; or fewer slots"
            yield warn(Check.LIMITS, text, fix)
