"""Whether a home and its surroundings are fit for work: each check returns findings, and every bad one says the fix.

Nothing here changes anything but a temporary directory inside the home. Airflow is looked at from outside, by its own
command: importing it would take seconds.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from air_executor import _files, components, processes, runners, settings, sightings
from air_executor.errors import SettingsError
from air_executor.paths import HOME_NAME, Home, airflow_home, command

LEAST_FREE = 1 << 30
"""Bytes below which a home is nearly full."""
CLOCK_TOLERANCE = 5.0
"""Seconds that the clocks of hosts may differ."""
WATCH_TIMEOUT = 5.0
AIRFLOW_TIMEOUT = 60.0
EXECUTOR_CLASS = "AirExecutor"
EXECUTOR = f"airflow_plugin.{EXECUTOR_CLASS}"


class Level(str, enum.Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"

    __str__ = str.__str__


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    check: str
    level: Level
    text: str
    fix: str = ""
    """What to do, exactly; empty if all is well."""


def ok(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, text)


def warn(check: str, text: str, fix: str) -> Finding:
    """It works, but not as well as it should, or not for long."""
    return Finding(check, Level.WARNING, text, fix)


def problem(check: str, text: str, fix: str) -> Finding:
    """It does not work."""
    return Finding(check, Level.PROBLEM, text, fix)


def examine(home: Home) -> Iterator[Finding]:
    """Every check, in the order in which one would look. Without a home only what does not need it."""
    yield python_version()
    found = list(check_home(home))
    yield from found
    if all(finding.level is not Level.PROBLEM for finding in found):
        yield check_space(home)
        yield from check_files(home)
        yield check_watching(home)
        yield check_settings(home)
        yield from check_runners(home)
    yield from check_airflow(home)


def python_version() -> Finding:
    """Which Python runs this, on which host: the first thing one asks."""
    return ok("python", f"{sys.version.split()[0]} at {sys.executable} on {processes.host()}")


# --- The home ---


def check_home(home: Home) -> Iterator[Finding]:
    """It is a directory of ours, private and writable."""
    try:
        found = home.root.stat()
    except FileNotFoundError:
        yield problem("home", f"{home.root} does not exist", runners.start_command(home))
        return
    except OSError as error:
        yield problem("home", f"{home.root}: {error.strerror}", "give another home with --home")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield problem("home", f"{home.root} is not a directory", "move it away, or give another home with --home")
        return
    if missing := [path for path in home.directories if not path.is_dir()]:
        yield problem("home", f"{missing[0]} is not there", command(home, "repair"))
        return
    if closed := [path for path in home.directories if not os.access(path, os.W_OK | os.X_OK)]:
        yield problem("home", f"{closed[0]} cannot be written to", f"chmod 700 {closed[0]}")
    else:
        yield ok("home", str(home.root))
    yield check_owner(home, found.st_uid)
    yield check_mode(home, stat.S_IMODE(found.st_mode))


def check_owner(home: Home, owner: int, user: int | None = None) -> Finding:
    """A home belongs to one user, and jobs run as that user."""
    user = os.geteuid() if user is None else user
    if owner == user:
        return ok("owner", f"belongs to user {user}")
    return problem(
        "owner", f"{home.root} belongs to user {owner}, you are {user}", "work as that user, or give another home"
    )


def check_mode(home: Home, mode: int) -> Finding:
    """What is in a home is private: logs, command lines, tokens."""
    if mode & 0o077:
        return problem("permissions", f"{home.root} is open to others (mode {mode:04o})", f"chmod 700 {home.root}")
    if mode & 0o700 != 0o700:
        return problem("permissions", f"{home.root} is closed to you (mode {mode:04o})", f"chmod 700 {home.root}")
    return ok("permissions", f"mode {mode:04o}")


def check_space(home: Home) -> Finding:
    """There is room for logs."""
    free = shutil.disk_usage(home.root).free
    text = f"{free / (1 << 30):.1f} GiB are free"
    if free >= LEAST_FREE:
        return ok("space", text)
    return warn("space", text, f"{command(home, 'prune', '--older-than', '7d')}, or free space on that filesystem")


def check_files(home: Home) -> Iterator[Finding]:
    """The filesystem does what claims and proofs of life need."""
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=home.root) as name:
            yield _check_rename(Path(name))
            yield _check_lock(Path(name))
    except OSError as error:
        yield problem(
            "write", f"{home.root} cannot be written to: {error.strerror}", "make it writable, or give another home"
        )


def _check_rename(directory: Path) -> Finding:
    source, target = directory / "a", directory / "b"
    source.touch()
    if _files.move(source, target) and not _files.move(source, target) and target.exists():
        return ok("rename", "a rename moves a file exactly once")
    return problem("rename", "a rename does not move a file exactly once", "put the home on another filesystem")


def _check_lock(directory: Path) -> Finding:
    first, second = _files.Lock(directory / "lock"), _files.Lock(directory / "lock")
    try:
        if first.acquire() and not second.acquire():
            return ok("flock", "locks work")
        text = "two can hold the same lock"
    except OSError as error:
        text = f"locks do not work: {error.strerror}"
    finally:
        first.release()
        second.release()
    return problem("flock", text, "mount the filesystem with locks (NFS: local_lock=none), or use another one")


def check_watching(home: Home) -> Finding:
    """A new file is noticed at once; without that, runners look every now and then."""
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    seen = threading.Event()

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            seen.set()

    fix = "sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=1048576"
    observer = Observer()
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=home.root) as name:
            observer.schedule(Handler(), name)
            observer.start()
            (Path(name) / "new").touch()
            noticed = seen.wait(WATCH_TIMEOUT)
    except OSError as error:
        return warn("watching", f"files cannot be watched ({error.strerror}); runners look every few seconds", fix)
    finally:
        if observer.is_alive():
            observer.stop()
            observer.join()
    if noticed:
        return ok("watching", "a new file is noticed at once")
    return warn("watching", "a new file is not noticed; runners look every few seconds", "use a local filesystem")


def check_settings(home: Home) -> Finding:
    """config.toml and the environment are in order."""
    try:
        settings.load(home)
    except SettingsError as error:
        return problem("settings", str(error), f"edit {home.config} or the environment")
    return ok("settings", str(home.config) if home.config.exists() else "defaults and environment, no config.toml")


# --- Runners ---


def check_runners(home: Home) -> Iterator[Finding]:
    """Somebody runs the jobs, and the clocks agree."""
    seen = runners.observe(home)
    infos = runners.all_runners(home)
    alive = [info for info in infos if seen.is_alive(info)]
    if alive:
        yield ok("runner", ", ".join(info.id for info in alive))
    else:
        yield problem("runner", "no runner is running", runners.start_command(home))
    yield check_clocks(_measure(info, info in alive) for info in infos)


def _measure(info: runners.RunnerInfo, alive: bool) -> tuple[str, float, float]:
    """How old its heartbeat looks, and how old it may look: of a living one of another host nobody missed any."""
    watched = alive and not processes.is_local(info.process)
    allowed = sightings.HEARTBEATS_MISSED * info.heartbeat if watched else math.inf
    return info.id, sightings.heartbeat_age(info), allowed


def check_clocks(ages: Iterable[tuple[str, float, float]]) -> Finding:
    """No heartbeat comes from the future, or from long ago if its runner lives. Pure.

    Lives and deaths do not depend on it, but the ages that are shown, the order of the queues and retention do.
    """
    fix = "set the clocks of the hosts, such as: timedatectl set-ntp true"
    for runner_id, age, allowed in ages:
        if age < -CLOCK_TOLERANCE:
            return problem("clocks", f"the last heartbeat of {runner_id} is {-age:.0f} s in the future", fix)
        if age > allowed:
            return problem("clocks", f"{runner_id} lives, and its last heartbeat looks {age:.0f} s old", fix)
    return ok("clocks", "the clocks of all runners agree")


# --- Airflow ---


def check_airflow(home: Home) -> Iterator[Finding]:
    """If Airflow is there, it uses this executor and this home."""
    if util.find_spec("airflow") is None:
        yield ok("airflow", "not installed; nothing here needs it")
        return
    if (config := start_dev_config(home)) is not None:
        yield ok("airflow", f"start-dev.sh runs it with this home and {config}")
        return
    try:
        executor = airflow_option("core", "executor")
    except (OSError, subprocess.SubprocessError) as error:
        yield warn("airflow", f"its configuration cannot be read: {_first_line(error)}", "airflow config list")
        return
    yield judge_executor(executor, _config_read())
    if EXECUTOR_CLASS in executor:
        yield judge_base_path(home, _base_path())


def start_dev_config(home: Home) -> Path | None:
    """The airflow.cfg of the Airflow that start-dev.sh runs with this home; None if it does not.

    It keeps Airflow beside the home, whatever the environment of this command says, and registers what it starts.
    """
    config = home.root.parent / ".airflow" / "airflow.cfg"
    return config if config.exists() and components.read_all(home) else None


def _airflow_config() -> Path:
    """Found as Airflow finds it."""
    given = os.environ.get("AIRFLOW_CONFIG")
    return Path(given).expanduser().absolute() if given else airflow_home() / "airflow.cfg"


def _config_read() -> str:
    """What Airflow's answers come from, for people."""
    config = _airflow_config()
    return f"from the environment and {config}" if config.exists() else f"from the environment; there is no {config}"


def airflow_option(section: str, name: str) -> str:
    """What Airflow's own command says; empty if the option is not set.

    Raises:
        OSError, SubprocessError: it does not answer.
    """
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "airflow", "config", "get-value", section, name],
            capture_output=True,
            text=True,
            timeout=AIRFLOW_TIMEOUT,
            check=True,
            env=_airflow_environment(empty),
        )
    return value_of(done.stdout)


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LOG_LINE = re.compile(r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")


def value_of(answer: str) -> str:
    """The value in what Airflow's command printed. Pure.

    Warnings come before it, and of an option that is not set nothing but a warning.
    """
    lines = [_COLOUR.sub("", line).strip() for line in answer.splitlines()]
    values = [line for line in lines if line and not _LOG_LINE.match(line)]
    return values[-1] if values else ""


def _airflow_environment(directory: str) -> dict[str, str]:
    """Airflow's command writes a configuration where there is none: that would then be in an empty directory."""
    if _airflow_config().exists():
        return dict(os.environ)
    return {**os.environ, "AIRFLOW_HOME": directory}


def judge_executor(configured: str, source: str) -> Finding:
    """Airflow uses this executor. Pure."""
    if EXECUTOR_CLASS in configured:
        return ok("airflow", f"[core] executor = {configured} ({source})")
    return warn(
        "airflow",
        f"[core] executor is {configured or 'not set'}, so Airflow does not use Air-Executor ({source})",
        f"export AIRFLOW__CORE__EXECUTOR={EXECUTOR}",
    )


def _base_path() -> str:
    """The home as Airflow's processes find it."""
    configured = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # an option that is not set is an error there
        configured = airflow_option("air_executor", "base_path")
    return os.path.expandvars(configured) or os.environ.get("AIR_EXECUTOR_HOME") or str(airflow_home() / HOME_NAME)


def judge_base_path(home: Home, base_path: str) -> Finding:
    """Airflow and this command mean the same home."""
    if not Path(base_path).expanduser().is_absolute():
        return warn(
            "base_path",
            f"Airflow's [air_executor] base_path is {base_path!r}, which is no absolute path",
            f"export AIRFLOW__AIR_EXECUTOR__BASE_PATH={home.root}",
        )
    if Path(base_path).expanduser().resolve() == home.root.resolve():
        return ok("base_path", f"Airflow uses {base_path}")
    return warn(
        "base_path",
        f"Airflow uses the home {base_path}, this is {home.root}",
        f"export AIRFLOW__AIR_EXECUTOR__BASE_PATH={home.root}, or use --home {base_path}",
    )


def _first_line(error: Exception) -> str:
    said = getattr(error, "stderr", None) or str(error)
    lines = str(said).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
