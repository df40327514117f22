"""A home, what runs in it after a fault, and what must then be true of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from air_executor import (
    AirExecutorClient,
    ends,
    journal,
    model,
    processes,
    repair,
    results,
    runners,
    spool,
    store,
    temporaries,
)
from air_executor.model import JobState
from air_executor.paths import Home
from air_executor.settings import RunnerSettings
from air_executor.sightings import Sightings
from air_runner import __version__, ephemeral, recovery, supervise, taskloop
from air_runner.daemon import Runner
from tests.faults import tracing

NEXT_RUNNER = "next"
RULES = taskloop.Rules(grace=1.0, output_mb=0)
ROUNDS = 20
"""So often a runner that goes through its queues must be enough."""


@dataclass(frozen=True)
class World:
    """A home below a directory of its own."""

    root: Path

    @property
    def home(self) -> Home:
        return Home(self.root / "home")

    @property
    def client(self) -> AirExecutorClient:
        return AirExecutorClient(self.home.root)

    @property
    def record(self) -> Path:
        """Every body appends the name of its job to this file."""
        return self.root / "bodies"

    def bodies(self) -> list[str]:
        """The jobs whose bodies ran, once for each time."""
        return self.record.read_text().split() if self.record.exists() else []

    def task(self, task_id: str = "task-1", **options: Any) -> model.Task:
        """A body as a process; it hands over its id."""
        script = 'echo "$AIR_EXECUTOR_JOB" >>"$0"; echo "\\"$AIR_EXECUTOR_TASK\\"" >"$AIR_EXECUTOR_OUTPUT"'
        return model.Task("/bin/sh", ["-c", script, str(self.record)], id=task_id, **options)

    def inline_task(self) -> model.Task:
        """A body that runs in its ephemeral runner."""
        return model.Task(sys.executable, ["-m", "tests.faults.body", str(self.record)], id="task-1")

    def submission(self, name: str, *tasks: model.Task, workload: bool = False, **options: Any) -> store.Submission:
        """A job whose end is announced, as one of Airflow's."""
        secret = b'{"token": "secret"}' if workload else None
        job = model.Job(name, notify=options.pop("notify", True), **options)
        return store.Submission(job, list(tasks) or [self.task()], secret)

    def submit(self, name: str, *tasks: model.Task, **options: Any) -> model.Job:
        return self.client.submit(self.submission(name, *tasks, **options))

    def claim(self, name: str, holder: str) -> None:
        """Let a runner have claimed a job."""
        self.home.claims(holder).mkdir(exist_ok=True)
        assert spool.claim(self.home, spool.marker_of(store.read(self.home, name)), holder)

    def await_end(self, name: str) -> None:
        """Let somebody wait for a job's end, and a listener hear of it."""
        ends.begin_to_await(self.home, name)
        ends.listener_directory(self.home, "job", name, "x").mkdir(parents=True)

    def write_runner(self, runner_id: str, process: model.Process) -> None:
        moment = model.now()
        info = runners.RunnerInfo(runner_id, process, ["default"], 4, "fork", __version__, moment, moment, 3.0)
        runners.write(self.home, info)
        self.home.claims(runner_id).mkdir(exist_ok=True)


@contextlib.contextmanager
def new_world() -> Iterator[World]:
    """Gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="world-"))
    try:
        yield World(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def gone_process() -> model.Process:
    """One that lived a moment ago."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    process = processes.identify(os.getpid(), "dead")
    process.pid, process.start_time = pid, process.start_time + 1
    os.waitpid(pid, 0)
    return process


# --- Recovery: what a runner's start and its loop do, with nothing between ---


def recover(world: World) -> None:
    """Bring everything in the home to its end, as the next runner on this host would."""
    home = world.home
    store.ensure_home(home)
    world.write_runner(NEXT_RUNNER, processes.identify(os.getpid()))
    seen = Sightings()
    note_lost(world, seen)
    list(recovery.recover(home, NEXT_RUNNER, set(), seen))
    list(repair.repair(home))
    note_lost(world, seen)  # again: of claims that repair put back
    list(recovery.recover(home, NEXT_RUNNER, set(), seen))
    for _ in range(ROUNDS):
        markers = [marker for queue in spool.queues(home) for marker in sorted(spool.waiting(home, queue))]
        if not markers:
            break
        for marker in markers:
            if spool.claim(home, marker, NEXT_RUNNER):
                _run_claimed(home, marker.job)
    list(recovery.recover(home, NEXT_RUNNER, set(), seen))
    for name in spool.cancel_requests(home):  # a runner drops those of jobs that are over or gone
        with contextlib.suppress(LookupError):
            assert store.read(home, name).state.terminal
        (home.cancel_requests / name).unlink()
    spool.remove_holder(home, NEXT_RUNNER)
    home.runner(NEXT_RUNNER).unlink()


def serve_until_done(world: World, runner_id: str) -> int:
    """Be a runner until nothing is left to do; returns its exit code."""
    settings = RunnerSettings(slots=1, linger=0.2, heartbeat=300.0)
    return Runner(world.home, settings, runner_id).run()


def serve_again(world: World) -> None:
    """Let a real runner bring everything to its end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setsid()
            code = serve_until_done(world, NEXT_RUNNER)
        finally:
            os._exit(code)
    assert tracing.wait(pid) == 0


def note_lost(world: World, seen: Sightings) -> None:
    """Let a runner have seen long ago the last heartbeats of those of other hosts, and claims without a runner."""
    for info in runners.all_runners(world.home):
        seen.is_alive(info, now=-1000.0)
    for holder in spool.holders(world.home):
        seen.is_old_holder(world.home, holder, now=-1000.0)


def _run_claimed(home: Home, name: str) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setsid()
            code = ephemeral.run_job(home, name, NEXT_RUNNER, RULES)
        finally:
            os._exit(code)
    tracing.wait(pid)
    if (home.claims(NEXT_RUNNER) / name).exists():
        supervise.kill_remnants(home, name, pid)
        repair.resolve(home, name, "its ephemeral runner ended", by="test", holder=NEXT_RUNNER)


# --- What must be true ---


def check(world: World) -> None:
    """Raise `AssertionError` with everything that is wrong."""
    wrong = list(find_wrong(world))
    assert not wrong, "; ".join(wrong)


def find_wrong(world: World) -> Iterator[str]:
    """What is wrong with a home in which everything should have come to its end."""
    home = world.home
    ran = Counter(world.bodies())
    for name in store.names(home):
        yield from _wrong_with_job(home, name, ran[name])
    yield from _wrong_with_spool(home)
    for path in home.root.rglob("*"):
        if temporaries.is_temporary(path.name) or path.name.endswith(".reason"):
            yield f"left over: {path.relative_to(home.root)}"
        if path.suffix == ".json" and path.is_file():
            yield from _wrong_with_json(path)
    for path in home.runners.glob("*.json"):
        yield f"left over: {path.relative_to(home.root)}"


def _wrong_with_spool(home: Home) -> Iterator[str]:
    for queue in spool.queues(home):
        for marker in spool.waiting(home, queue):
            yield f"a marker of {marker.job} is left"
    for holder in spool.holders(home):
        yield f"claims of {holder} are left: {spool.claimed(home, holder)}"
    for name in spool.cancel_requests(home):
        yield f"a request to cancel {name} is left"
    for name in spool.finished(home):
        if not home.job(name).root.is_dir():
            yield f"the end of {name}, which is gone, is announced"


def _wrong_with_json(path: Path) -> Iterator[str]:
    try:
        json.loads(path.read_bytes())
    except ValueError as error:
        yield f"{path.name} is not JSON: {error}"


def _wrong_with_job(home: Home, name: str, runs: int) -> Iterator[str]:
    job = store.read(home, name)
    if not job.state.terminal:
        yield f"{name} is stuck: {job.state}"
        return
    if job.exit is None or not job.exit.reason:
        yield f"{name} does not say why it is {job.state}"
    if home.job(name).workload.exists():
        yield f"the workload of {name} is left"
    if job.notify and not (home.finished / name).exists():
        yield f"the end of {name} was not announced"
    if name in ends.awaited(home):
        yield f"who waits for {name} was not told of its end"
    listener = ends.listener_directory(home, "job", name, "x")
    if listener.is_dir() and ends.End(name, job.attempt) not in ends.pending(listener):
        yield f"the listener to {name} was not told of its end"
    if runs > job.attempt or (runs == 0 and job.state is JobState.COMPLETED):
        yield f"{name} is {job.state} in attempt {job.attempt}, and its body ran {runs} times"
    yield from _wrong_with_result(home, job)
    yield from _wrong_with_events(home, job)


def _wrong_with_result(home: Home, job: model.Job) -> Iterator[str]:
    """What a completed task wrote is in the result; one that only says that it ran has written nothing."""
    tasks = store.read_tasks(home, job.name)
    result = results.read(home, job, tasks)
    wrote = {task.id for task in tasks if home.job(job.name).output(task.id).exists()}
    completed = {task.id for task in tasks if task.status is model.TaskStatus.COMPLETED}
    if result != {name: name for name in wrote & completed}:
        yield f"the result of {job.name} is {result}, and its tasks wrote {sorted(wrote & completed)}"


def _wrong_with_events(home: Home, job: model.Job) -> Iterator[str]:
    events = list(journal.read(home.job(job.name).events))
    changes = [(event["from"], event["to"]) for event in events if event["event"] == "job"]
    if not changes or job.state not in changes[-1]:
        yield f"the events of {job.name} end with {changes[-1:]}, and it is {job.state}"
    for before, after in pairwise(changes):
        if after[0] not in before:  # a change may be noted and not done, never done and not noted
            yield f"the events of {job.name} go from {before} to {after}"
    tasks = {task.id: task for task in store.read_tasks(home, job.name)}
    replayed = {task.id: task for task in store.read_tasks(home, job.name)}
    journal.replay(replayed.values(), events, job.attempt)
    for task_id, task in tasks.items():
        if not task.status.terminal or task.status is not replayed[task_id].status:
            yield f"the task {task_id} of {job.name} is {task.status}, by its events {replayed[task_id].status}"
