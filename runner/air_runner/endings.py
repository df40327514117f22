"""How a job comes to rest whose ephemeral runner ended. Mostly that one wrote the end itself, and the claim is gone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

from air_executor import backoff, model, repair, store
from air_executor.errors import CorruptFileError, NotFoundError
from air_executor.paths import Home
from air_runner import ephemeral, supervise

log = logging.getLogger(__name__)

RETRY_INTERVAL = 0.2
"""Seconds before the next attempt at a job whose lock is not free yet although its ephemeral runner is gone."""
MAX_RETRY_INTERVAL = 3.0
"""The interval doubles up to this: an attempt looks at all processes, and a full disk may stay full for hours."""
NOT_OURS = 0
"""In place of the pid of an ephemeral runner that never had the job: nothing of the job's is left of it."""


@dataclass(frozen=True)
class End:
    """The end of an ephemeral runner, and what it means for its job if that has none yet."""

    pid: int
    why: str
    outcome: model.Exit | None = None
    blame: model.Blame | None = None
    """What kept the job from starting, if that is known."""
    seen_well: bool = False
    """Whether it is known to have ended by itself and well, so that nothing of it can be left."""
    kind: model.ExitKind | None = None
    """How the job ended, if the ephemeral runner said that with its exit code, and unless the job has no end yet."""
    tries: int = 0
    """How often the job could not be brought to rest."""


def explain(pid: int, status: int | None) -> End:
    """Pure.

    Args:
        status: its wait status; None if it is not known.
    """
    if status is None:
        return End(pid, f"its ephemeral runner (pid {pid}) is gone")
    ended = supervise.from_wait_status(status)
    why = f"its ephemeral runner (pid {pid}) ended: {ended.describe()}"
    if ended.good:
        return End(pid, "its ephemeral runner ended without a result", seen_well=True, kind=model.ExitKind.SUCCESS)
    if ended.code == ephemeral.EXIT_NOT_OURS:
        return End(NOT_OURS, why)
    if ended.code == ephemeral.EXIT_REFUSED:
        return End(pid, f"{why}: the home refuses to be written", blame=model.Blame.HOME)
    if ended.code == ephemeral.EXIT_GOOD_UNWRITTEN:
        return End(pid, why, model.Exit(model.ExitKind.SUCCESS, "completed", code=0))
    kind = ephemeral.kind_of(ended.code)
    return End(pid, why, ended.as_exit(why), seen_well=kind is not None, kind=kind)


class Endings:
    """Sees to it that each job of a runner has an end, and tries again where that is not possible yet.

    Args:
        by: who brings it to rest, for the journals.
    """

    def __init__(self, home: Home, runner_id: str, by: str) -> None:
        self._home, self._id, self._by = home, runner_id, by
        self._unresolved: dict[str, End] = {}

    @property
    def retry_interval(self) -> float:
        """Seconds until the jobs that could not be brought to rest are to be tried again."""
        tries = min((end.tries for end in self._unresolved.values()), default=1)
        return backoff.pause(tries, RETRY_INTERVAL, MAX_RETRY_INTERVAL)

    def __len__(self) -> int:
        return len(self._unresolved)

    def __contains__(self, name: object) -> bool:
        return name in self._unresolved

    def __iter__(self) -> Iterator[str]:
        return iter(self._unresolved)

    def settle(self, name: str, end: End) -> repair.Verdict | None:
        """Bring a job to rest; None if it is, and nothing was to be done."""
        if not (self._home.claims(self._id) / name).exists():
            return None
        verdict = self._resolve(name, end)
        if verdict is repair.Verdict.LEAVE:
            if end.pid != NOT_OURS:  # of a job that another process has, recovery finds that process and watches it
                self._unresolved[name] = replace(end, tries=end.tries + 1)
        elif verdict is not repair.Verdict.SETTLE:
            log.warning("%s: %s (%s)", name, end.why, verdict.value)
        return verdict

    def take_unresolved(self) -> dict[str, End]:
        """The jobs that could not be brought to rest, to be settled again."""
        waiting, self._unresolved = self._unresolved, {}
        return waiting

    def _may_be_left(self, name: str, end: End) -> bool:
        """Whether something of the ephemeral runner may run on. If the job names another one, it has begun anew."""
        if end.pid == NOT_OURS:
            return False
        try:
            process = store.read(self._home, name).runner
        except CorruptFileError:
            return True
        except NotFoundError:
            return False
        return process is not None and process.pid == end.pid

    def _resolve(self, name: str, end: End) -> repair.Verdict:
        try:
            if self._may_be_left(name, end):
                supervise.kill_remnants(self._home, name, end.pid if end.tries == 0 else None)
            return repair.resolve(
                self._home, name, end.why, by=self._by, holder=self._id, outcome=end.outcome, blame=end.blame
            )
        except OSError as error:
            log.error("cannot write the end of %s: %s; trying again", name, error)
            return repair.Verdict.LEAVE
