"""The store as a state machine: whatever is done in whatever order, files and a simple model of them agree."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from air_executor import client, held, model, processes, repair, runners, spool, store
from air_executor.errors import JobBusyError, JobExistsError
from air_executor.model import ExitKind, JobState
from air_executor.paths import Home
from tests.unit.test_repair import GONE

HOLDER = "machine"


class StoreMachine(RuleBasedStateMachine):
    """Jobs are submitted, claimed, started, finished, cancelled, retried, damaged, lost, repaired and pruned."""

    jobs: Bundle[str] = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.home = Home(self.root / "home")
        self.api = client.AirExecutorClient(self.home.root)
        self.states: dict[str, JobState] = {}
        self.claimed: set[str] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @initialize()
    def a_home_with_a_live_runner(self) -> None:
        store.ensure_home(self.home)
        moment = model.now()
        me = processes.identify(os.getpid(), HOLDER)
        runners.write(self.home, runners.RunnerInfo(HOLDER, me, ["default"], 1, "fork", "0", moment, moment, 3.0))
        self.home.claims(HOLDER).mkdir()

    @rule(
        target=jobs,
        names=st.lists(st.sampled_from([f"j{n}" for n in range(12)]), min_size=1, max_size=5, unique=True),
        priority=st.integers(-2, 2),
    )
    def submit(self, names: list[str], priority: int) -> object:
        batch = [store.Submission(model.Job(name, priority=priority), [model.Task("true")]) for name in names]
        refused = store.submit_batch(self.home, batch)
        assert refused.keys() == {name for name in names if name in self.states}
        assert all(isinstance(error, JobExistsError) for error in refused.values())
        accepted = [name for name in names if name not in refused]
        self.states |= dict.fromkeys(accepted, JobState.WAITING)
        return multiple(*accepted)

    @rule()
    def claim_and_start(self) -> None:
        """As a runner does: the first of the queue."""
        markers = sorted(spool.waiting(self.home, "default"))
        if markers and spool.claim(self.home, markers[0], HOLDER):
            name = markers[0].job
            with held.HeldJob.acquire(self.home, name) as job:
                job.start(processes.identify(1, HOLDER), by=HOLDER)
            self.states[name] = JobState.WORKING
            self.claimed.add(name)

    @rule(name=jobs, state=st.sampled_from([JobState.COMPLETED, JobState.FAILED]))
    def finish(self, name: str, state: JobState) -> None:
        if self.states.get(name) is JobState.WORKING:
            with held.HeldJob.acquire(self.home, name) as job:
                job.finish(state, model.Exit(ExitKind.SUCCESS, "over"), by=HOLDER)
            self.states[name] = state
            self.claimed.discard(name)

    @rule(name=jobs)
    def lose(self, name: str) -> None:
        """Its ephemeral runner dies before a task started."""
        if self.states.get(name) is JobState.WORKING:
            crashes = store.read(self.home, name).crashes
            cancelled = self.home.job(name).cancel.exists()
            repair.resolve(self.home, name, "lost", by=HOLDER, holder=HOLDER)
            failed = crashes + 1 >= repair.CRASH_LIMIT
            self.states[name] = JobState.CANCELLED if cancelled else JobState.FAILED if failed else JobState.WAITING
            self.claimed.discard(name)

    @rule(name=jobs)
    def cancel(self, name: str) -> None:
        if name in self.states:
            before = self.states[name]
            self.api.cancel(name, by="machine")
            if before is JobState.WAITING:
                self.states[name] = JobState.CANCELLED

    @rule(name=jobs)
    def retry(self, name: str) -> None:
        if name not in self.states:
            return
        try:
            self.api.retry(name)
        except JobBusyError:
            assert not self.states[name].terminal
        else:
            assert self.states[name].terminal
            self.states[name] = JobState.WAITING

    @rule()
    def delete_the_spool_and_repair(self) -> None:
        shutil.rmtree(self.home.spool)
        for name in self.claimed:  # their process is 1, which lives: as long as it does, nobody touches them
            assert processes.is_alive(store.read(self.home, name).runner or GONE)
        list(repair.repair(self.home))
        self.home.claims(HOLDER).mkdir()
        for name in self.claimed:
            (self.home.claims(HOLDER) / name).touch()

    @rule(name=jobs)
    def damage(self, name: str) -> None:
        if self.states.get(name, JobState.WORKING) is not JobState.WORKING:
            self.home.job(name).state.write_text('{"name":')
            list(repair.repair(self.home))
            self.states[name] = JobState.FAILED

    @rule(name=consumes(jobs))
    def prune(self, name: str) -> None:
        for announced in spool.finished(self.home):  # of those that were damaged: nobody knows who waits for them
            spool.collect_finished(self.home, announced)
        removed = self.api.prune(older_than=-1)
        assert set(removed) == {name for name, state in self.states.items() if state.terminal}
        for gone in removed:
            del self.states[gone]

    @invariant()
    def files_agree_with_the_model(self) -> None:
        if not self.home.root.exists():
            return
        assert {name: store.read(self.home, name).state for name in store.names(self.home)} == self.states
        assert set(spool.claimed(self.home, HOLDER)) == self.claimed

    @invariant()
    def every_waiting_job_has_exactly_one_marker_in_order(self) -> None:
        markers = sorted(spool.waiting(self.home, "default"))
        waiting = {name for name, state in self.states.items() if state is JobState.WAITING}
        assert {marker.job for marker in markers} >= waiting
        assert len({marker.job for marker in markers}) == len(markers)
        live = [store.read(self.home, marker.job) for marker in markers if marker.job in waiting]
        assert live == sorted(live, key=lambda job: (-job.priority, job.queued_at))


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
