"""Slurm's commands: how they are called, what their answers mean. Nothing here knows what a job of ours is.

An answer is one of four: what was asked for; `RefusedError`, which will be so again; `BusyError`, which will pass when
others have ended; `AwayError`, which says nothing at all, not even whether it was done.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from air_executor.slurm import states, words

MAX_TEXT = 500
"""Characters of what Slurm says that are passed on."""
SEPARATOR = "|"
_FORMAT = SEPARATOR.join(("%i", "%T", "%r", "%P", "%N", "%j"))
"""Number, state, reason, partition, nodes, and last the name."""
_AWAY = re.compile(
    r"unable to contact|socket timed out|zero bytes|connection (refused|failure|reset|timed)|communication|temporarily"
    r"|standby mode|unable to process configuration|cannot stat file|authentication|credential|munge|not responding"
    r"|(unable to|could not) establish|no route to host|insane message|unexpected message|try again",
    re.IGNORECASE,
)
_BUSY = re.compile(
    r"(Max|Grp)\w*(Submit|Jobs)|job count|too many|maximum number|resource limit|partition not available",
    re.IGNORECASE,
)
_ID = re.compile(r"\d+\Z")
_KNOWN_GONE = re.compile(r"invalid job id|already (completing or )?complete", re.IGNORECASE)
COMMANDS = ("sbatch", "squeue", "scancel")
_OF_A_JOB = tuple(f"SLURM_{what}" for what in ("JOB", "STEP", "TASK", "ARRAY", "MEM", "CPUS", "N"))
"""How variables begin that a job of Slurm finds."""
_FILTERS = ("SQUEUE_", "SCANCEL_", "SACCT_")
"""How those begin that make a command pass over jobs, or ask before it does anything."""
_LOSING = frozenset(f"SBATCH_{what}" for what in ("ARRAY_INX", "CLUSTERS", "ERROR", "INPUT", "SIGNAL", "WAIT"))
"""Defaults for flags that a job may not ask for, either, and that we do not set ourselves."""


def are_here() -> bool:
    """Whether the commands that are needed are on the PATH of this process."""
    return all(shutil.which(name) for name in COMMANDS)


class SlurmError(Exception):
    """Slurm did not do what it was asked for; the text is for people."""


class RefusedError(SlurmError):
    """It never will."""


class BusyError(SlurmError):
    """Not now: a limit is reached."""


class AwayError(SlurmError):
    """No answer: it is not known whether it was done."""


class MissingError(RefusedError):
    """There is no such command on this host."""


@dataclass(frozen=True)
class Row:
    """What Slurm says of a job, or of an element of a job array."""

    id: str
    """`123`, or `123_4`."""
    state: states.State
    reason: str | None
    partition: str | None
    node: str | None
    name: str

    @property
    def element(self) -> int | None:
        """Its place in a job array."""
        _, _, number = self.id.partition("_")
        return int(number) if number.isdecimal() else None


class Slurm:
    """Slurm, as its commands on this host reach it.

    Args:
        timeout: seconds for one command.
        environ: what the commands find.
    """

    def __init__(self, timeout: float, environ: Mapping[str, str] = os.environ) -> None:
        self._timeout = timeout
        self._environ = clean(environ)
        self._accounting: bool | None = None
        self.polls = 0
        """How often all jobs were asked for."""

    def is_installed(self) -> bool:
        """Whether the commands that are needed are there."""
        return all(shutil.which(name, path=self._environ.get("PATH")) for name in COMMANDS)

    def submit(self, flags: Sequence[str], script: str) -> str:
        """Submit a batch script; the number that it got.

        Raises:
            SlurmError: as it says.
        """
        said = self._run(["sbatch", "--parsable", *flags], script)
        number = said.strip().partition(";")[0]  # with the name of the cluster behind it, where there are several
        if not _ID.match(number):
            raise AwayError(f"sbatch answered {said.strip()[:80]!r}, which is no number of a job")
        return number

    def jobs(self) -> list[Row]:
        """All jobs of this user that Slurm still knows, each element of an array for itself.

        Raises:
            SlurmError: as it says.
        """
        self.polls += 1
        said = self._run(["squeue", "--me", "--noheader", "--array", "--states=all", f"--format={_FORMAT}"])
        return parse_rows(said)

    def cancel(self, ids: Iterable[str]) -> bool:
        """Let these end; that some have ended already is no error. True: it was told.

        Raises:
            SlurmError: as it says.
        """
        try:
            self._run(["scancel", *ids])
        except RefusedError as error:
            if not _KNOWN_GONE.search(str(error)):
                raise
        return True

    def past(self, ids: Sequence[str]) -> dict[str, str]:
        """The states of jobs that `jobs` does not know any more, by number; empty where nothing is recorded.

        Raises:
            SlurmError: as it says.
        """
        if not ids or not self._keeps_accounts():
            return {}
        argv = [
            "sacct",
            "--noheader",
            "--parsable2",
            "--allocations",
            "--format=JobID,State",
            f"--jobs={','.join(ids)}",
        ]
        try:
            said = self._run(argv)
        except RefusedError:  # this user may not see them, or there are none after all
            return {}
        found = (line.partition(SEPARATOR) for line in said.splitlines() if SEPARATOR in line)
        return {number: state for number, _, state in found if number in ids}

    def _keeps_accounts(self) -> bool:
        if self._accounting is None:
            said = self._run(["scontrol", "show", "config"])
            self._accounting = "accounting_storage/slurmdbd" in said and bool(
                shutil.which("sacct", path=self._environ.get("PATH"))
            )
        return self._accounting

    def _run(self, argv: Sequence[str], given: str = "") -> str:
        try:
            done = subprocess.run(  # noqa: S603
                argv,
                input=given.encode(),
                capture_output=True,
                timeout=self._timeout,
                env=self._environ,
                start_new_session=True,  # a Ctrl-C is for the runner
                check=False,
            )
        except FileNotFoundError:
            how = "install Slurm's client programs there (Debian: slurm-client), or start it with a PATH that has them"
            raise MissingError(f"{argv[0]} is not on the PATH of the runner: {how}") from None
        except subprocess.TimeoutExpired:
            raise AwayError(f"{argv[0]} did not answer within {self._timeout:g} s") from None
        except OSError as error:
            raise AwayError(f"{argv[0]} cannot be started: {error.strerror}") from None
        if done.returncode != 0:
            raise classify(argv[0], done.stderr.decode("utf-8", "replace"), done.returncode)
        return done.stdout.decode("utf-8", "replace")


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what a job of Slurm finds: a runner that is one itself must not submit steps of it. Pure.

    And without what a user has set for commands that he types: of a job that `squeue` does not show we would think that
    Slurm has lost it. `SLURM_CONF` and the like say which Slurm, and most `SBATCH_*` are defaults as a queue has.
    """
    foreign = (*_OF_A_JOB, *_FILTERS)
    return {name: value for name, value in environ.items() if not name.startswith(foreign) and name not in _LOSING}


def classify(command: str, said: str, code: int) -> SlurmError:
    """What a command means that failed. Pure."""
    text = f"{command}: {words.short(command, said)[:MAX_TEXT] or f'exit code {code}'}"
    if _AWAY.search(text):
        return AwayError(text)
    return BusyError(text) if _BUSY.search(text) else RefusedError(text)


def parse_rows(said: str) -> list[Row]:
    """What `jobs` asks for. Pure; a line that is none is passed over."""
    rows = []
    for line in said.splitlines():
        parts = line.strip().split(SEPARATOR, 5)
        if len(parts) == 6 and parts[0][:1].isdigit():
            number, state, reason, partition, node, name = parts
            shown = None if reason in ("None", "") else reason
            meaning = states.because(states.parse(state), reason)
            rows.append(Row(number, meaning, shown, partition or None, node or None, name))
    return rows
