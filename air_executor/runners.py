"""Runners as others see them: who is there, alive, and serves which queues; how one is started or told something.

The runner itself is another package, started by its module name alone.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from air_executor import _files, audit, model, orders, processes, spool, validation
from air_executor.errors import AirExecutorError, CorruptFileError, NotFoundError, RunnerError
from air_executor.paths import Home, command
from air_executor.sightings import Sightings

MAX_WATCH = 5.0
"""Seconds that one look at runners takes at most, if the clock of another host is in doubt."""

RUNNER_MODULE = "air_runner"
ENLIST_WAIT = 5.0
"""Seconds to wait for others who are just choosing a name."""
START_TIMEOUT = 20.0
"""Seconds a detached runner may take until it is ready; it needs about 0.3."""


@dataclass
class RunnerInfo:
    """The content of runners/<runner id>.json; only the runner writes it."""

    id: str
    process: model.Process
    queues: list[str]
    slots: int
    launcher: str
    version: str
    started_at: str
    heartbeat_at: str
    heartbeat: float
    """Seconds between two heartbeats."""
    working: int = 0
    """How many jobs it runs now."""
    load: float | None = None
    """The load average of its host over a minute, where the system tells it."""
    draining: bool = False
    embedded: bool = False
    """Started by an executor, and ends when nobody wants it any more."""
    slurm: bool = False
    """Whether Slurm's commands were on its PATH when it started."""
    ill: dict[str, str] = field(default_factory=dict)
    """Modules whose template cannot be used at this moment, so that `exec` starts their jobs, and why."""
    extra: dict[str, Any] = field(default_factory=dict, repr=False)


def write(home: Home, info: RunnerInfo) -> None:
    """Write the runner's file."""
    content = {item.name: getattr(info, item.name) for item in fields(info) if item.name not in ("process", "extra")}
    content |= {**info.extra, "process": model.to_dict(info.process)}
    _files.replace_object(home.runner(info.id), {"schema": model.SCHEMA, **content})


def enlist(home: Home, info: RunnerInfo) -> None:
    """Write a runner's file for the first time.

    Raises:
        RunnerError: a living runner has that name, or nobody can tell.
    """
    lock = _files.Lock(home.names_lock)
    if not lock.acquire(wait=ENLIST_WAIT):
        raise RunnerError(f"{home.names_lock} was held by another process for {ENLIST_WAIT:.0f} s; try again")
    try:
        check_free(home, info.id, Sightings(guess=True))
        write(home, info)
    finally:
        lock.release()


def check_free(home: Home, runner_id: str, seen: Sightings) -> None:
    """Raise `RunnerError` if a living runner has that name."""
    try:
        info = read(home, runner_id)
    except (NotFoundError, CorruptFileError):
        return
    if seen.is_alive(info):
        raise RunnerError(
            f"a runner named {runner_id} is running already (pid {info.process.pid} on {info.process.host})"
        )


def read(home: Home, runner_id: str) -> RunnerInfo:
    """One runner's file.

    Raises:
        NotFoundError: there is no such runner.
        CorruptFileError: its file is damaged.
    """
    validation.check_name("the runner", runner_id)
    path = home.runner(runner_id)
    try:
        content = _files.read_object(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"there is no runner {runner_id} in {home.root}") from None
    try:
        info = _info(content)
        if info.id != runner_id:
            raise ValueError(f"it is of {info.id[:80]!r}")
        return info
    except (TypeError, ValueError) as error:
        raise CorruptFileError(path, f"is not a runner's file ({error})") from None


def _info(content: Mapping[str, Any]) -> RunnerInfo:
    """What a runner's file says, checked: whoever looks at runners computes with it."""
    known = {item.name: str(item.type) for item in fields(RunnerInfo) if item.name not in ("process", "extra")}
    values = {key: model.check_value(key, known[key], content[key]) for key in known if key in content}
    process = model.from_dict(model.Process, content.get("process", {}))
    extra = {key: value for key, value in content.items() if key not in known and key not in ("schema", "process")}
    info = RunnerInfo(**values, process=process, extra=extra)
    validation.check_process(info.process)
    for what in ("started_at", "heartbeat_at"):
        validation.check_time(what, getattr(info, what))
    for what in ("slots", "working"):
        validation.check_number(what, getattr(info, what), whole=True)
    validation.check_number("heartbeat", info.heartbeat, positive=True)
    if info.load is not None:
        validation.check_number("load", info.load)
    for queue in info.queues:
        validation.check_name("the queue", queue, validation.MAX_QUEUE_BYTES)
    return info


def all_runners(home: Home) -> list[RunnerInfo]:
    """Every runner that has a readable file, alive or not."""
    found = []
    for path in sorted(home.runners.glob("*.json")):
        with contextlib.suppress(AirExecutorError):
            found.append(read(home, path.stem))
    return found


def observe(home: Home, runner_id: str | None = None) -> Sightings:
    """What one look tells of all runners, or of one.

    If the clock of another host says that its runner is dead, or if its heartbeat comes from the future, this waits
    until the runner has beaten, or should have. Who looks again and again keeps `Sightings` and never waits.
    """
    seen, deadline = Sightings(guess=True), math.inf
    while True:
        infos = [info for info in all_runners(home) if runner_id in (None, info.id)]
        doubtful = [info.heartbeat for info in infos if not seen.is_alive(info) and _is_elsewhere(info)]
        moment = time.monotonic()
        deadline = min(deadline, moment + min(MAX_WATCH, 1.5 * max(doubtful, default=0.0)))
        if moment >= deadline:
            return seen
        time.sleep(0.05)


def _is_elsewhere(info: RunnerInfo) -> bool:
    return processes.is_alive(info.process) is None


def alive_runners(home: Home, seen: Sightings | None = None) -> list[RunnerInfo]:
    """The runners that live. Who keeps no sightings may have to wait, as `observe` does."""
    seen = seen or observe(home)
    return [info for info in all_runners(home) if seen.is_alive(info)]


def serving(infos: Iterable[RunnerInfo], queue: str) -> list[RunnerInfo]:
    """Those that take jobs from a queue."""
    return [info for info in infos if queue in info.queues and not info.draining]


def start_command(home: Home, queue: str = "default") -> str:
    """What a person types to start a runner that serves a queue."""
    queues = [] if queue == "default" else ["--queues", queue]
    return command(home, "runner", "start", "--detach", *queues)


def unserved(home: Home, queues: Sequence[str], seen: Sightings | None = None) -> list[str]:
    """The queues that no living runner takes jobs from; it may have to wait, as `observe` does, to say that of any."""
    if seen is None:
        return unserved(home, queues, Sightings(guess=True)) and unserved(home, queues, observe(home))
    alive = alive_runners(home, seen)
    return [queue for queue in queues if not serving(alive, queue)]


def tell(
    home: Home,
    runner_id: str,
    action: str,
    seen: Sightings | None = None,
    *,
    by: str | None = None,
    why: str = "",
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Ask a runner for something; it sees it at once, or with its next look where watching does not work.

    Args:
        by: who asks; who runs this process if it is not given.
        why: kept with it in `logs/steering.jsonl`.
        changes: of the action `set` alone; see `steering.set_runner`.

    Raises:
        NotFoundError: there is no such runner, or it is dead.
        InvalidInputError: a text is too long.
        OSError: the home refused.
    """
    info = read(home, runner_id)
    if not (seen or observe(home, runner_id)).is_alive(info):
        raise NotFoundError(f"the runner {runner_id} is not running")
    if action not in orders.ACTIONS and not (action == orders.SET and changes):
        raise ValueError(action)
    audit.check_texts(by, why)
    orders.give(
        home, info.id, orders.Order(action, by or processes.user(), why, process=info.process, changes=changes or {})
    )


@dataclass(frozen=True)
class StartOptions:
    """How to start a runner."""

    queues: Sequence[str] = ()
    slots: int | None = None
    name: str | None = None
    preload: Sequence[str] = ()
    launcher: str | None = None
    linger: float | None = None
    grace: float | None = None
    handover: bool = False
    embedded: bool = False
    python: str = sys.executable
    metrics_port: int | None = None
    metrics_host: str | None = None

    def argv(self, home: Home) -> list[str]:
        """The command line of the runner."""
        words = [self.python, "-m", RUNNER_MODULE, "--home", str(home.root)]
        if self.queues:
            words += ["--queues", ",".join(self.queues)]
        for name in ("slots", "name", "launcher", "linger", "grace", "metrics_port", "metrics_host"):
            if (value := getattr(self, name)) is not None:
                words += [f"--{name.replace('_', '-')}", str(value)]
        for module in self.preload:
            words += ["--preload", module]
        return [*words, *(f"--{flag}" for flag in ("handover", "embedded") if getattr(self, flag))]


def start_detached(home: Home, options: StartOptions) -> str:
    """Start a runner that outlives this process and is no child of it; returns when it is ready.

    Returns:
        Its id.

    Raises:
        RunnerError: it ended at once or did not become ready; the message has the last line it wrote.
    """
    import subprocess

    log = home.runner_log
    runner_id = options.name or f"{processes.host_name()}-{os.urandom(3).hex()}"
    reader, writer = os.pipe()
    try:
        try:
            with os.fdopen(_files.open_to_append(log), "ab") as output:
                offset = output.tell()
                argv = [*replace(options, name=runner_id).argv(home), "--detached", "--ready-fd", str(writer)]
                child = subprocess.Popen(  # noqa: S603
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=[writer],
                )
        finally:
            os.close(writer)
        if child.wait() != 0:  # it forks away at once
            raise RunnerError(f"the runner cannot be started: {_last_line(log, offset)}")
        if not _is_ready(reader):
            raise RunnerError(f"the runner ended or was not ready in time: {_last_line(log, offset)}; see {log}")
    finally:
        os.close(reader)
    return runner_id


def _is_ready(reader: int) -> bool:
    """The runner writes one byte when it is ready; end of file means that it is gone."""
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        return bool(selector.select(START_TIMEOUT)) and os.read(reader, 1) != b""


def keep_alive(home: Home) -> None:
    """Say that a submitter is there, so that an embedded runner stays."""
    _files.make_directory(home.spool)
    home.keepalive.touch(mode=_files.PRIVATE_FILE)


def forget_dead(home: Home, seen: Sightings) -> None:
    """Remove what is left of runners that are dead and have no claims, and of clients that died as they cancelled."""
    told = _told(home)  # first: who begins now has a runner's file before there are metrics of it
    known = all_runners(home)
    for info in known:
        if not seen.is_alive(info):
            _files.discard(home.runner_metrics(info.id))
            if spool.remove_holder(home, info.id):
                home.runner(info.id).unlink(missing_ok=True)
                _files.discard(home.slurm_condition(info.id))
                orders.drop(home, info.id)
    for path in told:
        if not home.runner(path.stem).exists():
            _files.discard(path)
    for holder in set(spool.holders(home)) - {info.id for info in known}:
        if seen.is_old_holder(home, holder):
            spool.remove_holder(home, holder)


def _told(home: Home) -> list[Path]:
    """The files with metrics, and with what was heard of Slurm.

    None of metrics where a link leads to, such as to node_exporter's: there others have theirs.
    """
    metrics = [] if home.metrics.is_symlink() else home.metrics.glob("*.prom")
    return [*metrics, *home.slurm_conditions.glob("*.json")]


def _last_line(log: Path, offset: int) -> str:
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
