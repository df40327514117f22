"""What a template learns of its jobs: which modules they import again and again, and which of them it may preload.

Jobs report through a socket that they have inherited; one that imports nothing new says nothing. What was seen is
counted here and lost with the template; what was decided is in `air_executor.preloads`.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping

from air_executor import preloads
from air_executor.errors import AirExecutorError
from air_executor.paths import Home
from air_executor.preloads import Knowledge, Learned, Module, Verdict
from air_runner import preloading

log = logging.getLogger(__name__)

WORTH_MS = 1.0
"""What importing a module takes at least, if it is to be preloaded."""

MAX_REPORT = 100_000
"""Bytes of a report; a socket takes about 200,000."""

MAX_SEEN = 20_000
"""Modules that are remembered because one job imported them."""

WORKS = sys.platform == "linux"
"""Elsewhere it cannot be found out whether a module makes forking unsafe."""


class Reporter:
    """The jobs' end of the socket. A template's child has it, and so do the child's children."""

    def __init__(self, connection: socket.socket, loaded: preloading.Loaded, job: str) -> None:
        self._connection, self._loaded, self._job = connection, loaded, job

    def __call__(self) -> None:
        """Tell the template what this process had to import. Never fails, and never waits."""
        try:
            if names := self._loaded.since():
                report = _fit(self._job, names)
                self._connection.send(report, socket.MSG_DONTWAIT)
        except Exception as error:  # the job's own end is at stake, and it did nothing wrong
            log.debug("nothing was reported: %s", error)


def _fit(job: str, names: list[str]) -> bytes:
    """As many as a report holds: those that the others belong to come first."""
    while len(report := json.dumps([job, names]).encode()) > MAX_REPORT:
        names = names[: len(names) // 2]
    return report


class Learner:
    """Keeps what is known of the modules for one template.

    Args:
        template: the template's own module.
    """

    def __init__(self, home: Home, template: str) -> None:
        self._path, self._template = preloads.own_file(home), template
        self._seen: dict[str, str] = {}
        """By which job a module was reported first."""
        self._repeated: dict[str, None] = {}
        self._tired = False
        self._packages = packages_mark()
        self.learned = Learned()
        reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        reader.setblocking(False)
        self._reader, self._writer = reader, writer

    def fileno(self) -> int:
        """Where reports arrive."""
        return self._reader.fileno()

    def close(self) -> None:
        """In a child that neither learns nor reports."""
        self._reader.close()
        self._writer.close()

    def reporter(self, job: str, loaded: preloading.Loaded) -> Reporter:
        """In a child: what it reports with."""
        self._reader.close()
        return Reporter(self._writer, loaded, job)

    def begin(self, base_ms: float) -> None:
        """Read what is known, and note what the template itself took."""
        packages = self._packages

        def change(known: Knowledge) -> None:
            if known.packages != packages:
                known.forget_refusals()
                known.packages = packages
            known.of(self._template).base_ms = base_ms

        self._update(change)

    def decided(self) -> frozenset[str]:
        """What nobody needs to report, whether it is loaded or not."""
        return frozenset(self.learned.modules)

    def wanted(self) -> list[str]:
        """What the template should have: what it had, then what has turned out to repeat."""
        new = [name for name in self._repeated if name not in self.learned.modules]
        names = [*self.learned.having(Verdict.PRELOADED), *new]
        return [] if self._tired else [name for name in names if not preloading.is_loaded(name)]

    def listen(self) -> None:
        """Take the reports that have arrived."""
        while True:
            try:
                job, names = json.loads(self._reader.recv(2 * MAX_REPORT))
            except BlockingIOError:
                return
            for name in names:
                self._count(job, name)

    def _count(self, job: str, name: str) -> None:
        if self._seen.get(name, job) != job:
            self._repeated[name] = None
        elif len(self._seen) < MAX_SEEN:
            self._seen[name] = job

    def decide(self, loaded: Mapping[str, float], refused: tuple[str, str] | None, *, well: bool) -> None:
        """Remember what came of a trial. One that ended badly, and no module is to blame, is the last."""
        self._tired = self._tired or not (well or refused)

        def change(known: Knowledge) -> None:
            modules = known.of(self._template).modules
            for name, took in loaded.items():
                verdict = Verdict.PRELOADED if took >= WORTH_MS else Verdict.CHEAP
                if name not in modules:
                    modules[name] = Module(verdict, took)
            if refused is not None:
                modules[refused[0]] = Module(Verdict.REFUSED, why=refused[1])

        self._update(change)

    def _update(self, change: Callable[[Knowledge], None]) -> None:
        """A home that refuses must not stop a template: it goes on with what it knows itself."""
        try:
            self.learned = preloads.update(self._path, change).of(self._template)
        except (OSError, AirExecutorError) as error:
            sys.stderr.write(f"template: cannot remember what is to be preloaded: {error}\n")
            own = Knowledge(templates={self._template: self.learned})
            change(own)
            self.learned = own.of(self._template)


def packages_mark() -> str:
    """Tells one state of the installed packages from another."""
    marks = []
    for path in sorted({path for path in sys.path if path.endswith("-packages")}):
        try:
            marks.append(f"{path}:{os.stat(path).st_mtime_ns}")  # noqa: PTH116
        except OSError:
            continue
    return " ".join(marks)
