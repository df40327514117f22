"""What is done to a home, one system call at a time: how it begins, what is traced, and what must have come of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from air_executor import audit, cli, held, model, orders, pauses, processes, runners, spool, store
from air_executor.errors import AirExecutorError
from air_executor.model import JobState, TaskStatus
from air_executor.sightings import Sightings
from air_runner import ephemeral, recovery
from tests.faults import body, world
from tests.faults.tracing import Ended
from tests.faults.world import RULES, World, gone_process, note_lost, serve_again, serve_until_done

Program = Callable[[], int | None]


@dataclass(frozen=True)
class Operation:
    """One thing that somebody does."""

    name: str
    prepare: Callable[[World], None]
    act: Callable[[World], int | None]
    """Runs in the traced process; returns its exit code."""
    expect: Callable[[World, Ended], None]
    """Raises `AssertionError` if not the right thing came of it, after the recovery."""
    finishing: bool = False
    """Whether its calls after the body are counted as `finish`."""
    for_people: bool = True
    """Whether it is a command, which says in one line what it could not do."""
    recover: Callable[[World], None] = world.recover
    """What is done after the fault."""


def nothing(_world: World) -> None:
    """The home is not even there."""


def state_of(world: World, name: str) -> JobState | None:
    return store.read(world.home, name).state if world.home.job(name).root.exists() else None


def command(*words: str) -> Callable[[World], int]:
    return lambda world: cli.main(["--home", str(world.home.root), *words])


def program(act: Callable[[World], None]) -> Callable[[World], int]:
    """As a program that uses the library says what it is told."""

    def run(world: World) -> int:
        try:
            act(world)
        except (AirExecutorError, OSError) as error:
            os.write(2, f"air-executor: {error}\n".encode())
            return 1
        return 0

    return run


# --- submit ---


def submit_command(world: World) -> int:
    task = world.task()
    return cli.main(["--home", str(world.home.root), "submit", "--name", "a", "--", *task.argv])


def expect_submitted(*names: str) -> Callable[[World, Ended], None]:
    """What was said to be submitted has run; if nothing was said, each job is there as a whole or not at all."""

    def expect(world: World, ended: Ended) -> None:
        states = [state_of(world, name) for name in names]
        if ended.code == 0:
            assert set(states) == {JobState.COMPLETED}, states
        elif ended.code is None:
            assert set(states) <= {JobState.COMPLETED, None}, states
        else:
            said = ended.output.split()
            assert {name for name, state in zip(names, states, strict=True) if state} == set(said), (states, said)

    return expect


def submit_batch(count: int) -> Callable[[World], int]:
    """Says which jobs were taken, on standard output."""

    def act(world: World) -> None:
        store.ensure_home(world.home)
        batch = [world.submission(f"b{n}", workload=True) for n in range(count)]
        refused = store.submit_batch(world.home, batch)
        taken = [each.job.name for each in batch if each.job.name not in refused]
        os.write(1, " ".join(taken).encode())
        for error in refused.values():
            raise error

    return program(act)


# --- run ---


def claimed(*tasks: str, inline: bool = False) -> Callable[[World], None]:
    """One job, claimed by a runner that dies just after it launched the job."""

    def prepare(world: World) -> None:
        store.ensure_home(world.home)
        world.write_runner("dead", gone_process())
        made = [world.task(name, dependencies=list(tasks[:i])) for i, name in enumerate(tasks)]
        world.submit("a", *([world.inline_task()] if inline else made[:1] + [_quiet(task) for task in made[1:]]))
        world.claim("a", "dead")
        world.await_end("a")

    return prepare


def _quiet(task: model.Task) -> model.Task:
    task.command, task.args = "true", []
    return task


def run_as_process(world: World) -> int:
    return ephemeral.run_job(world.home, "a", "dead", RULES)


def run_inline(world: World) -> int:
    return ephemeral.run_job(world.home, "a", "dead", RULES, module=body.__name__)


def expect_true_result(world: World, ended: Ended) -> None:
    """Failed only where the ephemeral runner died after a task had started, or where a task could not be started."""
    job = store.read(world.home, "a")
    if job.state is JobState.FAILED:
        assert job.exit is not None
        if ephemeral.kind_of(ended.code) is not None:
            assert job.exit.kind is model.ExitKind.START_FAILED and str(world.home.root) in job.exit.reason, job.exit
        else:
            assert "gone" in job.exit.reason, job.exit
    else:
        assert job.state is JobState.COMPLETED and world.bodies() == ["a"]


# --- serve ---


def serve(world: World) -> int:
    """A whole runner, of whose threads the main one is traced: it starts, claims and launches both jobs, and ends."""
    return serve_until_done(world, "first")


def two_waiting(world: World) -> None:
    store.ensure_home(world.home)
    for name in ("a", "b"):
        world.submit(name)


def expect_both(world: World, _ended: Ended) -> None:
    """What a runner launched goes on without it."""
    assert {name: state_of(world, name) for name in ("a", "b")} == dict.fromkeys(("a", "b"), JobState.COMPLETED)
    assert sorted(world.bodies()) == ["a", "b"]


# --- collect ---


def finished(world: World) -> None:
    store.ensure_home(world.home)
    world.submit("a", notify=True)
    make_over(world, "a", JobState.COMPLETED)


def make_over(world: World, name: str, state: JobState) -> None:
    """Bring a waiting job to an end as if it had run."""
    world.claim(name, "over")
    with held.HeldJob.acquire(world.home, name) as job:
        job.start(gone_process(), by="runner over")
        for task in job.tasks:
            job.set_task(task, TaskStatus.RUNNING)
            job.set_task(task, TaskStatus.COMPLETED if state is JobState.COMPLETED else TaskStatus.FAILED)
        with world.record.open("a") as record:
            record.write(f"{name}\n")
        good = state is JobState.COMPLETED
        outcome = model.Exit(model.ExitKind.SUCCESS if good else model.ExitKind.EXIT_CODE, state.value)
        job.finish(state, outcome, by="runner over")
    spool.drop_claim(world.home, "over", name)
    spool.remove_holder(world.home, "over")


def collect(world: World) -> int:
    """As the executor does: read, report, and only then take the answer away."""
    for name in spool.finished(world.home):
        os.write(1, f"{name} {store.read(world.home, name).state}\n".encode())
        spool.collect_finished(world.home, name)
    return 0


def expect_answer(world: World, ended: Ended) -> None:
    """The answer was given, or is there for the next who asks."""
    there = (world.home.finished / "a").exists()
    assert there or "a completed" in ended.output
    assert state_of(world, "a") is JobState.COMPLETED
    (world.home.finished / "a").touch()  # for those who check that every end was announced


# --- cancel ---


def waiting(world: World) -> None:
    store.ensure_home(world.home)
    world.submit("a")
    world.await_end("a")


def without_marker(world: World) -> None:
    waiting(world)
    spool.marker_of(store.read(world.home, "a")).path(world.home).unlink()


def expect_cancelled(world: World, ended: Ended) -> None:
    """Whoever was told so can count on it; else it may also have run."""
    state = state_of(world, "a")
    if ended.code == 0:
        assert state is JobState.CANCELLED and world.bodies() == []
    assert (state, world.bodies()) in ((JobState.CANCELLED, []), (JobState.COMPLETED, ["a"])), state


# --- retry ---


def failed(world: World) -> None:
    store.ensure_home(world.home)
    world.submit("a", workload=True)
    make_over(world, "a", JobState.FAILED)


def resubmit(world: World) -> None:
    world.client.resubmit("a", world.submission("a", workload=True))


def ensure(world: World) -> None:
    world.client.ensure(world.submission("a", workload=True))


def expect_second_attempt(world: World, ended: Ended) -> None:
    job = store.read(world.home, "a")
    if ended.code == 0:
        assert job.attempt == 2
    if job.attempt == 2:
        assert (job.state, world.bodies()) == (JobState.COMPLETED, ["a", "a"])
    else:
        assert (job.state, job.attempt, world.bodies()) == (JobState.FAILED, 1, ["a"])
        (world.home.finished / "a").touch()  # the answer to the first attempt may have been taken away


def expect_ensured(world: World, ended: Ended) -> None:
    """It is there as a whole, or not at all."""
    assert state_of(world, "a") in ((JobState.COMPLETED,) if ended.code == 0 else (JobState.COMPLETED, None))


# --- recover, repair, prune ---


def remains(world: World, process: model.Process | None = None) -> None:
    """Of a runner that was killed with everything it had, in every state a job can be in."""
    process = process or gone_process()
    store.ensure_home(world.home)
    world.write_runner("dead", process)
    for name in ("waiting", "claimed", "working", "started", "cancelled", "finished"):
        world.submit(name, workload=True)
        world.await_end(name)
    for name in ("claimed", "working", "started", "cancelled", "finished"):
        world.claim(name, "dead")
    for name in ("working", "started", "cancelled", "finished"):
        with held.HeldJob.acquire(world.home, name) as job:
            job.start(process, by="runner dead")
            if name != "working":
                job.set_task(job.tasks[0], TaskStatus.RUNNING)
            if name == "finished":
                job.set_task(job.tasks[0], TaskStatus.COMPLETED)
                job.finish(JobState.COMPLETED, model.Exit(model.ExitKind.SUCCESS, "completed"), by="runner dead")
    world.client.cancel("cancelled", by="me")
    (world.home.claims("dead") / "finished").touch()
    with world.record.open("a") as record:
        record.write("started\nfinished\n")


RUNNER = "third"


def remains_elsewhere(world: World) -> None:
    """The same of another host: nobody looks for its processes, of which there is never the same number."""
    remains(world, model.Process("elsewhere", "boot", 1, 1, "dead"))


def recover(world: World) -> int:
    """Of the runner's loop, without what it has of its own."""
    seen = Sightings()
    note_lost(world, seen)
    world.write_runner(RUNNER, processes.identify(os.getpid()))
    list(recovery.recover(world.home, RUNNER, set(), seen))
    return 0


def spoil(world: World) -> None:
    """A home after somebody deleted the spool, with what killed processes leave."""
    remains(world)
    for name in ("waiting", "claimed"):
        for marker in list(spool.waiting(world.home, "default")):
            marker.path(world.home).unlink()
        spool.drop_claim(world.home, "dead", name)
    for name in ("working", "started", "cancelled", "finished"):
        spool.drop_claim(world.home, "dead", name)
    done = store.read(world.home, "finished")
    spool.marker_of(done).path(world.home).touch()


def repair_command(world: World) -> int:
    return cli.main(["--home", str(world.home.root), "repair"])


# --- steer ---


def served(world: World) -> None:
    """A runner that obeys nothing, because it is this process."""
    store.ensure_home(world.home)
    world.write_runner("r", processes.identify(os.getpid()))


def steer(world: World) -> int:
    """One after the other."""
    code = cli.main(["--home", str(world.home.root), "queue", "pause", "default"])
    return code or cli.main(["--home", str(world.home.root), "runner", "set", "r", "--slots", "1"])


def expect_steered(world: World, ended: Ended) -> None:
    """What was asked for is there as a whole or not at all; what was done was noted, and it can be done again."""
    paused = pauses.names(world.home)
    noted = [event["what"] for event in audit.latest(world.home, queue="default")]
    asked = [dict(order.changes) for order in orders.take(world.home, "r", runners.read(world.home, "r").process)]
    if ended.code == 0:
        assert (paused, noted, asked) == ({"default"}, ["pause"], [{"slots": 1}])
    assert noted == ["pause"] if paused else not asked
    assert asked in ([], [{"slots": 1}])
    assert pauses.pause(world.home, "default") is not bool(paused) and pauses.resume(world.home, "default")
    assert pauses.names(world.home) == frozenset()
    spool.remove_holder(world.home, "r")
    world.home.runner("r").unlink()


def expect_recovered(world: World, _ended: Ended) -> None:
    states = {name: state_of(world, name) for name in store.names(world.home)}
    assert states == {
        "waiting": JobState.COMPLETED,
        "claimed": JobState.COMPLETED,
        "working": JobState.COMPLETED,
        "started": JobState.FAILED,
        "cancelled": JobState.CANCELLED,
        "finished": JobState.COMPLETED,
    }, states
    assert sorted(world.bodies()) == ["claimed", "finished", "started", "waiting", "working"]


def some_over(world: World) -> None:
    store.ensure_home(world.home)
    for name in ("old1", "old2"):
        world.submit(name, workload=True, notify=False)  # an answer that waits keeps its job
        world.await_end(name)
        make_over(world, name, JobState.COMPLETED)
    world.submit("waits")


def expect_pruned(world: World, ended: Ended) -> None:
    """What is there is whole."""
    left = set(store.names(world.home))
    assert left <= {"old1", "old2", "waits"} and state_of(world, "waits") is JobState.COMPLETED
    if ended.code == 0:
        assert left == {"waits"}


OPERATIONS = [
    Operation("submit", nothing, submit_command, expect_submitted("a")),
    Operation("submit 2", nothing, submit_batch(2), expect_submitted("b0", "b1")),
    Operation("submit 5", nothing, submit_batch(5), expect_submitted(*(f"b{n}" for n in range(5)))),
    Operation("run", claimed("t1", "t2"), run_as_process, expect_true_result, finishing=True, for_people=False),
    Operation("run inline", claimed(inline=True), run_inline, expect_true_result, finishing=True, for_people=False),
    Operation("serve", two_waiting, serve, expect_both, for_people=False, recover=serve_again),
    Operation("collect", finished, collect, expect_answer, for_people=False),
    Operation("cancel", waiting, command("cancel", "a"), expect_cancelled),
    Operation("cancel lost", without_marker, command("cancel", "a"), expect_cancelled),
    Operation("retry", failed, command("retry", "a"), expect_second_attempt),
    Operation("resubmit", failed, program(resubmit), expect_second_attempt),
    Operation("ensure", failed, program(ensure), expect_second_attempt),
    Operation("ensure new", nothing, program(ensure), expect_ensured),
    Operation("recover", remains_elsewhere, recover, expect_recovered, for_people=False),
    Operation("repair", spoil, repair_command, expect_recovered),
    Operation("steer", served, steer, expect_steered),
    Operation("prune", some_over, command("prune", "--older-than", "0s"), expect_pruned),
]
BY_NAME = {operation.name: operation for operation in OPERATIONS}
