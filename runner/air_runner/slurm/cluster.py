"""The jobs that a runner has in Slurm: submitted, asked for, cancelled, brought to rest.

A job is here from its claim to its end. Whatever happens is found again by the next holder of the claim: the submission
is in `slurm.json` before `sbatch` is called, the end in the job's own files before Slurm knows it.

::

    take ─> to submit ── sbatch ──> there ── squeue: over ──> its files say the end ───────────> forgotten
              ^  ^                    ^                         they do not, and nobody holds it ─┐
              │  └── not there ── unsure (no answer; squeue tells)                                │
              └────────────────────── it had not begun: again, after a while <────────────────────┤
                                                     it had: failed, for the reason that Slurm says
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from air_executor import _files, held, model, repair, respool, spool, store, temporaries
from air_executor.errors import AirExecutorError, CorruptFileError, InvalidJobError, NotFoundError
from air_executor.paths import Home
from air_executor.settings import Settings
from air_executor.slurm import record, states
from air_runner import taskloop
from air_runner.slurm import decisions, submitting
from air_runner.slurm.commands import AwayError, BusyError, MissingError, Row, Slurm, SlurmError
from air_runner.slurm.decisions import Stage, Tracked
from air_runner.slurm.doom import Doom
from air_runner.slurm.pilots import Pilots
from air_runner.slurm.telling import Teller
from air_runner.trouble import safely

log = logging.getLogger(__name__)

LOOK_INTERVAL = 2.0
"""Seconds between two looks at the claims: of a job that is over, its ephemeral runner has dropped it."""
LONGEST = 1.0
"""Seconds of submissions after which everything else is done once."""


class Cluster:
    """What a runner does with Slurm.

    Args:
        chosen: what config.toml says of Slurm and of queues.
        left: called with each job that is not here any more.
    """

    def __init__(
        self,
        home: Home,
        runner_id: str,
        chosen: Settings,
        rules: taskloop.Rules,
        left: Callable[[str], object],
        slurm: Slurm | None = None,
    ) -> None:
        self._home, self._id, self._by = home, runner_id, f"runner {runner_id}"
        self._chosen, self._rules, self._left = chosen, rules, left
        self._slurm = slurm or Slurm(chosen.slurm.timeout)
        self._teller = Teller(home, runner_id, self._slurm)
        self._jobs: dict[str, Tracked] = {}
        self._interval = decisions.FIRST_POLL
        self._next_poll = self._next_look = 0.0
        self._doom = Doom(home, chosen.slurm.patience)
        self._away = False
        """Whether the last submission had no answer, and nothing was heard since."""
        self._pilots = Pilots(home, runner_id, chosen, self._slurm, self._teller, self._doom)

    def step(self) -> None:
        """Do all that is due now."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_INTERVAL
            safely("the claims", self._look_at_claims)
            safely("the pilots", self._look_at_pilots)
        safely("the cancellations", self._cancel_doomed, now)
        safely("the submissions", self._submit_due, now)
        if now >= self._next_poll and self._has_to_poll():
            safely("the jobs in Slurm", self._poll)
        for tracked in [each for each in self._jobs.values() if each.over is not None]:
            safely(f"the end of {tracked.job.name}", self._end, tracked)
        self._tell_people()

    def _tell_people(self) -> None:
        """Also before what may hang: what is at hand is to be told meanwhile."""
        told = (list(self._jobs.values()), self._pilots.shown, self._pilots.failing)
        safely("what people are told", self._teller.write, *told)

    def seconds_left(self) -> float | None:
        """Until something is due; None if nothing is."""
        if not self._jobs and not self._has_to_poll() and not self._pilots.active:
            return None
        moments = [self._next_look]
        moments += [self._next_poll] if self._has_to_poll() else []
        moments += [each.not_before for each in self._to_submit()]
        return max(0.0, min(moments) - time.monotonic())

    def _has_to_poll(self) -> bool:
        open_ = self._away or self._doom.is_open or self._pilots.wants_poll
        return open_ or any(each.record is not None for each in self._jobs.values())

    def _poll_soon(self) -> None:
        self._interval = decisions.FIRST_POLL
        self._next_poll = min(self._next_poll, time.monotonic() + decisions.FIRST_POLL)

    def serve(self, queues: str) -> None:
        """See to the pilots of these queues, separated by commas, from now on."""
        self._pilots.serve([queue for queue in queues.split(",") if queue])

    def take(self, name: str) -> None:
        """Have a claimed job from now on, submitted already or not.

        One that cannot be read, or that is not to be submitted any more, is the runner's again: it sees to the claims
        that nobody has.
        """
        try:
            job = store.read(self._home, name)
            submitted = record.read(self._home.job(name), job.attempt)
        except (NotFoundError, CorruptFileError, ValueError, OSError) as error:
            log.warning("cannot take %s: %s", name, error)
            self._forget(name)
            return
        if submitted is None and job.state is not model.JobState.WAITING:
            self._forget(name)
            return
        if decisions.is_same(self._jobs.get(name), job, submitted):
            return  # its claim was lost, and is there again
        asked = self._chosen.slurm_options(job) or {}  # of one that was submitted, config.toml may say otherwise now
        tracked = self._jobs[name] = Tracked(job, submitted, asked, failures=job.crashes + job.losses)
        if submitted is None:
            tracked.not_before = time.monotonic() + decisions.first_pause(tracked)
        self.stop(name)
        self._poll_soon()

    def _forget(self, name: str) -> None:
        self._jobs.pop(name, None)
        self._left(name)

    def _look_at_pilots(self) -> None:
        self._pilots.look(away=self._away, room=self._chosen.slurm.max_jobs - len(self._jobs))
        self._away |= self._pilots.unanswered
        if self._pilots.take_news():
            self._poll_soon()

    def give_back(self) -> None:
        """The runner ends: what Slurm does not have goes back into its queue."""
        self._teller.close()
        for tracked in self._jobs.values():
            if decisions.stage(tracked) is Stage.TO_SUBMIT:
                safely(f"giving back {tracked.job.name}", spool.give_back, self._home, tracked.job, self._id)

    # --- Claims ---

    def _look_at_claims(self) -> None:
        claimed = set(spool.claimed(self._home, self._id))
        for name in [name for name in self._jobs if name not in claimed]:
            safely(f"the claim of {name}", self._claim_gone, name)

    def _claim_gone(self, name: str) -> None:
        """Its ephemeral runner has ended it or put it back; or somebody deleted the spool."""
        try:
            job = store.read(self._home, name)
        except (NotFoundError, CorruptFileError):
            self._forget(name)
            return
        if job.state.terminal or respool.has_place(self._home, job):
            if not self._is_still_wanted(self._jobs[name], job):
                self._end_in_slurm(self._jobs[name], only_pending=True)
            self._forget(name)
        else:
            spool.claim_again(self._home, self._id, name)

    def _is_still_wanted(self, tracked: Tracked, job: model.Job) -> bool:
        """Whether who has the job next goes on with this submission: only its place in the spool is another."""
        wanted = None if job.state.terminal else record.read(self._home.job(job.name), job.attempt)
        return wanted is not None and tracked.record is not None and wanted.submission == tracked.record.submission

    # --- Stopping ---

    def stop(self, name: str) -> None:
        """Somebody has asked for the job's end, in its files.

        What has not begun is over at once, whatever Slurm says; what has, when its processes have seen to it.
        """
        tracked = self._jobs.get(name)
        if tracked is None or not repair.read_stop_request(self._home, name):
            return
        tracked.stopping = True
        self._end_in_slurm(tracked)
        if store.read(self._home, name).state is model.JobState.WAITING:
            self._resolve(name, "cancelled")

    def _end_in_slurm(self, tracked: Tracked, *, only_pending: bool = False) -> None:
        """Let Slurm end it, with the next step.

        Args:
            only_pending: it is over, so one that runs is just writing its last words.
        """
        submitted = tracked.record
        if submitted is None or tracked.over is not None:
            return
        if submitted.id is None:
            self._doom.lost()
        elif not only_pending or submitted.state in (None, "PENDING"):
            self._doom.add(submitted.id, submitted.submission)

    def _cancel_doomed(self, now: float) -> None:
        if due := self._doom.due(now):
            if self._teller.ask(lambda: self._slurm.cancel(due)) is None:
                self._doom.not_told(due)
            self._poll_soon()

    # --- Submitting ---

    def _to_submit(self) -> list[Tracked]:
        """Nothing while Slurm is away: each attempt would take as long as it takes to find that out."""
        if self._away or self._room <= 0:
            return []
        return [each for each in self._jobs.values() if each.record is None and not each.stopping]

    @property
    def _room(self) -> int:
        """How many more may be in Slurm. The daemon knows only of queues for how many it may have claimed."""
        return self._chosen.slurm.max_jobs - sum(each.record is not None for each in self._jobs.values())

    def _submit_due(self, now: float) -> None:
        deadline = time.monotonic() + LONGEST
        batches = decisions.batches(decisions.ready(self._to_submit(), now))
        if batches:
            self._tell_people()
        for batch in batches:
            room = self._room
            if batch[0].not_before <= now + decisions.GATHERING and room > 0 and not self._away:
                self._submit(batch[:room])
            if time.monotonic() >= deadline:  # whoever wants to be stopped must not wait for all of them
                return

    def _submit(self, batch: Sequence[Tracked]) -> None:
        try:
            batch = [tracked for tracked in batch if self._still_waits(tracked)]
            order = submitting.prepare(self._home, self._id, self._rules, batch, self._chosen) if batch else None
        except OSError as error:
            log.error("cannot submit %s: %s", batch[0].job.name, error)
            self._later(batch)
        except InvalidJobError as error:  # of a newer version, or changed by hand
            self._refuse(batch, error)
        else:
            if order is not None:
                self._hand_over(batch, order)

    def _still_waits(self, tracked: Tracked) -> bool:
        """Whether it is still there and waits. One that is not must not keep back the others of its array."""
        try:
            state = store.read(self._home, tracked.job.name).state
        except (NotFoundError, CorruptFileError):
            state = None
        if state is not model.JobState.WAITING:
            self._forget(tracked.job.name)
        return state is model.JobState.WAITING

    def _hand_over(self, batch: Sequence[Tracked], order: submitting.Order) -> None:
        try:
            number: str | None = self._slurm.submit(order.flags, order.script)
            self._teller.answered()
        except BusyError as error:
            self._teller.answered()
            for tracked in batch:
                with contextlib.suppress(OSError):  # for people: it is not there
                    _files.discard(self._home.job(tracked.job.name).slurm)
            self._put_off(decisions.kind(batch[0]), str(error))
            return
        except AwayError as error:
            self._teller.trouble(error)
            self._away = True
            number = None  # Slurm may have it: the next answer tells
        except SlurmError as error:
            self._refuse(batch, error)
            return
        for tracked, submitted in zip(batch, order.records, strict=True):
            self._submitted(tracked, submitted, number)
        self._poll_soon()

    def _refuse(self, batch: Sequence[Tracked], why: Exception) -> None:
        said = str(why) if isinstance(why, MissingError) else f"Slurm does not take it: {why}"
        outcome = model.Exit(model.ExitKind.START_FAILED, said)
        self._later([tracked for tracked in batch if not self._finish(tracked, outcome)])

    def _put_off(self, kind: str, limit: str) -> None:
        """A limit is reached, by which no job that asks for the same gets in; that is no failure of theirs."""
        for each in self._to_submit():
            if decisions.kind(each) == kind:
                each.limit, each.not_before = limit, time.monotonic() + self._chosen.slurm.poll

    def _submitted(self, tracked: Tracked, submitted: record.Record, number: str | None) -> None:
        tracked.record, tracked.asked_at, tracked.limit = submitted, time.monotonic(), None
        if number is not None:
            self._note(tracked, replace(submitted, id=submitting.number_of(number, submitted.element)))

    def _note(self, tracked: Tracked, submitted: record.Record) -> None:
        tracked.record = submitted
        with contextlib.suppress(OSError):  # for people; and one whose number is not noted is found by its name
            record.write(self._home.job(tracked.job.name), submitted, durable=False)

    def _later(self, batch: Iterable[Tracked]) -> None:
        for tracked in batch:
            tracked.record = tracked.over = None
            tracked.failures += 1
            tracked.not_before = time.monotonic() + decisions.pause(tracked.failures)

    # --- What Slurm says ---

    def _poll(self) -> None:
        self._tell_people()
        asked_at = time.monotonic()
        rows = self._teller.ask(self._slurm.jobs)
        news = False
        if rows is not None:
            self._away = False
            news = self._digest(rows, asked_at)
            mine = {each.record.id for each in self._jobs.values() if each.record is not None}
            safely("submissions that no job wants", self._doom.heard, rows, mine, asked_at)
            safely("the pilots", self._pilots.heard, rows, asked_at)
            news |= self._pilots.take_news()
            safely("old job arrays", submitting.drop_arrays, self._home, {row.name for row in rows})
        self._interval = decisions.next_interval(self._interval, self._chosen.slurm.poll, news=news)
        self._next_poll = time.monotonic() + self._interval

    def _digest(self, rows: Sequence[Row], asked_at: float) -> bool:
        """Take up what it says of our jobs; whether there is news."""
        by_name: dict[str, list[Row]] = {}
        for row in rows:
            by_name.setdefault(row.name, []).append(row)
        news, vanished = False, []
        for tracked in self._jobs.values():
            submitted = tracked.record
            if submitted is None or tracked.asked_at >= asked_at or tracked.over not in (None, decisions.VANISHED):
                continue
            found = decisions.find(submitted, by_name.get(submitted.submission, ()))
            if found is not None:
                news |= self._heard(tracked, submitted, found)
            elif submitted.id is None:  # it never came to that
                self._doom.lost()
                self._later([tracked])
            elif tracked.over is None:
                vanished.append(tracked)
        self._ask_for_past(vanished)
        return news or bool(vanished)

    def _heard(self, tracked: Tracked, submitted: record.Record, row: Row) -> bool:
        said = decisions.told(submitted, row, model.now())
        if said is not submitted:
            self._note(tracked, said)
        tracked.over = None  # also of one that Slurm did not know a moment ago
        if row.state.over:
            tracked.over, tracked.over_since = row.state, time.monotonic()
        return said is not submitted

    def _ask_for_past(self, vanished: Sequence[Tracked]) -> None:
        """Slurm forgets what is over after some minutes; accounts do not, where there are any."""
        numbers = {each.job.name: each.record.id or "" for each in vanished if each.record is not None}
        past = self._teller.ask(lambda: self._slurm.past(list(numbers.values()))) if numbers else None
        for tracked in vanished if past is not None else ():
            said = (past or {}).get(numbers[tracked.job.name])
            state = states.parse(said) if said else decisions.VANISHED
            tracked.over, tracked.over_since = state if state.over else decisions.VANISHED, time.monotonic()

    # --- Ends ---

    def _end(self, tracked: Tracked) -> None:
        """The job's own files first, then Slurm's word. A lock that is held is the proof that it goes on."""
        name, over = tracked.job.name, tracked.over
        paths = self._home.job(name)
        temporaries.refresh(paths.root)
        tracked.held_on = _files.is_locked(paths.lock)
        if tracked.held_on or over is None:
            return
        try:
            job = store.read(self._home, name)
        except (NotFoundError, CorruptFileError):
            self._resolve(name, "cannot be read")
            return
        if job.state.terminal:
            self._resolve(name, "")
        elif time.monotonic() - tracked.over_since >= self._chosen.slurm.patience:
            why = submitting.explain(self._home, tracked)
            if job.state is model.JobState.WAITING and over.blame is None:
                self._finish(tracked, decisions.outcome(over, why))
            else:
                self._resolve(name, why, tracked)

    def _resolve(self, name: str, why: str, tracked: Tracked | None = None) -> None:
        """Bring it to rest, or let it start once more after a while.

        Args:
            tracked: of a job that may start once more: what Slurm says of its end.
        """
        over = None if tracked is None else tracked.over
        verdict = repair.resolve(
            self._home,
            name,
            why,
            by=self._by,
            holder=self._id,
            outcome=None if over is None else decisions.outcome(over, why),
            blame=None if over is None else over.blame,
            keep=tracked is not None,
        )
        if verdict is repair.Verdict.LEAVE:
            return
        if verdict is repair.Verdict.QUEUE and tracked is not None:
            tracked.job = store.read(self._home, name)
            self._teller.refused(name, tracked.job.queue, why)
            self._later([tracked])
            return
        if verdict is not repair.Verdict.SETTLE:
            log.warning("%s: %s (%s)", name, why, verdict.value)
        self._forget(name)

    def _finish(self, tracked: Tracked, outcome: model.Exit) -> bool:
        """The end of a job that did not start, and never will; False if it cannot be written now."""
        name = tracked.job.name
        state = model.JobState.CANCELLED if outcome.kind is model.ExitKind.CANCELLED else model.JobState.FAILED
        try:
            with held.HeldJob.acquire(self._home, name) as job:
                if job.job.state is model.JobState.WORKING:
                    return False
                if job.job.state is model.JobState.WAITING:
                    job.finish(state, outcome, by=self._by)
        except (AirExecutorError, OSError) as error:
            log.error("cannot write the end of %s: %s; trying again", name, error)
            return False
        if state is not model.JobState.CANCELLED:
            self._teller.refused(name, tracked.job.queue, outcome.reason)
        spool.drop_claim(self._home, self._id, name)
        self._forget(name)
        return True
