"""The triage of one day, as a network of actors. It knows no Airflow: `python pipeline.py --help`.

::

    source ──> extract ──> loop ──> normalise ──> rules ──┬─ matched ────> alert
      ^           │ next page                             └─ unmatched ──> archive
      └───────────┘

`loop` and `rules` are from reflow's catalogue, the others are here. An actor runs one message at a time, and the
channels between actors hold fifty messages each, so whoever is slow slows down those before him: `normalise` waits for
`rules`, and `rules` for `alert`, of which no more than `concurrency` posts are on their way. The source asks for the
next page only when fewer than `window` issues are in the network.

A network is used once. It keeps nothing, so a try that follows on a failed one begins anew; what outlives it are the
files of the day (`triage_files`).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import triage_calls
import triage_files
import triage_rules
from offbit_reflow import Actor, Message, Network, template_actor
from triage_errors import DrainedError, TimeLimitError, TriageError
from triage_ledger import Ledger
from triage_settings import PREFIX, Settings, checked, settings_from
from triage_web import TIMEOUT, Caller

log = logging.getLogger("triage")

ROOM_SECONDS = 0.02
"""How long one tick of the source waits for room: it has one of the network's few threads meanwhile."""
Row = dict[str, Any]


def run_day(day: str, settings: Settings, stop: threading.Event | None = None) -> Row:
    """Run one day in a network of its own; its summary.

    The same day of the same source has the same summary and the same files, however often it is run.

    Args:
        stop: when it is set, what has begun is brought to its end, and no more is asked for.

    Raises:
        TriageError: the day has no summary; its archive is as it was.
    """
    with triage_files.DayFiles(settings.output, checked(day)) as files:
        return Triage(day, settings, files, stop or threading.Event()).run()


class Triage:
    """One network, and what its stages share."""

    def __init__(self, day: str, settings: Settings, files: triage_files.DayFiles, stop: threading.Event) -> None:
        self.day, self.settings, self.files, self.stop = day, settings, files, stop
        self.network_id = uuid.uuid4().hex
        self.ledger = Ledger()
        self.deadline = time.monotonic() + settings.time_limit
        self.caller = Caller(self.network_id, self.deadline, self.ledger.closed)
        self.archived: list[Row] = []
        self.refused: list[Row] = []
        self.posts = ThreadPoolExecutor(settings.concurrency, "alert")

    def run(self) -> Row:
        """The summary of the day."""
        log.info("network %s begins with %s", self.network_id, self.day)
        network = self._build()
        network.start()
        try:
            self._wait()
        finally:
            # The runtime goes on with what is in its channels after this, so the stages have to look at the ledger.
            network.shutdown()
            self.ledger.close(TIMEOUT + 1)
            self.posts.shutdown(wait=False, cancel_futures=True)
            log.info("network %s has ended: %s", self.network_id, self.ledger.describe())
        return self._summary()

    def _build(self) -> Network:
        network = Network()
        parts: list[tuple[str, Any, Row | None]] = [
            ("source", Source(self), None),
            ("extract", Extract(self), None),
            ("loop", template_actor("tpl_loop"), None),
            ("normalise", Normalise(self), None),
            ("rules", template_actor("tpl_rules_engine"), triage_rules.RULES),
            ("alert", Alert(self), None),
            ("archive", Archive(self), None),
        ]
        for name, actor, config in parts:
            network.register_actor(name, actor)
            network.add_node(name, name, config)
        for edge in EDGES:
            network.add_connection(*edge)
        network.add_initial("source", "page", Message.integer(1).as_json())
        return network

    def _wait(self) -> None:
        """Until the day is done.

        Raises:
            TriageError: it is not, and never will be.
        """
        while not self.ledger.wait(min(0.1, self._left())) and self._left():
            if self.stop.is_set():
                self._drain()
                break
        if not self.ledger.done and not self._left():
            limit = f"{self.settings.time_limit:g} s"
            raise TimeLimitError(f"{self.day} was not done within {limit}: {self.ledger.describe()}")
        if self.ledger.error is not None:
            raise self.ledger.error

    def _left(self) -> float:
        """Seconds until the time limit."""
        return max(0.0, self.deadline - time.monotonic())

    def _drain(self) -> None:
        self.ledger.wait_idle(min(self.settings.drain, self._left()))
        if self.ledger.error is None and not self.ledger.done:
            raise DrainedError(f"{self.day} was stopped, and is to be run again: {self.ledger.describe()}")

    def _summary(self) -> Row:
        digest = self.files.finish(self.archived, self.refused)
        return triage_files.summary(self.day, self.ledger.outcomes, digest)


EDGES = (
    ("source", "response", "extract", "response"),
    ("source", "later", "source", "page"),
    ("extract", "next", "source", "page"),
    ("extract", "issues", "loop", "collection"),
    ("loop", "item", "normalise", "item"),
    ("normalise", "issue", "rules", "data"),
    ("rules", "matched", "alert", "issue"),
    ("rules", "unmatched", "archive", "issue"),
)


NONE: list[str] = []
"""The ways out of a stage at which a message ends."""


class Stage(Actor):  # type: ignore[misc]  # it has no types
    """An actor whose failures are not lost. All have one way in.

    Outputs are handed over with `done` and never with `send`: that waits for a full channel with Python's lock in its
    hand, which whoever empties the channel needs.
    """

    def __init__(self, triage: Triage) -> None:
        self.triage = triage

    def run(self, ctx: Any) -> None:
        name = type(self).component
        outputs: dict[str, Message] = {}
        if not self.triage.ledger.closed.is_set():
            with self.triage.ledger.tick(name):
                outputs = self.work(ctx.inputs[self.inports[0]]["data"]) or {}
                ctx.done(outputs)
                return
        ctx.done()

    def work(self, data: Any) -> dict[str, Message] | None:
        raise NotImplementedError


class Source(Stage):
    """Asks for one page; the next is asked for when `extract` has seen that there is one."""

    component, inports, outports = "source", ["page"], ["response", "later"]

    def work(self, data: int) -> dict[str, Message] | None:
        triage, settings = self.triage, self.triage.settings
        has_room = triage.ledger.wait_for_room(settings.window, ROOM_SECONDS)
        if triage.stop.is_set():
            return None
        if not has_room:
            return {"later": Message.integer(data)}
        text = triage_calls.ask(triage.caller, settings, triage.day, data)
        triage.ledger.begin_page()
        return {"response": Message.string(json.dumps({"page": data, "text": text}))}


class Extract(Stage):
    """Takes the issues out of their envelope. They go on as JSON: what cannot be read stops at `normalise`, alone."""

    component, inports, outports = "extract", ["response"], ["issues", "next"]

    def __init__(self, triage: Triage) -> None:
        super().__init__(triage)
        self._fresh = triage_calls.Fresh()

    def work(self, data: str) -> dict[str, Message]:
        triage, response = self.triage, json.loads(data)
        total, items = triage_calls.opened(response["text"])
        fresh = self._fresh.of(items)
        last = not items or response["page"] * triage.settings.page_size >= total
        triage.ledger.end_page(len(fresh), last)
        outputs = {"issues": Message.array([json.dumps(item) for item in fresh])}
        return outputs if last else {**outputs, "next": Message.integer(response["page"] + 1)}


class Normalise(Stage):
    """From what the source says of an issue to what the rules and the files know. What cannot be read is kept aside."""

    component, inports, outports = "normalise", ["item"], ["issue"]

    def work(self, data: Row) -> dict[str, Message] | None:
        text = data["value"]
        try:
            return {"issue": Message.object(triage_rules.normalised(json.loads(text)))}
        except triage_rules.UnreadableError as error:
            self.triage.refused.append({"why": str(error), "issue": text})
            self.triage.ledger.leave("refused")
            return None


class Alert(Stage):
    """Tells somebody, each issue once, whatever try of the day it is."""

    component, inports, outports = "alert", ["issue"], NONE

    def __init__(self, triage: Triage) -> None:
        super().__init__(triage)
        self._slots = threading.BoundedSemaphore(triage.settings.concurrency)

    def work(self, data: Row) -> None:
        key = triage_calls.key(self.triage.day, data)
        if self.triage.files.is_delivered(key):
            self.triage.ledger.leave("alerted")
            return
        while not self._slots.acquire(timeout=0.1):
            if self.triage.ledger.closed.is_set():
                return
        self.triage.posts.submit(self._post, key, data)

    def _post(self, key: str, issue: Row) -> None:
        """In a thread of the pool, counted as a tick: the network ends after it."""
        try:
            with self.triage.ledger.tick("alert"):
                triage_calls.tell(self.triage.caller, self.triage.settings, key, issue)
                self.triage.files.note_delivery({**issue, "key": key})
                self.triage.ledger.leave("alerted")
        finally:
            self._slots.release()


class Archive(Stage):
    """Keeps what needs nobody at once; it is written when the day is done."""

    component, inports, outports = "archive", ["issue"], NONE

    def work(self, data: Row) -> None:
        self.triage.archived.append(data)
        self.triage.ledger.leave("archived")


@contextlib.contextmanager
def stopping_on_term() -> Iterator[threading.Event]:
    """An event that TERM sets; a second TERM kills. For the main thread."""
    stop = threading.Event()

    def ask(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pipeline.py",
        description="The triage of one day. Servers and limits are set by TRIAGE_... variables; without any, a server "
        "with samples is started and asked.",
    )
    yesterday = datetime.datetime.now(datetime.timezone.utc).date() - datetime.timedelta(days=1)
    parser.add_argument("--day", default=str(yesterday), help="in UTC (default: yesterday, %(default)s)")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _environment() -> Iterator[Mapping[str, str]]:
    """That of the process, and where it names no server, one with samples."""
    if any(os.environ.get(PREFIX + name) for name in ("SOURCE_URL", "ALERT_URL")):
        yield os.environ
        return
    import triage_stub

    with triage_stub.Stub() as stub:
        log.warning("no server is set: asking one with samples, at %s", stub.url)
        yield {**os.environ, **stub.environment()}


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    try:
        with stopping_on_term() as stop, _environment() as environment:
            summary = run_day(options.day, settings_from(environment), stop)
    except TriageError as error:
        print(f"pipeline.py: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # The runtime's threads cannot be ended, and Python's own end trips those that are at work.
    os._exit(code)
