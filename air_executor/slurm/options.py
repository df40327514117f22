"""What a job may ask of Slurm: names, types, what follows from its limits, the flags for `sbatch`. Pure functions.

::

    the queue's table ─────────────────┐
    what the job asks, and its limits ─┴─ of_job ──> arguments ──> sbatch

No text of a user becomes a flag of its own: a value stands behind `=` in the argument of its flag, and holds neither
blanks nor control characters. What is in `extra` is flags, each one argument; those are refused with which Air-Executor
would lose the job, and those that have an option here, also where `sbatch` would take an abbreviation for them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from air_executor import definitions, model
from air_executor.errors import InvalidJobError

START_SECONDS = 120.0
"""What a derived time has beside the job's own: to set up and start, and to write why the job ended."""
OWN_MB = 200
"""What a derived memory has beside the job's own, MiB: for the processes that see to the job."""
MAX_TEXT = 1000
"""Characters of a text."""
_MAX_NUMBER = 2**31 - 1

FLAGS: Mapping[str, str] = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "cpus": "cpus-per-task",
    "memory": "mem",
    "gres": "gres",
    "time": "time",
}
"""Options that are one flag of `sbatch` each, in the order in which they are given."""
NAMES = (*FLAGS, "array", "extra")
"""All options. `array` is of many jobs, and `extra` is flags already."""
WHOLE = ("cpus", "array")
"""Options that are whole numbers."""
NUMERIC = (*WHOLE, "memory", "time")
"""Options that are numbers, or may be."""

_REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("job-name", "parsable", "clusters", "cluster"), "Air-Executor finds its jobs again by it"),
    **dict.fromkeys(("output", "error", "input", "open-mode"), "what a job writes is in its directory"),
    **dict.fromkeys(("chdir", "workdir", "wrap", "export", "export-file"), "Air-Executor says what runs, and where"),
    **dict.fromkeys(("uid", "gid"), "a job runs as the user to whom the home belongs"),
    **dict.fromkeys(("requeue", "no-requeue"), "whether a job may run again depends on whether it had begun"),
    **dict.fromkeys(("signal", "hold"), "Air-Executor starts and stops its jobs itself"),
    **dict.fromkeys(("wait", "test-only", "help", "usage", "version"), "Air-Executor needs the answer of sbatch"),
    **{flag: f"use the option {name!r}" for name, flag in {**FLAGS, "array": "array"}.items()},
}
"""Flags that `extra` may not hold, and why."""
_OTHER_MEMORY = ("mem-per-cpu", "mem-per-gpu")
"""Flags beside which Slurm refuses `--mem`."""
_GPUS = frozenset({"gpu", "gpus", "gpus-per-node", "gpus_per_node"})
"""What people try who want some."""
_FLAG = re.compile(r"--([a-z][a-z0-9_-]*)(?:=(.*))?\Z")
_MEMORY = re.compile(r"([0-9]{1,12})([KMGT]?)\Z", re.IGNORECASE)
_MEMORY_UNITS = {"K": 2.0**-10, "": 1.0, "M": 1.0, "G": 2.0**10, "T": 2.0**20}
_TIME = re.compile(r"(?:([0-9]{1,9})-)?([0-9]{1,9})(?::([0-9]{1,9}))?(?::([0-9]{1,9}))?\Z")
_DIGITS = re.compile(r"[0-9]{1,12}\Z")
_TIME_FORMS = "minutes, or one of Slurm's forms such as '1:30:00' or '2-00:00:00', above 0"


# --- What an option may be ---


def check(options: object, where: str = "slurm", *, lenient: bool = False) -> None:
    """Raise `InvalidJobError` unless these are options.

    Args:
        where: how the error calls them.
        lenient: whether an unknown one is passed over: a newer version may have written it.
    """
    if not isinstance(options, dict):
        raise InvalidJobError(f"{where} must be a table of options, not {type(options).__name__}")
    for name, value in options.items():
        if name not in NAMES:
            if lenient and isinstance(name, str):
                continue
            shown = str(name)[:60]
            raise InvalidJobError(f"{where} has the unknown option {shown!r}; {_hint(shown)}")
        if why := why_not(name, value):
            raise InvalidJobError(f"{where} {name!r} {why}")


def _hint(name: str) -> str:
    if name.lower() in _GPUS:
        return "for GPUs it is gres, such as gres='gpu:1'"
    return definitions.hint(name, NAMES)


def why_not(name: str, value: object) -> str | None:
    """Why this option, one of `NAMES`, cannot have this value, or None."""
    return _CHECKS.get(name, _why_no_text)(value)


def expected(name: str) -> str:
    """What an option may be, for messages that must not say what was given."""
    return _EXPECTED.get(name, _TEXT)


def _why_no_text(value: object) -> str | None:
    sound = isinstance(value, str) and 0 < len(value) <= MAX_TEXT and not value.startswith("-")
    return None if sound and _is_printable(str(value)) and " " not in str(value) else must_be("", value)


def _why_no_gres(value: object) -> str | None:
    return "must name what is asked for, such as 'gpu:1'" if value == "help" else _why_no_text(value)


def _why_no_whole(value: object) -> str | None:
    return None if _is_whole(value) and 1 <= value <= _MAX_NUMBER else must_be("cpus", value)  # type: ignore[operator]


def _why_no_memory(value: object) -> str | None:
    try:
        return None if memory_mb(value) <= _MAX_NUMBER else must_be("memory", value)
    except ValueError:
        return must_be("memory", value)


def _why_no_time(value: object) -> str | None:
    try:
        return None if 0 < time_seconds(value) <= _MAX_NUMBER else must_be("time", value)
    except ValueError:
        return must_be("time", value)


def _why_no_extra(value: object) -> str | None:
    if not isinstance(value, (list, tuple)):
        return must_be("extra", value)
    return next((why for number, item in enumerate(value, 1) if (why := _why_no_flag(number, item))), None)


def _why_no_flag(number: int, item: object) -> str | None:
    """Names the flag at most: its value may be anything."""
    found = _FLAG.match(item) if isinstance(item, str) and len(item) <= MAX_TEXT and _is_printable(item) else None
    if found is None:
        return f"{must_be('extra')}; number {number} is none"
    flag, value = found.groups()
    if meant := [name for name in (flag, *_REFUSED) if name in _REFUSED and name.startswith(flag)]:
        short = "" if meant[0] == flag else f", which may be short for --{meant[0]}"
        return f"may not hold --{flag}{short}: {_REFUSED[meant[0]]}"
    return f"may not hold --{flag}=help: nothing would be submitted" if value == "help" else None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_printable(text: str) -> bool:
    """No control characters, such as NUL and line ends, no blanks but the plain one, no halves of characters."""
    return text.isprintable()


_TEXT = f"a text without blanks, of at most {MAX_TEXT} characters, that does not begin with '-'"
_EXPECTED: Mapping[str, str] = {
    **dict.fromkeys(WHOLE, "a whole number of at least 1"),
    "memory": "MiB as a whole number (0: all of the node), or a text such as '512M' or '4G'",
    "time": _TIME_FORMS,
    "extra": "a list of flags for sbatch, each one text, '--name' or '--name=value'",
}
_CHECKS: Mapping[str, Callable[[object], str | None]] = {
    **dict.fromkeys(WHOLE, _why_no_whole),
    "gres": _why_no_gres,
    "memory": _why_no_memory,
    "time": _why_no_time,
    "extra": _why_no_extra,
}
_NOTHING = object()


def must_be(name: str, value: object = _NOTHING) -> str:
    """What an option may be, and what it is instead if that is given."""
    return f"must be {expected(name)}" + ("" if value is _NOTHING else f", not {_show(value)}")


def _show(value: object) -> str:
    if isinstance(value, (Mapping, list, tuple)):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and abs(value) >= 2**53:  # Python may refuse to spell it
        return "a number so large"
    return f"{value!r:.60}"


def memory_mb(value: object) -> int:
    """MiB of what `memory` may be; 0 is all that the node has.

    Raises:
        ValueError: it is not that.
    """
    if _is_whole(value) and value >= 0:  # type: ignore[operator]
        return int(value)  # type: ignore[call-overload, no-any-return]
    found = _MEMORY.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"no amount of memory: {_show(value)}")
    return math.ceil(int(found[1]) * _MEMORY_UNITS[found[2].upper()])


def time_seconds(value: object) -> int:
    """Seconds of what `time` may be: a number of minutes, or a text in one of Slurm's forms.

    These are `minutes`, `minutes:seconds`, `hours:minutes:seconds`, and `days-` before `hours`, `hours:minutes` or
    `hours:minutes:seconds`.

    Raises:
        ValueError: it is not that.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MAX_NUMBER:
        return math.ceil(value * 60)
    found = _TIME.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"no time: {_show(value)}")
    days, *rest = found.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is None and len(parts) < 3:
        parts.insert(0, 0)  # minutes, not hours
    units = dict(enumerate(parts))
    return int(days or 0) * 86_400 + units.get(0, 0) * 3600 + units.get(1, 0) * 60 + units.get(2, 0)


# --- What is asked for ---


def read(given: object, where: str = "slurm", *, typed: bool = False) -> dict[str, Any]:
    """What a program gives, where None asks for nothing; raises as `check`.

    Args:
        where: how the error calls it.
        typed: whether digits are a number where an option may be one: what was typed, or comes of a template.
    """
    if not isinstance(given, Mapping):
        raise InvalidJobError(f"{where} must be a table of options, not {type(given).__name__}")
    asked = {name: value for name, value in given.items() if value is not None}
    if typed:
        asked = {name: _from_text(name, value) for name, value in asked.items()}
    check(asked, where)
    return asked


def read_pairs(pairs: Iterable[tuple[str, str]], where: str) -> dict[str, Any]:
    """What was typed as `name=value`, each `extra` being one flag more; raises as `check`."""
    pairs = list(pairs)
    flags = [value for name, value in pairs if name == "extra"]
    return read({**dict(pairs), **({"extra": flags} if flags else {})}, where, typed=True)


def _from_text(name: str, value: Any) -> Any:
    return int(value) if name in NUMERIC and isinstance(value, str) and _DIGITS.match(value.strip()) else value


def combine(defaults: Mapping[str, Any], asked: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is asked for, and the defaults for the rest. `extra` is that of the defaults, and then what is asked for.

    Memory is asked for in one way: Slurm refuses a job that has `memory` and one of the flags `--mem-per-...`.
    """
    asked = asked or {}
    left = dict(defaults)
    if "memory" in asked and "extra" in left:
        left["extra"] = [flag for flag in left["extra"] if not _is_other_memory(flag)]
    if any(map(_is_other_memory, asked.get("extra", ()))):
        left.pop("memory", None)
    combined = {**left, **asked}
    if "extra" in combined:
        combined["extra"] = [*left.get("extra", ()), *asked.get("extra", ())]
    return combined


def describe(options: Mapping[str, Any]) -> str:
    """Options in one line, for people."""
    return ", ".join(f"{name}={_plain(value)}" for name, value in options.items()) or "what the cluster has by default"


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def of_job(job: model.Job, defaults: Mapping[str, Any], grace: float = 10.0) -> dict[str, Any]:
    """What Slurm is asked for a job: what it says itself, what follows from its limits, and its queue's defaults.

    If the job says no `time`, that is its `timeout`, the grace between TERM and KILL and `START_SECONDS`, rounded up to
    whole minutes; if it says no `memory`, its `memory_mb` and `OWN_MB`. So Slurm ends nothing that the job allows
    itself, whatever the queue's defaults are, and a job that uses too much ends for its own limit.
    """
    asked = job.slurm or {}
    options = combine(defaults, asked)
    if job.timeout is not None and "time" not in asked:
        options["time"] = min(math.ceil((job.timeout + grace + START_SECONDS) / 60), _MAX_NUMBER // 60)
    if job.memory_mb is not None and "memory" not in asked and not any(map(_is_other_memory, options.get("extra", ()))):
        options["memory"] = min(job.memory_mb + OWN_MB, _MAX_NUMBER)
    return options


def _is_other_memory(item: str) -> bool:
    """Whether a flag is one of `_OTHER_MEMORY`, or may be short for it."""
    flag = item[2:].partition("=")[0]
    return flag.startswith("mem") and any(each.startswith(flag) for each in _OTHER_MEMORY)


# --- For sbatch ---


def arguments(options: Mapping[str, Any]) -> list[str]:
    """The flags for `sbatch`, without that for `array`.

    Those of `extra` stand last. One that lacks its value takes the argument that follows: let that be `--`, which ends
    the flags, and put what Air-Executor sets itself before.

    Raises:
        InvalidJobError: these are no options.
    """
    check(options)
    flags = [f"--{flag}={_spell(name, options[name])}" for name, flag in FLAGS.items() if name in options]
    return [*flags, *options.get("extra", ())]


def _spell(name: str, value: Any) -> str:
    if name == "memory":
        return f"{memory_mb(value)}M"
    return spell_time(time_seconds(value)) if name == "time" else str(value)


def spell_time(seconds: int) -> str:
    """A time in the form that says all of it, `days-hours:minutes:seconds`."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02}:{minutes:02}:{seconds:02}"
