"""Looks at the home from a node: a job of Slurm, as small as those of a queue may be, that answers and goes.

::

    this side                         the node
    makes a directory, locks `ours`
    sbatch ─────────────────────────> locks `theirs`, tries `ours`, writes `answer.json`
    tries `theirs` <───────────────── waits for `seen`
    writes `seen` ──────────────────> ends
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from air_executor import __version__, _files
from air_executor.doctor.filesystem import CLOCK_TOLERANCE, own_directory
from air_executor.doctor.findings import Check, Finding, Level, ok, problem, warn
from air_executor.paths import Home, command
from air_executor.queuetables import QueueSettings
from air_executor.slurm import options, words

PATIENCE = 60.0
"""Seconds for the job to start and answer."""
MINUTES = 2
"""What it asks for."""
_LOOK = 0.2
_TIMEOUT = 30.0

_PROBE = """
import fcntl, json, os, pathlib, socket, sys, time
place = pathlib.Path(sys.argv[1])
found = {"time": time.time(), "host": socket.gethostname(), "version": "", "error": ""}
try:
    import air_executor, air_runner
    found["version"] = air_executor.__version__
except Exception as error:
    found["error"] = "%s: %s" % (type(error).__name__, error)
try:
    theirs = open(place / "theirs", "a")
    fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
    ours = open(place / "ours", "a")
    try:
        fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found["excluded"] = False
    except BlockingIOError:
        found["excluded"] = True
except OSError as error:
    found["lock_error"] = error.strerror
with open(place / "answer.tmp", "w") as file:
    json.dump(found, file)
os.rename(place / "answer.tmp", place / "answer.json")
end = time.monotonic() + 30
while time.monotonic() < end and "seen" not in os.listdir(place):
    time.sleep(0.2)
"""


@dataclass(frozen=True)
class Answer:
    """What came of a probe."""

    number: str = ""
    """Of the job of Slurm."""
    refused: str = ""
    """Why it was not submitted."""
    state: str = ""
    """What Slurm said of one that did not answer: `PENDING (Resources)`; empty if it knows it no more."""
    words: str = ""
    """The last line of its output."""
    said: Mapping[str, object] | None = None
    """What it wrote; None: nothing."""
    sent: float = 0.0
    received: float = 0.0
    """Between these moments it must have been written, by this host's clock."""
    excluded: bool = False
    """Whether the lock that the node held kept this host out."""


def probe(home: Home, queues: Mapping[str, QueueSettings], troubled: Collection[str] = ()) -> Iterator[Finding]:
    """One for each queue.

    Args:
        troubled: those whose own jobs Slurm would not run, which is a finding of its own: of these it is not said that
            all is well if a probe, which asks for little, gets through.
    """
    for name, table in queues.items():
        try:
            answer = ask(home, table)
        except (OSError, subprocess.SubprocessError) as error:
            yield problem(Check.SLURM, f"[queues.{name}] cannot be probed: {error}", command(home, "doctor"))
            continue
        yield from (each for each in judge(name, table, answer) if each.level is not Level.OK or name not in troubled)


def ask(home: Home, table: QueueSettings, patience: float = PATIENCE) -> Answer:
    """Submit it, wait for its answer, and see that nothing is left of it.

    Raises:
        OSError, subprocess.SubprocessError: the home or Slurm's commands do not work as they should.
    """
    with own_directory(home) as place, contextlib.ExitStack() as stack:
        lock = _files.Lock(place / "ours")
        lock.acquire()
        stack.callback(lock.release)
        (place / "probe.py").write_text(_PROBE)
        sent = time.time()
        done = _submit(table, place)
        if done.returncode != 0:
            return Answer(refused=words.short("sbatch", done.stderr) or f"exit code {done.returncode}")
        number = done.stdout.strip().partition(";")[0]
        stack.callback(_run, "scancel", number)
        return _wait(number, place, sent, patience)


def _submit(table: QueueSettings, place: Path) -> subprocess.CompletedProcess[str]:
    wanted = {name: value for name, value in table.slurm.items() if name not in ("time", "array")}
    python = shlex.join([table.python or sys.executable, str(place / "probe.py"), str(place)])
    script = "\n".join(["#!/bin/sh", *([table.setup] if table.setup else []), f"exec {python}", ""])
    flags = ["--parsable", "--job-name=air-executor-probe", f"--output={str(place).replace('%', '%%')}/output"]
    flags += ["--no-requeue", *options.arguments({**wanted, "time": MINUTES}), "--"]
    return _run("sbatch", *flags, given=script)


def _run(*argv: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        argv, input=given, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False
    )


def _wait(number: str, place: Path, sent: float, patience: float) -> Answer:
    deadline, state = time.monotonic() + patience, "PENDING"
    next_question = time.monotonic() + 1
    while time.monotonic() < deadline and state:
        time.sleep(_LOOK)
        if "answer.json" in {path.name for path in place.iterdir()}:  # a listing sees through a cache of the network's
            return _heard(number, place, sent)
        if time.monotonic() >= next_question:
            state = _state(number)
            next_question = time.monotonic() + 2
    if not state and (place / "answer.json").exists():
        return _heard(number, place, sent)
    return Answer(number, state=state, words=_last_words(place / "output"))


def _heard(number: str, place: Path, sent: float) -> Answer:
    received = time.time()
    theirs = _files.Lock(place / "theirs")
    taken = theirs.acquire()
    if taken:
        theirs.release()
    said = _files.read_object(place / "answer.json")
    (place / "seen").touch()
    return Answer(number, said=said, sent=sent, received=received, excluded=not taken)


def _state(number: str) -> str:
    """What Slurm says of one that is not over; empty if it is."""
    said = _run("squeue", "--noheader", f"--jobs={number}", "--format=%T (%r)").stdout.strip()
    return said.replace(" (None)", "")


def _last_words(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""


# --- Judging: pure ---


def judge(queue: str, table: QueueSettings, answer: Answer) -> Iterator[Finding]:
    """What came of a queue's probe."""
    where, python = f"[queues.{queue}]", table.python or sys.executable
    if answer.refused:
        fix = f"in config.toml, {where}: correct what it asks for"
        yield problem(Check.SLURM, f"{where}: Slurm does not take its jobs: {answer.refused}", fix)
    elif answer.said is None and answer.state:
        text = f"{where}: a probe did not answer within {PATIENCE:.0f} s, Slurm says {answer.state}"
        yield warn(Check.SLURM, text, "try it again when the cluster has room: air-executor doctor --slurm-probe")
    elif answer.said is None:
        said = f"its last words: {answer.words}" if answer.words else "it wrote nothing: no node may see the home"
        text = f"{where}: a probe ended without an answer; {said}"
        fix = f"let nodes see the home under the same path, for this user, and have {python} there (python, setup)"
        yield problem(Check.SLURM, text, fix)
    else:
        yield from _judge_said(where, python, answer, answer.said)


def _judge_said(where: str, python: str, answer: Answer, said: Mapping[str, object]) -> Iterator[Finding]:
    node = said.get("host")
    troubles = [*_judge_python(where, python, said), *_judge_locks(where, answer, said), *_judge_clock(where, answer)]
    yield from troubles or [ok(Check.SLURM, f"{where}: {node} sees the home and its locks, and has {python}")]


def _judge_python(where: str, python: str, said: Mapping[str, object]) -> Iterator[Finding]:
    node = said.get("host")
    install = f"on {node}: install Air-Executor {__version__} with {python}; or set python of {where}"
    if said.get("error"):
        yield problem(Check.SLURM, f"{where}: {python} on {node} has no Air-Executor ({said['error']})", install)
    elif said.get("version") != __version__:
        text = f"{where}: {python} on {node} has version {said.get('version')}, {__version__} is installed here"
        yield warn(Check.SLURM, text, install)


def _judge_locks(where: str, answer: Answer, said: Mapping[str, object]) -> Iterator[Finding]:
    node = said.get("host")
    fix = "mount the home's filesystem with locks that hold on all hosts (NFS 4, or local_lock=none; Lustre: -o flock)"
    if said.get("lock_error"):
        yield problem(Check.SLURM, f"{where}: locks do not work on {node}: {said['lock_error']}", fix)
    elif not said.get("excluded") or not answer.excluded:
        text = f"{where}: {node} and this host do not see each other's locks, so a job might run twice"
        yield problem(Check.SLURM, text, fix)


def _judge_clock(where: str, answer: Answer) -> Iterator[Finding]:
    told = answer.said.get("time") if answer.said else None
    if not isinstance(told, (int, float)):
        return
    off = told - answer.received if told > answer.received else min(0.0, told - answer.sent)
    if abs(off) > CLOCK_TOLERANCE:
        node = answer.said.get("host") if answer.said else "the node"
        text = f"{where}: the clock of {node} is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this host's"
        yield warn(Check.SLURM, text, f"set the clocks of both: timedatectl set-ntp true (on {node}, too)")
