"""What others know of a runner: its file and its heartbeats. And whether any submitter said that it is there."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping

from air_executor import load, model, orders, runners, spool
from air_executor.paths import Home
from air_executor.settings import RunnerSettings
from air_runner import __version__

log = logging.getLogger(__name__)


def introduce(
    runner_id: str, process: model.Process, settings: RunnerSettings, *, embedded: bool, slurm: bool = False
) -> runners.RunnerInfo:
    """What the file of a runner says at first."""
    moment = model.now()
    return runners.RunnerInfo(
        id=runner_id,
        process=process,
        queues=list(settings.queues),
        slots=settings.slots,
        launcher=settings.launcher,
        version=__version__,
        started_at=moment,
        heartbeat_at=moment,
        heartbeat=settings.heartbeat,
        embedded=embedded,
        slurm=slurm,
    )


class Presence:
    """The file of a runner.

    Args:
        info: what it says at first.
    """

    def __init__(self, home: Home, info: runners.RunnerInfo) -> None:
        self._home, self._info = home, info
        self._sign: float | None = None
        self._wanted_at = -math.inf

    def begin(self) -> None:
        """Take the name.

        Raises:
            RunnerError: another runner has it.
        """
        runners.enlist(self._home, self._info)

    def beat(self, *, working: int, draining: bool, ill: Mapping[str, str]) -> None:
        """Say what this runner does, and that it lives."""
        self._info.heartbeat_at = model.now()
        self._info.working, self._info.draining, self._info.ill = working, draining, dict(ill)
        self._info.load = load.average()
        try:
            runners.write(self._home, self._info)
        except OSError as error:  # a full disk must not end the runner: its jobs go on, and it beats again later
            log.error("cannot write %s: %s", self._home.runner(self._info.id), error.strerror)

    def change(self, *, slots: int, queues: Iterable[str]) -> None:
        """What the next heartbeat says of slots and queues."""
        self._info.slots, self._info.queues = slots, list(queues)

    def end(self) -> None:
        """Leave, unless jobs are left to the next runner, which then needs to know whose they were."""
        if spool.remove_holder(self._home, self._info.id):
            self._home.runner(self._info.id).unlink(missing_ok=True)
            orders.drop(self._home, self._info.id)

    def is_wanted(self, linger: float, moment: float) -> bool:
        """Whether a submitter said in the last `linger` seconds that it is there.

        Asked again and again: what counts is when its sign was last seen to change, because clocks are set.
        """
        sign = self._read_sign()
        if sign is not None and self._sign not in (None, sign):
            self._wanted_at = moment
        self._sign = sign
        return moment - self._wanted_at < linger

    def _read_sign(self) -> float | None:
        try:
            return self._home.keepalive.stat().st_mtime
        except FileNotFoundError:
            return None
