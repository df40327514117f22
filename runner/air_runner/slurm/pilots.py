"""The pilots of the queues that a runner serves: started when jobs wait that none has room for, told of, forgotten.

A pilot takes its jobs from the queue itself, by rename, as every runner does. So nothing here hands out jobs, and
pilots go on while nobody sees to them; who runs several runners has several that see to the same pilots.

::

    jobs wait ─> reserved: its record ── sbatch ──> comes ── its runner is there ──> up ── idle, or its time ends ─┐
                     └── refused: forgotten            └── nobody needs it any more: cancelled                     v
                                                                         over: how it ended is kept for a while
"""

from __future__ import annotations

import itertools
import logging
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from air_executor import _files, model, pauses, runners, spool, store
from air_executor.errors import CorruptFileError, NotFoundError
from air_executor.paths import Home
from air_executor.settings import Settings
from air_executor.sightings import Sightings
from air_executor.slurm import condition, pilots, record
from air_executor.slurm.pilots import Record
from air_runner import taskloop
from air_runner.slurm import decisions, scaling, submitting
from air_runner.slurm.commands import AwayError, Row, Slurm, SlurmError
from air_runner.slurm.doom import Doom
from air_runner.slurm.scaling import Backoff, Life
from air_runner.slurm.telling import Teller
from air_runner.trouble import safely

log = logging.getLogger(__name__)

AGENT = "air_runner.slurm.pilot"
KEEP = 600.0
"""Seconds that is known how a pilot ended, and at least until nobody has to say so of a job any more."""
MOST_COUNTED = 10_000
"""Waiting jobs that are counted; more need no more pilots."""
MOST_READ = 200
"""Waiting jobs that are read at a look."""
LONGEST = 1.0
"""Seconds of submissions after which everything else is done once."""
LOCK_WAIT = 1.0


class Pilots:
    """The pilots of a home, as one runner sees to them.

    Args:
        chosen: what config.toml says of queues, and how the runner itself runs its jobs.
        doom: what Slurm is to end.
    """

    def __init__(
        self,
        home: Home,
        runner_id: str,
        chosen: Settings,
        slurm: Slurm,
        teller: Teller,
        doom: Doom,
    ) -> None:
        self._home, self._id, self._chosen = home, runner_id, chosen
        self._slurm, self._teller, self._doom = slurm, teller, doom
        self.unanswered = False
        """Whether a submission of the last look had no answer."""
        self._news = False
        self._room = 0
        """How many jobs the runner may still take to Slurm, each for itself."""
        self._served: tuple[str, ...] = ()
        self._known: dict[str, Record] = {}
        self._since: dict[tuple[str, str | None], float] = {}
        """When each record was first seen, without its number and with it: what Slurm says of before does not count."""
        self._running_since: dict[str, float] = {}
        self._gone: set[str] = set()
        """Pilots whose runner is gone, while Slurm has not said so."""
        self._empty_since: dict[str, float] = {}
        self._backoff: dict[str, Backoff] = {}
        self._failing: dict[str, condition.Failing] = {}
        self._plain: set[spool.Marker] = set()
        """Waiting jobs that ask Slurm for nothing themselves."""
        self._judged: set[str] = set()
        """Pilots of whose end was concluded what is to be concluded."""
        self._seen = Sightings(guess=True)
        self._strays: dict[str, float] = {}

    def serve(self, queues: Sequence[str]) -> None:
        """See to the pilots of these queues from now on."""
        self._served = tuple(queues)

    @property
    def active(self) -> bool:
        """Whether a look is worth while."""
        return bool(self._served) or self.wants_poll

    @property
    def wants_poll(self) -> bool:
        """Whether there is one of which Slurm has to be asked."""
        return any(not each.over for each in self._known.values())

    @property
    def shown(self) -> list[condition.Pilot]:
        """Those that Slurm is not done with, for people."""
        return [
            condition.Pilot(
                each.name,
                each.queue,
                each.id,
                each.state or ("PENDING" if each.id else "SUBMITTING"),
                each.node,
                each.reason,
            )
            for each in self._known.values()
            if not each.over
        ]

    @property
    def failing(self) -> list[condition.Failing]:
        """The queues that are served and whose pilots come to nothing, for people."""
        return [each for queue, each in self._failing.items() if queue in self._served]

    # --- By the clock ---

    def take_news(self) -> bool:
        """Whether something has happened since this was asked last, so that Slurm may soon know more."""
        news, self._news = self._news, False
        return news

    def look(self, *, away: bool = False, room: int = 0) -> None:
        """See who is there, and whether more or fewer are needed.

        Args:
            away: whether Slurm gave no answer when it was last given something.
            room: how many jobs the runner may still take to Slurm, each for itself.
        """
        self.unanswered, self._room = away, room
        if not self.active:
            return
        self._read()
        for each in [each for each in self._known.values() if not each.over]:
            safely(f"the pilot {each.name}", self._look_at, each)
        self._judge_ends()
        paused = pauses.names(self._home)
        for queue in self._served:
            safely(f"the pilots of {queue}", self._provide, queue, queue in paused)
        safely("pilots that ended", self._drop_old)

    def _read(self) -> None:
        moment = time.monotonic()
        self._known = {each.name: each for each in pilots.read_all(self._home)}
        seen = {(each.name, each.id) for each in self._known.values()}
        self._since = {key: self._since.get(key, moment) for key in seen}
        living = {each.name for each in self._known.values() if not each.over}
        self._running_since = {name: since for name, since in self._running_since.items() if name in living}
        self._gone &= living

    def _look_at(self, known: Record) -> None:
        """Is its runner there, and has it jobs?"""
        info = self._runner(known.name)
        if info is not None:
            has_run = known.has_run or bool(spool.claimed(self._home, known.name))
            if has_run:
                self._forgive(known.queue)
            self._note(replace(known, came_up=True, has_run=has_run))
        elif known.came_up and known.name not in self._gone:
            self._gone.add(known.name)
            self._note(replace(known, has_run=known.has_run or bool(spool.claimed(self._home, known.name))))
            self._news = True
        elif not known.came_up and known.state == "RUNNING":
            self._look_at_late(known)

    def _runner(self, name: str) -> runners.RunnerInfo | None:
        try:
            info = runners.read(self._home, name)
        except (NotFoundError, CorruptFileError):
            return None
        return info if self._seen.is_alive(info) else None

    def _look_at_late(self, known: Record) -> None:
        moment = time.monotonic()
        since = self._running_since.setdefault(known.name, moment)
        if moment - since >= scaling.COME_UP_SECONDS and known.why is None and known.id is not None:
            self._note(replace(known, why=f"its runner was not there after {scaling.COME_UP_SECONDS:.0f} s"))
            self._doom.add(known.id, self._submission(known))

    def _note(self, said: Record) -> None:
        if said != self._known.get(said.name):
            self._known[said.name] = said
            self._since.setdefault((said.name, said.id), time.monotonic())
            pilots.write(self._home, said, durable=False)

    def _drop_old(self) -> None:
        for each in [each for each in self._known.values() if each.over]:
            path = self._home.slurm_pilot(each.name)
            old = time.time() - path.stat().st_mtime > KEEP
            if old and not spool.claimed(self._home, each.name):
                self._known.pop(each.name)
                pilots.remove(self._home, each.name)

    # --- More, or fewer ---

    def _provide(self, queue: str, paused: bool) -> None:
        waiting = 0 if paused else self._count(queue)
        moment = time.monotonic()
        if waiting:
            self._empty_since.pop(queue, None)
            self._start(queue, waiting, moment)
        elif moment - self._empty_since.setdefault(queue, moment) >= self._chosen.queue(queue).pilot_idle:
            self._cancel_coming(queue)

    def _count(self, queue: str) -> int:
        """How many jobs wait for pilots. Those that ask Slurm for something themselves are taken: each goes alone."""
        markers = set(itertools.islice(spool.waiting(self._home, queue), MOST_COUNTED))
        self._plain = {marker for marker in self._plain if marker.queue != queue or marker in markers}
        single = sum(self._is_single(marker) for marker in list(markers - self._plain)[:MOST_READ])
        return len(markers) - single

    def _is_single(self, marker: spool.Marker) -> bool:
        """Whether a job needs no pilot. The daemon finds its claim, and sees to it as to all that go to Slurm."""
        try:
            job = store.read(self._home, marker.job)
        except (NotFoundError, CorruptFileError, ValueError):
            return False  # whoever claims it says so
        if job.slurm is None:
            self._plain.add(marker)
            return False
        if self._room > 0 and spool.claim(self._home, marker, self._id):
            self._room -= 1
        return True

    def _start(self, queue: str, waiting: int, moment: float) -> None:
        backoff = self._backoff.get(queue, Backoff())
        deadline = moment + LONGEST
        while not self.unanswered and backoff.not_before <= moment < deadline:
            reserved = self._reserve(queue, waiting, failing=bool(backoff.failures))
            if reserved is None or not self._submit(reserved):
                return
            moment = time.monotonic()

    def _reserve(self, queue: str, waiting: int, *, failing: bool) -> Record | None:
        """The record of one pilot more, if one is needed. Of several runners one decides at a time."""
        _files.make_directory(self._home.slurm_pilots)
        lock = _files.Lock(self._home.slurm_pilots_lock)
        if not lock.acquire(wait=LOCK_WAIT):
            return None
        try:
            self._read()
            table = self._chosen.queue(queue)
            slots = table.slots_of_pilot
            lives = [self._life(each) for each in self._known.values() if each.queue == queue and not each.over]
            if not scaling.how_many(waiting, lives, slots=slots, limit=table.pilots, failing=failing):
                return None
            made = Record(pilots.new_name(queue), queue, slots, model.now())
            pilots.write(self._home, made, durable=True)
        finally:
            lock.release()
        self._known[made.name] = made
        self._since[made.name, None] = time.monotonic()
        return made

    def _life(self, known: Record) -> Life:
        info = self._runner(known.name)
        if info is None:
            return Life(known.slots, gone=known.came_up or known.why is not None)
        working = len(spool.claimed(self._home, known.name))
        return Life(info.slots, up=True, draining=info.draining, working=working)

    def _submit(self, reserved: Record) -> bool:
        """Whether Slurm has it, for all that is known."""
        table, grace = self._chosen.queue(reserved.queue), self._chosen.runner.grace
        output = str(self._home.slurm_pilot_log(reserved.name))
        flags = scaling.flags(
            self._submission(reserved), output, table.slurm, scaling.lead(table.slurm.get("time"), grace)
        )
        try:
            number = self._slurm.submit(flags, scaling.script(table.setup, self._argv(reserved)))
        except AwayError as error:
            self._teller.trouble(error)  # Slurm may have it: the next answer tells
            self.unanswered = self._news = True
            return False
        except SlurmError as error:
            self._known.pop(reserved.name)
            pilots.remove(self._home, reserved.name)
            self._failed(reserved, f"Slurm does not take it: {error}", refused=True)
            return False
        self._teller.answered()
        self._note(replace(reserved, id=number))
        if (last := self._failing.get(reserved.queue)) is not None and last.refused:
            self._failing.pop(reserved.queue)  # what it said then does not hold any more
        log.info("started the pilot %s for %s (the Slurm job %s)", reserved.name, reserved.queue, number)
        self._news = True
        return True

    def _submission(self, known: Record) -> str:
        return pilots.name_submission(known.name, record.home_id(self._home))

    def _argv(self, reserved: Record) -> list[str]:
        """The command line of the runner on the node: all that it needs to know, whatever config.toml says then."""
        table, own = self._chosen.queue(reserved.queue), self._chosen.runner
        argv = [table.python or sys.executable, "-m", AGENT, "--home", str(self._home.root), "--name", reserved.name]
        argv += ["--queue", reserved.queue, "--slots", str(reserved.slots), "--idle", str(table.pilot_idle)]
        argv += ["--launcher", own.launcher, "--heartbeat", str(own.heartbeat)]
        argv += [word for module in own.preload for word in ("--preload", module)]
        return [*argv, *taskloop.Rules(own.grace, own.output_mb).flags]

    def _failed(self, known: Record, why: str, *, refused: bool = False) -> None:
        before = self._backoff.get(known.queue, Backoff())
        after = self._backoff[known.queue] = before.failed(time.monotonic())
        if after is not before:
            last = self._failing.get(known.queue)
            since = last.since if last is not None else model.now()
            self._failing[known.queue] = condition.Failing(known.queue, after.failures, why, since, refused)
            pause = decisions.pause(after.failures)
            self._teller.refused(known.name, known.queue, f"{why}; the next one in {pause:.0f} s at the earliest")

    def _forgive(self, queue: str) -> None:
        """A pilot of it has come to something."""
        self._backoff.pop(queue, None)
        self._failing.pop(queue, None)

    def _cancel_coming(self, queue: str) -> None:
        for each in self._known.values():
            if each.queue == queue and not each.over and each.state == "PENDING" and each.id and not each.unwanted:
                log.info("cancelling the pilot %s: nothing waits in %s any more", each.name, queue)
                self._note(replace(each, unwanted=True))
                self._doom.add(each.id, self._submission(each))

    # --- What Slurm says ---

    def heard(self, rows: Sequence[Row], asked_at: float) -> None:
        """Take up what it says of pilots."""
        home = record.home_id(self._home)
        by_name: dict[str, list[Row]] = {}
        for row in rows:
            if (name := pilots.parse_submission(row.name, home)) is not None:
                by_name.setdefault(name, []).append(row)
        before = dict(self._known)
        for known in before.values():
            safely(f"the pilot {known.name}", self._hear, known, by_name.get(known.name, ()), asked_at)
        self._judge_ends()
        self._find_strays(by_name)
        self._news |= before != self._known

    def _hear(self, known: Record, rows: Collection[Row], asked_at: float) -> None:
        row = scaling.find(known, rows)
        if row is not None:
            said = scaling.told(known, row, model.now())
            self._note(self._at_its_end(said) if said.over and not known.over else said)
        elif known.over or self._since.get((known.name, known.id), asked_at) >= asked_at:
            return
        elif known.id is not None:
            gone = replace(known, state=decisions.VANISHED.name, ended_at=model.now())
            self._note(self._at_its_end(replace(gone, why=known.why or decisions.VANISHED.says)))
        elif asked_at - self._since[known.name, None] > self._chosen.slurm.timeout + self._chosen.slurm.patience:
            self._known.pop(known.name)  # whoever submitted it had no answer, and Slurm does not have it
            pilots.remove(self._home, known.name)

    def _at_its_end(self, said: Record) -> Record:
        said = replace(said, came_up=said.came_up or pilots.came_up(self._home, said.name))
        words = submitting.last_line(self._home.slurm_pilot_log(said.name)) if scaling.has_failed(said) else ""
        return replace(said, why=f"{said.why}; its last words on the node: {words}") if words else said

    def _judge_ends(self) -> None:
        """What follows from an end, whoever heard of it first."""
        over = {each.name: each for each in self._known.values() if each.over}
        self._judged &= set(over)
        for each in sorted(over.values(), key=lambda each: each.ended_at or ""):
            if each.name not in self._judged:
                self._judged.add(each.name)
                self._judge(each)

    def _judge(self, known: Record) -> None:
        log.info("the pilot %s (%s) is over: %s", known.name, known.where, known.why)
        if scaling.has_failed(known):
            self._failed(known, f"a pilot ended without having run a job ({known.where}): {known.why}")
        elif not known.unwanted:
            self._forgive(known.queue)

    def _find_strays(self, by_name: Mapping[str, Collection[Row]]) -> None:
        """Submitted twice, or of a home whose files were deleted: a runner that nobody knows of."""
        now, seen = time.monotonic(), {}
        for row in self._strangers(by_name):
            seen[row.id] = self._strays.get(row.id, now)
            if now - seen[row.id] >= self._chosen.slurm.patience:  # another host may just have written whose it is
                self._doom.add(row.id, row.name)
        self._strays = seen

    def _strangers(self, by_name: Mapping[str, Collection[Row]]) -> Iterator[Row]:
        for name, rows in by_name.items():
            known = self._known.get(name)
            for row in rows:
                if not row.state.over and (known is None or known.id not in (None, row.id)):
                    yield row
