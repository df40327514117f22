"""A home full of jobs that are about to be damaged: waiting, running, over, and lost with their runner."""

from __future__ import annotations

import contextlib
import io
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from air_executor import AirExecutorClient, cli, held, model, processes, runners, spool, store, testing
from air_executor.errors import CorruptFileError
from air_executor.model import ExitKind, JobState, TaskStatus
from air_executor.paths import Home
from tests.faults import nasty

GONE = model.Process(processes.host(), processes.boot_id(), 2**22 + 1, 1, "dead")
"""A process that cannot exist: its number is above the highest."""

ANY_END = frozenset(state for state in JobState if state.terminal)
FAILED, COMPLETED, CANCELLED = (frozenset({s}) for s in (JobState.FAILED, JobState.COMPLETED, JobState.CANCELLED))


@dataclass(frozen=True)
class Case:
    """A job, what is done to which of its files, and how it may end."""

    situation: str
    file: str
    nasty: nasty.Nasty
    ends: frozenset[JobState]
    number: int

    @property
    def job(self) -> str:
        return f"{self.situation}-{self.number}"

    def __str__(self) -> str:
        return f"{self.job} ({self.file}: {self.nasty.name})"


@dataclass
class Ward:
    """The home, and what is known of its jobs."""

    home: Home
    cases: list[Case]
    kept: dict[str, bytes] = field(default_factory=dict)
    """What the damaged files held, by job."""
    runners: list[testing.RunnerProcess] = field(default_factory=list)

    def start_runner(self) -> testing.RunnerProcess:
        self.runners.append(testing.RunnerProcess(self.home, ["--slots", "500", "--grace", "1"]))
        return self.runners[-1]

    @property
    def client(self) -> AirExecutorClient:
        return AirExecutorClient(self.home.root)

    @property
    def go(self) -> Path:
        return self.home.root.parent / "go"

    @property
    def started(self) -> Path:
        """Each body appends the name of its job."""
        return self.home.root.parent / "started"

    def starts(self, job: str) -> int:
        """How often a job's body was started."""
        return self.started.read_text().split().count(job)

    def of(self, *situations: str) -> list[Case]:
        return [case for case in self.cases if case.situation in situations]

    def submit(self, *names: str, holds: bool = False, queue: str = "default") -> None:
        """Jobs that end at once, or when they are let go."""
        begin = f"echo $AIR_EXECUTOR_JOB >> {self.started}"
        script = f"{begin}; while ! test -e {self.go}; do sleep 1; done" if holds else begin
        task = {"command": "sh", "args": ["-c", script], "id": "task-1"}
        for name in names:
            jobs = store.Submission(model.Job(name, queue=queue, notify=True), [model.Task(**task)])
            store.submit(self.home, jobs)

    def lose(self, *names: str) -> None:
        """Jobs that another runner has started. It lives until it is `buried`."""
        self.write_runner("dead", processes.identify(os.getpid()))
        self.home.claims("dead").mkdir()
        for name in names:
            self.submit(name, queue="elsewhere")
            assert spool.claim(self.home, spool.marker_of(store.read(self.home, name)), "dead")
            with held.HeldJob.acquire(self.home, name) as job:
                job.start(GONE, by="runner dead")
                job.set_task(job.tasks[0], TaskStatus.RUNNING)

    def bury(self) -> None:
        """Let the other runner be gone."""
        self.write_runner("dead", GONE)

    def write_runner(self, name: str, process: model.Process) -> None:
        moment = model.now()
        info = runners.RunnerInfo(name, process, ["elsewhere"], 4, "fork", "0.1.0", moment, moment, 3.0)
        runners.write(self.home, info)

    def damage(self, *situations: str) -> None:
        for case in self.of(*situations):
            path = self.home.job(case.job).root / case.file
            if case.file == "cancel" and not path.exists():
                path.write_text('{"at": "x", "by": 7, "state": [1, 1]}')
            if case.file == "events.jsonl" or case.file == "runner.lock":
                path.touch()
            case.nasty.apply(path, self.home.job("another").root / case.file)
            if path.is_file() and not path.is_symlink():
                self.kept[case.job] = path.read_bytes()

    def queued_or_claimed(self) -> list[str]:
        """Jobs not over yet. First the queues: a job that is claimed meanwhile is found among the claims."""
        queued = [marker.job for queue in spool.queues(self.home) for marker in spool.waiting(self.home, queue)]
        claimed = [job for holder in spool.holders(self.home) for job in spool.claimed(self.home, holder)]
        return [*queued, *claimed]

    # --- What must be true ---

    def wrong(self) -> Iterator[str]:
        """What is wrong with the ends of the damaged jobs."""
        for case in self.cases:
            try:
                job = store.read(self.home, case.job)
            except Exception as error:
                yield f"{case} cannot be read: {error!r}"
                continue
            if job.state not in case.ends or job.exit is None or not job.exit.reason:
                yield f"{case} is {job.state}: {job.exit and job.exit.reason!r:.200}"
            elif case.ends == FAILED:
                yield from self._wrong_with_failed(case, job)

    def _wrong_with_failed(self, case: Case, job: model.Job) -> Iterator[str]:
        root = self.home.job(case.job).root
        assert job.exit is not None
        if job.exit.kind is not ExitKind.DAMAGED:
            yield f"{case} is not said to be damaged: {job.exit.kind}: {job.exit.reason}"
        elif str(root / case.file) not in job.exit.reason or len(job.exit.reason) > 600:
            yield f"{case} has no clear reason: {job.exit.reason:.700}"
        names = {path.name for path in root.iterdir() if path.name.startswith(case.file)}
        if case.nasty.kept and case.file == "state.json" and names != {case.file, f"{case.file}.damaged-1"}:
            yield f"{case} did not keep its file: {names}"
        contents = {path.read_bytes() for path in root.iterdir() if path.is_file()}
        if case.job in self.kept and self.kept[case.job] not in contents:
            yield f"{case} did not keep what was in its file"


# --- Commands ---


def run_command(home: Home, *words: str) -> tuple[int, str, str]:
    """A command in this process: its exit code, and what it wrote."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(["--home", str(home.root), *words])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
    written = []
    for stream in (out, err):
        stream.seek(0)
        written.append(stream.read())
    return code, written[0], written[1]


def try_command(home: Home, *words: str) -> Iterator[str]:
    """What is wrong with how a command ends: any exception, or an error that is not one line of ours."""
    what = " ".join(words)
    try:
        code, out, err = run_command(home, *words)
    except Exception:
        yield f"{what}: {traceback.format_exc(limit=-4)}"
        return
    if "Traceback" in out + err:
        yield f"{what}: a traceback"
    if code and words[0] not in ("status", "doctor", "wait"):
        lines = err.splitlines()
        if len(lines) != 1 or not lines[0].startswith("air-executor: ") or len(lines[0]) > 700:
            yield f"{what}: exit code {code} without one clear line: {err!r:.300}"
        elif code == CorruptFileError.exit_code and not ("/" in lines[0] and "sound copy" in lines[0]):
            yield f"{what}: names no file, or does not say what to do: {lines[0]}"


OF_ALL: list[tuple[str, ...]] = [
    ("list",),
    ("list", "--json"),
    ("status",),
    ("status", "--json"),
    ("runner", "list"),
    ("prune", "--keep", "1", "--dry-run"),
    ("prune", "--older-than", "1d", "--max-size", "1G", "--dry-run"),
]
OF_EACH: list[Callable[[str], tuple[str, ...]]] = [
    lambda name: ("show", name),
    lambda name: ("show", name, "--json"),
    lambda name: ("logs", name),
]
CHANGING: list[Callable[[str], tuple[str, ...]]] = [
    lambda name: ("cancel", name),
    lambda name: ("retry", name),
    lambda name: ("wait", name, "--timeout", "0.01"),
    lambda name: ("cancel", name, "--json"),
]


def try_commands(home: Home, names: list[str], more: Any = ()) -> list[str]:
    """All that only look, and `more` that are given the name of each job."""
    wrong = [line for words in OF_ALL for line in try_command(home, *words)]
    return wrong + [line for name in names for make in (*OF_EACH, *more) for line in try_command(home, *make(name))]
