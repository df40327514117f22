"""The process that sends what is in the outbox: one in a home, whoever starts it.

Each webhook has a thread, so that one that is slow keeps no other waiting. It goes through its entries in rounds: of
each job the earliest that was not taken, those that were tried least first. After a failure an entry waits twice as
long as before, up to an hour; after one that says that the receiver is not there, all entries of that webhook wait for
a moment, up to a minute.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from air_executor import _files, backoff, model, settings
from air_executor.errors import CorruptFileError, NotFoundError, SettingsError
from air_executor.paths import Home
from air_executor.watch import Watch
from air_executor.webhooks import events, outbox
from air_executor.webhooks.delivery import Delivery, Outcome, Verdict
from air_executor.webhooks.outbox import Entry
from air_executor.webhooks.tables import WebhookSettings

log = logging.getLogger(__name__)

LOOK_INTERVAL, LOOK_INTERVAL_BLIND = 5.0, 1.0
"""Seconds between two looks although nothing was heard: a job may end on another host. The second where one is deaf."""
FIRST_DELAY, MAX_DELAY, MAX_PAUSE = 1.0, 3600.0, 60.0
SPREAD = 0.2
"""By how much of it a delay is made longer, at random, so that not all that failed together come back together."""
KEEP_DEAD = 30 * 86_400.0
"""Seconds after which an event that was given up is removed."""
TIDY_INTERVAL = 3600.0
LOCK_WAIT = 1.0
"""Seconds to wait for another that ends just now."""


# --- Decisions ---


@dataclass(frozen=True)
class Waiting:
    """What is remembered of an entry between two looks."""

    stem: str
    at: str
    tries: int
    next_at: float
    """Seconds since the epoch."""

    @property
    def job(self) -> str:
        return self.stem.rpartition(",")[0]

    @property
    def attempt(self) -> int:
        return int(self.stem.rpartition(",")[2])


def heads(waiting: Iterable[Waiting]) -> list[Waiting]:
    """What may be sent now or later, in the order in which it should be: of each job the earliest attempt. Pure."""
    first: dict[str, Waiting] = {}
    for each in waiting:
        known = first.get(each.job)
        if known is None or each.attempt < known.attempt:
            first[each.job] = each
    return sorted(first.values(), key=lambda each: (each.tries, each.at, each.stem))


def is_due(each: Waiting, now: float) -> bool:
    """Pure. What is further away than any delay was written before a clock was set back."""
    return each.next_at <= now or each.next_at - now > 2 * MAX_DELAY


def delay(failures: int, most: float = MAX_DELAY) -> float:
    """Seconds to wait after so many failures. Pure."""
    return backoff.pause(failures, FIRST_DELAY, most)


def is_hopeless(entry: Entry, outcome: Outcome, table: WebhookSettings, now: float) -> bool:
    """Whether an event is given up after a try that failed. Pure."""
    age = now - model.parse_time(entry.at).timestamp()
    tired = table.max_attempts > 0 and entry.tries >= table.max_attempts
    return outcome.verdict is Verdict.NEVER or tired or age >= table.give_up_after


# --- One webhook ---


class Outlet:
    """Sends the entries of one webhook."""

    def __init__(self, home: Home, name: str) -> None:
        self._home, self._name = home, name
        self._known: dict[str, Waiting] = {}
        self._inodes: dict[str, int] = {}
        self._damaged: set[str] = set()
        self._table: WebhookSettings | None = None
        self._delivery: Delivery | None = None
        self._failures = 0
        """Of the receiver, one after the other."""
        self._rest_until = 0.0
        """By `time.monotonic`."""

    def use(self, table: WebhookSettings | None) -> None:
        """What config.toml says of it now; None: nothing any more."""
        if self._delivery is None or table != self._table:
            self._table = table
            self._delivery = None if table is None else Delivery(self._home, self._name, table)
            self._failures, self._rest_until = 0, 0.0

    def round(self, ended: threading.Event) -> float | None:
        """Send what is due; returns the seconds until something will be, None if nothing waits.

        Raises:
            OSError: the home refused.
        """
        self._look()
        for each in heads(self._known.values()):
            if ended.is_set() or self._rests:
                break
            if is_due(each, time.time()):
                self._send(each)
        return self._seconds_left()

    @property
    def _rests(self) -> bool:
        return time.monotonic() < self._rest_until

    def _seconds_left(self) -> float | None:
        if not self._known:
            return None
        now = time.time()
        due = min(0.0 if is_due(each, now) else each.next_at - now for each in heads(self._known.values()))
        # What is due and was not sent follows on one that was, or waits because the receiver is not there.
        return max(due, self._rest_until - time.monotonic(), 0.05)

    def _look(self) -> None:
        there, before = outbox.inodes(self._home, self._name), self._inodes
        self._inodes = there
        for stem in self._known.keys() - there.keys():
            del self._known[stem]
        for stem, inode in there.items():
            is_known = stem in self._known and before.get(stem) == inode  # else it is new, or somebody sends it again
            if not is_known and (entry := self._read(stem)) is not None:
                self._remember(entry)
                if entry.is_asked_for:  # who asks for it knows that the receiver is there again
                    self._failures, self._rest_until = 0, 0.0

    def _read(self, stem: str) -> Entry | None:
        try:
            return outbox.read(self._home, self._name, stem)
        except NotFoundError:
            return None
        except CorruptFileError as error:
            if stem not in self._damaged:
                self._damaged.add(stem)
                log.error("an event cannot be sent: %s; mend or remove it", error)
            return None

    def _remember(self, entry: Entry) -> None:
        next_at = model.parse_time(entry.next_at).timestamp() if entry.next_at else 0.0
        self._known[entry.stem] = Waiting(entry.stem, entry.at, entry.tries, next_at)

    def _send(self, each: Waiting) -> None:
        entry = self._read(each.stem)
        if entry is None:
            self._known.pop(each.stem, None)
            return
        if not outbox.is_over(self._home, entry):
            self._known.pop(each.stem, None)  # the next look finds it again
            return
        if (entry := self._read(each.stem)) is None:  # it says how the job ended for sure only now
            self._known.pop(each.stem, None)
            return
        outcome = self._deliver(entry)
        if outcome.verdict is Verdict.TAKEN:
            log.info("%s was taken", entry.id)
            self._failures = 0
            outbox.remove(self._home, entry)
            self._known.pop(each.stem, None)
        else:
            self._failed(entry, outcome)

    def _deliver(self, entry: Entry) -> Outcome:
        if self._delivery is None or self._table is None:
            return Outcome(Verdict.AWAY, f"config.toml has no table [webhooks.{self._name}]")
        job = entry.event.get("job") or {}
        if job and job.get("state") not in self._table.states:
            return Outcome(Verdict.TAKEN)  # since it was written, config.toml has changed its mind
        return self._delivery.deliver(entry.event)

    def _failed(self, entry: Entry, outcome: Outcome) -> None:
        now = time.time()
        entry = replace(entry, tries=entry.tries + 1, tried_at=model.now(), error=outcome.error)
        if is_hopeless(entry, outcome, self._table or WebhookSettings(), now):
            log.error("%s is given up after %d tries: %s", entry.id, entry.tries, outcome.error)
            outbox.give_up(self._home, entry)
            self._known.pop(entry.stem, None)
        else:
            pause = max(delay(entry.tries) * (1 + SPREAD * random.random()), outcome.wait)  # noqa: S311
            entry = replace(entry, next_at=model.from_timestamp(now + pause))
            log.warning("%s not taken (try %d, the next in %.0f s): %s", entry.id, entry.tries, pause, outcome.error)
            outbox.note(self._home, entry)
            self._inodes.pop(entry.stem, None)  # the next look reads it: the number from before may come back
            self._remember(entry)
        if outcome.verdict is Verdict.AWAY:
            self._failures += 1
            self._rest_until = time.monotonic() + max(delay(self._failures, MAX_PAUSE), outcome.wait)


class _Thread:
    """An outlet that goes its rounds."""

    def __init__(self, name: str, outlet: Outlet, ended: threading.Event) -> None:
        self.outlet = outlet
        self._name, self._ended = name, ended
        self._wake = threading.Event()
        self._interval = LOOK_INTERVAL
        self._thread = threading.Thread(target=self._run, name=f"webhook {name}", daemon=True)
        self._thread.start()

    def knock(self, interval: float) -> None:
        """Let it look now, and again after so many seconds at the latest."""
        self._interval = interval
        self._wake.set()

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        self._wake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._ended.is_set():
            left: float | None = self._interval
            try:
                left = self.outlet.round(self._ended)
            except Exception:  # whatever it is, the events are in files, and other webhooks go on
                log.exception("trouble with the webhook %s; going on", self._name)
            self._wake.wait(self._interval if left is None else min(left, self._interval))
            self._wake.clear()


# --- All of them ---


class Sender:
    """Sends what is in the outbox of a home until it is told to end."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._ended = threading.Event()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        """Not an event: a signal that interrupts one's `wait` must not `set` it, as both take the same lock."""
        self._threads: dict[str, _Thread] = {}
        self._said: str | None = None
        self._tidied = float("-inf")

    def end(self) -> None:
        """From a signal handler or another thread: send nothing more."""
        self._ended.set()  # nobody waits for it
        self._wake.put(None)

    def run(self) -> bool:
        """Until `end`; False if another process of this home sends already.

        Raises:
            OSError: the home refused.
        """
        _files.make_lasting_directory(self.home.webhook_outbox)
        lock = _files.Lock(self.home.webhook_sender_lock)
        if not lock.acquire(wait=LOCK_WAIT):
            return False
        watch = Watch([self.home.webhooks], lambda: self._wake.put(None))
        watch.start()
        log.info("sending the events of webhooks")
        try:
            while not self._ended.is_set():
                interval = LOOK_INTERVAL if watch.works else LOOK_INTERVAL_BLIND
                self._look(interval)
                self._rest(watch, interval)
        finally:
            watch.stop()
            for thread in self._threads.values():
                thread.join(LOCK_WAIT)
            lock.release()
        return True

    def _rest(self, watch: Watch, interval: float) -> None:
        """Until there is something to send, or time to look."""
        until = time.monotonic() + interval
        while not self._ended.is_set() and (left := until - time.monotonic()) > 0:
            self._sleep(left)
            if any(path.name == self.home.webhook_wake.name for path in watch.take()):
                return

    def _sleep(self, seconds: float) -> None:
        """Until somebody wakes it, however often, or so long."""
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=seconds)
            while True:
                self._wake.get_nowait()

    def _look(self, interval: float) -> None:
        tables = self._read_tables()
        for name in outbox.webhooks_of(self.home):
            if tables is not None:
                self._serve(name, tables.get(name))
        for thread in self._threads.values():
            thread.knock(interval)
        if time.monotonic() - self._tidied > TIDY_INTERVAL:
            self._tidied = time.monotonic()
            for entry in old_dead(self.home, time.time()):
                outbox.remove(self.home, entry)
                log.info("%s was given up long ago, removed", entry.id)

    def _serve(self, name: str, table: WebhookSettings | None) -> None:
        if name in self._threads:
            self._threads[name].outlet.use(table)
        elif table is not None or outbox.stems(self.home, name):
            outlet = Outlet(self.home, name)
            outlet.use(table)  # before it may want to send
            self._threads[name] = _Thread(name, outlet, self._ended)

    def _read_tables(self) -> dict[str, WebhookSettings] | None:
        """None while config.toml has a mistake: then things stay as they are."""
        try:
            tables = settings.webhooks(self.home)
            self._said = None
            return tables
        except SettingsError as error:
            if str(error) != self._said:
                self._said = str(error)
                log.error("%s; until it is mended, what was valid before counts", error)
            return None


def old_dead(home: Home, now: float) -> Iterator[Entry]:
    """What was given up so long ago that nobody will send it again."""
    for entry in outbox.read_all(home, dead=True):
        if isinstance(entry, Entry):
            last = model.parse_time(entry.tried_at or entry.at).timestamp()
            if now - last > KEEP_DEAD:
                yield entry


def ping(home: Home, name: str, table: WebhookSettings, number: str) -> Outcome:
    """Send a ping to a webhook, at once and once."""
    return Delivery(home, name, table).deliver(events.ping(name, number))
