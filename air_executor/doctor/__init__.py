"""Whether a home and its surroundings are fit for work: each check returns findings, and every bad one says the fix.

::

    findings    the words: Check, Level, Finding, Remedy
    system      Python, variables, settings, limits of the system
    home        the directory: owner, modes, room, what is left or damaged in it, the spool
    filesystem  renames, locks, watching, clocks
    runners     runners, queues, templates, in the words of `status`
    facts       what Airflow says of itself (`airflow_plugin.facts` gathers it)
    airflow     what is judged of that
    slurm       whether Slurm answers and has what queues ask for; slurmprobe looks at the home from a node
    fixes       what `--fix` does

Looking changes nothing but a temporary directory inside the home.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from air_executor.doctor.airflow import Ask, ask_airflow, check_airflow, once
from air_executor.doctor.filesystem import check_clock, check_files, check_kind, check_watching
from air_executor.doctor.findings import Check, Finding, Level, Remedy, ok, problem
from air_executor.doctor.fixes import mend, remedies
from air_executor.doctor.home import (
    check_damaged,
    check_home,
    check_inodes,
    check_leftovers,
    check_space,
    check_spool,
    settled_names,
)
from air_executor.doctor.runners import check_clocks, check_runners
from air_executor.doctor.slurm import check_slurm
from air_executor.doctor.system import check_environment, check_settings, python_version
from air_executor.errors import AirExecutorError
from air_executor.paths import Home, command

__all__ = [
    "Ask",
    "Check",
    "Finding",
    "Level",
    "Remedy",
    "ask_airflow",
    "check_airflow",
    "check_clocks",
    "check_runners",
    "check_settings",
    "examine",
    "mend",
    "once",
    "remedies",
]


def examine(home: Home, ask: Ask | None = None, *, probe: bool = False) -> Iterator[Finding]:
    """Every check, in the order in which one would look. Without a home only what does not need it.

    Args:
        ask: who gets the facts about Airflow; seconds each time, if it is not remembered.
        probe: whether a small job of Slurm looks at the home from a node, for each queue that has its jobs there.
    """
    ask = once(ask or ask_airflow)
    yield python_version()
    yield check_environment()
    found = list(_guard(home, Check.HOME, lambda: check_home(home)))
    yield from found
    if _is_usable(found):
        yield from examine_inside(home)
    else:
        yield ok(Check.HOME, "what is in it was not looked at: mend this first")
    yield from _guard(home, Check.AIRFLOW, lambda: check_airflow(home, ask))
    if _is_usable(found):
        yield from _guard(home, Check.SLURM, lambda: check_slurm(home, ask, probe=probe))


def _is_usable(found: Iterable[Finding]) -> bool:
    """A home that is open to others hides nothing of what is in it."""
    return all(finding.level is not Level.PROBLEM or finding.check is Check.PRIVACY for finding in found)


def examine_inside(home: Home) -> Iterator[Finding]:
    """What needs a home that can be used."""
    looks: tuple[tuple[Check, Callable[[], Iterable[Finding]]], ...] = (
        (Check.SPACE, lambda: [check_space(home), check_inodes(home)]),
        (Check.FILESYSTEM, lambda: [check_kind(home)]),
        (Check.WRITE, lambda: check_files(home)),
        (Check.WATCHING, lambda: [check_watching(home)]),
        (Check.CLOCKS, lambda: [check_clock(home)]),
        (Check.SETTINGS, lambda: check_settings(home)),
        (Check.LEFTOVERS, lambda: [check_leftovers(home)]),
        (Check.SPOOL, lambda: _check_jobs(home)),
        (Check.RUNNER, lambda: check_runners(home)),
    )
    for check, look in looks:
        yield from _guard(home, check, look)


def _check_jobs(home: Home) -> Iterator[Finding]:
    names = settled_names(home)
    yield from check_damaged(home, names)
    yield check_spool(home, names)


def _guard(home: Home, check: Check, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """A check that the system refuses, or that comes upon what nobody thought of, says so and hides no other."""
    try:
        yield from look()
    except Exception as error:
        why = str(error) if isinstance(error, (OSError, AirExecutorError)) else type(error).__name__
        yield problem(check, f"cannot be looked at: {why}", f"put that right, then {command(home, 'doctor')}")
