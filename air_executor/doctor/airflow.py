"""Airflow as this home needs it. One process looks at its configuration; what it says is judged by pure functions.

Importing Airflow would take this command seconds, and the core knows no Airflow: so another process is asked, the
plugin's module `airflow_plugin.facts`, and once for a whole examination.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import util
from pathlib import Path
from urllib.parse import urlsplit

from air_executor import components, runners
from air_executor.doctor import facts
from air_executor.doctor.facts import Facts, Option
from air_executor.doctor.findings import Check, Finding, ok, problem, several, warn
from air_executor.paths import Home, airflow_home

TIMEOUT = 90.0
EXECUTOR_CLASS = "AirExecutor"
EXECUTOR = f"airflow_plugin.{EXECUTOR_CLASS}"
NAMES = frozenset({EXECUTOR, f"airflow_plugin.executor.{EXECUTOR_CLASS}"})
"""What Airflow finds the executor by."""
_MEANT = re.compile(r"air[._]?execut|airflow_plugin", re.IGNORECASE)
"""What somebody writes who means it."""
API_PATH = "/execution"

Ask = Callable[[], Facts]


class AirflowError(Exception):
    """Airflow could not be asked; the message says why."""


def check_airflow(home: Home, ask: Ask | None = None) -> Iterator[Finding]:
    """If Airflow is there, it uses this executor and this home.

    Args:
        ask: who gets the facts; asked once at most.
    """
    command = shutil.which("airflow")
    if util.find_spec("airflow") is None:
        yield judge_absence(command, sys.executable)
        return
    if (config := start_dev_config(home)) is not None:
        yield ok(Check.AIRFLOW, f"start-dev.sh runs it with this home and {config}")
        return
    yield from judge_command(command, sys.executable)
    try:
        found = (ask or ask_airflow)()
    except AirflowError as error:
        fix = f"{shlex.join([sys.executable, '-m', 'airflow', 'config', 'list'])} says why"
        yield problem(Check.AIRFLOW, f"it cannot be asked how it is configured ({_config()}): {error}", fix)
        return
    yield from judge(home, found, _living(home))


def _config() -> Path:
    """Found as Airflow finds it."""
    given = os.environ.get("AIRFLOW_CONFIG")
    return Path(given).expanduser().absolute() if given else airflow_home() / "airflow.cfg"


def _living(home: Home) -> list[runners.RunnerInfo]:
    """None where the home is not there, or closed, which is a finding of its own."""
    try:
        return runners.alive_runners(home)
    except OSError:
        return []


def start_dev_config(home: Home) -> Path | None:
    """The airflow.cfg of the Airflow that start-dev.sh runs with this home; None if it does not.

    It keeps Airflow beside the home, whatever the environment of this command says, and registers what it starts.
    """
    config = home.root.parent / ".airflow" / "airflow.cfg"
    try:
        return config if config.exists() and components.read_all(home) else None
    except OSError:
        return None


def once(ask: Ask) -> Ask:
    """One that asks no second time, also if there was no answer: that may have taken long."""

    @functools.cache
    def answer() -> Facts | AirflowError:
        try:
            return ask()
        except AirflowError as error:
            return error

    def remembered() -> Facts:
        found = answer()
        if isinstance(found, AirflowError):
            raise found
        return found

    return remembered


def ask_airflow() -> Facts:
    """The facts, of a process that ends with its answer.

    Raises:
        AirflowError: there is no answer.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "airflow_plugin.facts"],
            env={**os.environ, "PYTHONSAFEPATH": "1"},  # or modules would be taken from where somebody happens to be
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )
        return facts.from_json(done.stdout)
    except subprocess.TimeoutExpired:
        raise AirflowError(f"no answer within {TIMEOUT:.0f} s") from None
    except subprocess.CalledProcessError as error:
        raise AirflowError(_kind_of(error.stderr)) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AirflowError(f"no answer that makes sense ({type(error).__name__})") from None


def _kind_of(errors: str) -> str:
    """Which exception ended it. Not its message: that may hold a value of the configuration."""
    lines = errors.strip().splitlines() or [""]
    found = re.match(r"[A-Za-z_][\w.]*(?=:|$)", lines[-1])
    return f"it ended with {found[0]}" if found else "it ended with an error"


# --- Judging: pure ---


def judge(home: Home, found: Facts, alive: Iterable[runners.RunnerInfo]) -> Iterator[Finding]:
    """Everything, or only that Airflow uses another executor: then nothing else matters."""
    executor = judge_executor(found)
    yield executor
    if not uses_air_executor(found):
        return
    yield judge_entry_points(found)
    yield from judge_options(found)
    if found.base_path is not None:
        yield judge_base_path(home, found)
    if not found.wrong:
        yield judge_slots(found, alive)
        yield judge_tokens(found)
    yield judge_idle_sleep(found)
    yield judge_api(found)
    yield judge_database(found)


def judge_absence(command: str | None, python: str) -> Finding:
    """Airflow is not in this Python."""
    if command is None:
        return ok(Check.AIRFLOW, "not installed; nothing here needs it")
    there = Path(command).resolve().parent
    text = f"{command} is of another Python than this command ({python}), which has no Airflow: nothing was looked at"
    fix = f"{there / 'python'} -m pip install {_source()} && {there / 'air-executor'} doctor"
    return warn(Check.AIRFLOW, text, fix)


def judge_command(command: str | None, python: str) -> Iterator[Finding]:
    """The `airflow` that somebody types is the one that is judged here."""
    here = Path(python).parent
    if command is not None and Path(command).parent.resolve() != here.resolve():
        text = f"typing 'airflow' runs {command}; what follows is about the Airflow of {python}"
        other = Path(command).with_name("air-executor")
        yield warn(Check.AIRFLOW, text, f"export PATH={here}:$PATH, or run {other} doctor")


def executors(value: str | None) -> list[str]:
    """What `[core] executor` names, without teams and aliases."""
    teams = (part.partition("=")[2] if "=" in part else part for part in (value or "").split(";"))
    names = (name.strip() for team in teams for name in team.split(","))
    return [name.rpartition(":")[2].strip() for name in names if name]


def uses_air_executor(found: Facts) -> bool:
    """Whether this executor is one of Airflow's."""
    return not NAMES.isdisjoint(executors(found.option("core", "executor").value))


def judge_executor(found: Facts) -> Finding:
    """Airflow uses this executor, by a name under which it finds it."""
    option = found.option("core", "executor")
    names = executors(option.value)
    source = _said_by(found, option)
    if NAMES.intersection(names):
        if found.loads:
            text = f"[core] executor = {option.value} ({source}) cannot be imported: {found.loads}"
            return problem(Check.AIRFLOW, text, f"{found.python} -c 'import airflow_plugin.executor' says why")
        return ok(Check.AIRFLOW, f"[core] executor = {_shown(option)} ({source})")
    fix = to_set(found, "core", "executor", EXECUTOR)
    if any(_MEANT.search(name) for name in names):
        text = f"[core] executor is {_shown(option)} ({source}), and Airflow finds Air-Executor only by {EXECUTOR}"
        return problem(Check.AIRFLOW, text, fix)
    said = f"is {_shown(option)}" if option.value else "is empty"
    return warn(Check.AIRFLOW, f"[core] executor {said}, so Airflow does not use Air-Executor ({source})", fix)


def _shown(option: Option) -> str:
    """A value that somebody put there by mistake may be anything: only what can be a name is repeated."""
    value = option.value or ""
    return value if re.fullmatch(r"[\w.,:;= ]{1,120}", value) else "no name"


def _said_by(found: Facts, option: Option) -> str:
    """Who says so."""
    if option.source == facts.ENVIRONMENT:
        return f"from the variable {option.variable}"
    if option.source == facts.FILE:
        return f"from {found.config}"
    absent = "" if found.has_config else " (there is no such file)"
    return f"Airflow's default: nothing sets it, neither the variable {option.variable} nor {found.config}{absent}"


def to_set(found: Facts, section: str, name: str, value: str) -> str:
    """How to set an option where it counts: a variable beats the file."""
    option = found.option(section, name)
    if option.source == facts.ENVIRONMENT or not found.has_config:
        variable = option.variable or f"AIRFLOW__{section}__{name}".upper()
        return f"export {variable}={shlex.quote(value)}"
    return f"in {found.config}, section [{section}]: {name} = {value}"


def judge_entry_points(found: Facts) -> Finding:
    """Airflow finds the provider (options, connection type) and the plugin (page, links)."""
    if not found.missing:
        return ok(Check.ENTRY_POINTS, "Airflow finds the provider and the plugin")
    text = f"the installed package has no entry point {several(found.missing)}, so Airflow does not find that part"
    return problem(Check.ENTRY_POINTS, text, f"{found.python} -m pip install --force-reinstall --no-deps {_source()}")


def _source() -> str:
    """From where to install again: the checkout that this runs from, or wherever pip had it from."""
    root = Path(__file__).parents[2]
    return shlex.quote(str(root)) if (root / "pyproject.toml").exists() else "air-executor"


def judge_options(found: Facts) -> Iterator[Finding]:
    """Of `[air_executor]`."""
    for sentence in found.wrong:
        variable = re.search(r"((?:AIRFLOW__|AIR_EXECUTOR_)[A-Z]\w*)", sentence)
        option = re.search(r"\[(\w+)\] (\w+)", sentence)
        line = f"section [{option[1]}]: correct or remove '{option[2]} = ...'" if option else "[air_executor]"
        fix = f"unset {variable[1]}, or correct it" if variable else f"in {found.config}, {line}"
        yield problem(Check.OPTIONS, f"{sentence}; tasks stay queued until that is put right", fix)
    if not found.wrong:
        yield ok(Check.OPTIONS, "the options of [air_executor] make sense")


def judge_base_path(home: Home, found: Facts) -> Finding:
    """Airflow and this command mean the same home."""
    path = found.base_path or ""
    if Path(path).resolve() == home.root.resolve():
        return ok(Check.BASE_PATH, f"Airflow uses {path}")
    fix = f"{to_set(found, 'air_executor', 'base_path', str(home.root))}, or use --home {shlex.quote(path)}"
    return warn(Check.BASE_PATH, f"Airflow uses the home {path}, this is {home.root}", fix)


def judge_slots(found: Facts, alive: Iterable[runners.RunnerInfo]) -> Finding:
    """As many tasks are handed over at once as the runners have slots for."""
    parallelism = _number(found.option("core", "parallelism"), 32.0)
    serving = [info for info in alive if not info.draining and set(info.queues) & set(found.queues)]
    slots = sum(info.slots for info in serving) or found.slots or parallelism
    said = f"[core] parallelism is {parallelism:g}, the runners that serve Airflow have {slots:g} slots"
    if parallelism <= 0 or slots == parallelism:
        return ok(Check.SLOTS, said)
    fix = to_set(found, "core", "parallelism", f"{slots:g}")
    if slots < parallelism:
        text = f"{said}: Airflow counts tasks as handed over that wait for a slot"
        more = f"{fix}, or give the runners more slots"
        return warn(Check.SLOTS, text, more)
    return warn(Check.SLOTS, f"{said}: one scheduler never uses all of them", fix)


def judge_idle_sleep(found: Facts) -> Finding:
    """The executor waits in place of the scheduler, and is woken."""
    seconds = _number(found.option("scheduler", "scheduler_idle_sleep_time"), 1.0)
    if seconds == 0:
        return ok(Check.IDLE_SLEEP, "[scheduler] scheduler_idle_sleep_time = 0")
    text = f"[scheduler] scheduler_idle_sleep_time is {seconds:g}: what is asked of an idle scheduler starts that later"
    return warn(Check.IDLE_SLEEP, text, to_set(found, "scheduler", "scheduler_idle_sleep_time", "0"))


def judge_tokens(found: Facts) -> Finding:
    """A token lives at least as long as Airflow lets its task be queued."""
    timeout = _number(found.option("scheduler", "task_queued_timeout"), 600.0)
    if not found.token_lifetime or found.token_lifetime >= timeout:
        text = (
            f"[air_executor] token_lifetime = {found.token_lifetime:g}, [scheduler] task_queued_timeout = {timeout:g}"
        )
        return ok(Check.TOKENS, text)
    text = (
        f"[air_executor] token_lifetime is {found.token_lifetime:g}, less than [scheduler] task_queued_timeout"
        f" ({timeout:g}), which counts instead"
    )
    return warn(Check.TOKENS, text, to_set(found, "air_executor", "token_lifetime", f"{max(timeout, 604800):g}"))


def judge_api(found: Facts) -> Finding:
    """Tasks report to the execution API."""
    if why := implausible(found.api):
        text = f"[core] execution_api_server_url {why}: no task could report its end"
        return problem(
            Check.API_SERVER,
            text,
            to_set(found, "core", "execution_api_server_url", "http://localhost:8080/execution/"),
        )
    if found.api_trouble:
        text = f"the API server does not answer at {found.api}: {found.api_trouble}"
        where = to_set(found, "core", "execution_api_server_url", "http://HOST:PORT/execution/")
        return problem(Check.API_SERVER, text, f"airflow api-server; if it runs elsewhere: {where}")
    return ok(Check.API_SERVER, f"answers at {found.api}")


def implausible(url: str) -> str:
    """What is wrong with the address of the execution API; empty if nothing is seen. It is not repeated."""
    try:
        parts = urlsplit(url)
        named = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        return "is no address"
    if parts.scheme not in ("http", "https") or not named:
        return "is no address that begins with http:// or https:// and a host"
    return "" if parts.path.rstrip("/").endswith(API_PATH) else f"does not end with {API_PATH}/"


def judge_database(found: Facts) -> Finding:
    """It can be used, and suffices."""
    database = found.database
    where = f"{database.kind} at {database.where}"
    postgresql = to_set(found, "database", "sql_alchemy_conn", "postgresql+psycopg2://USER:PASSWORD@HOST/airflow")
    if database.trouble:
        fix = f"start it, or correct its address: {postgresql}; then airflow db check"
        return problem(Check.DATABASE, f"{where} cannot be used: {database.trouble}", fix)
    if not database.migrated:
        return problem(Check.DATABASE, f"{where} has no tables of Airflow", "airflow db migrate")
    if database.kind == "sqlite":
        text = f"{where}: one process at a time writes to it, so many tasks at once wait for each other, or fail"
        return warn(Check.DATABASE, text, f"use PostgreSQL: {postgresql}; then airflow db migrate")
    return ok(Check.DATABASE, where)


def _number(option: Option, default: float) -> float:
    try:
        return float(option.value or "")
    except ValueError:
        return default
