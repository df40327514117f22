"""What Slurm's words mean: the states of its jobs, and the reasons for which they wait. Plain tables, no I/O.

::

    PENDING ──> CONFIGURING ──> RUNNING ──> COMPLETING ──> COMPLETED, FAILED, TIMEOUT, CANCELLED, ...
       ^                           │ ^          │
       │                           v │          │
       │                        SUSPENDED       │
       └── REQUEUED, REQUEUE_HOLD, ... <────────┘

A job's own files come first: what is said here of an end counts only where these say nothing. A state that is not known
here, of a newer Slurm, is taken as not over: waiting for too long loses nothing, and starting a job twice does.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from air_executor.model import Blame, ExitKind

MAX_TEXT = 200
"""Characters of what Slurm said that are passed on where it is not known here."""


class Phase(enum.Enum):
    """How far a job is, as Slurm sees it."""

    WAITING = "waiting in Slurm"
    """It has no node, or its node is being prepared. The last run of one that was put back may still be ending."""
    RUNNING = "running"
    """It has a node, and something of it may run there, or go on."""
    OVER = "over"
    UNKNOWN = "unknown"
    """A state that is not in the table: not over."""


@dataclass(frozen=True)
class State:
    """A state of a job of Slurm."""

    name: str
    """As squeue, scontrol and sacct write it."""
    compact: str
    """The short form of squeue; empty where there is none."""
    phase: Phase
    says: str
    """For people. Of a state that is over: why the job ended, if it did not say so itself."""
    comes_back: bool = False
    """What ran of it was stopped or ended, and Slurm lets it go on, or starts it again."""
    held: bool = False
    """Only when somebody releases it (`scontrol release`)."""
    kind: ExitKind | None = None
    """Why a job ended that did not say so itself; None if it is not over."""
    blame: Blame | None = None
    """To whom it counts when nothing of the job had started and it is started again. None: it is not started again."""

    @property
    def over(self) -> bool:
        """Whether Slurm is done with it."""
        return self.phase is Phase.OVER


def _waiting(name: str, compact: str, says: str, *, comes_back: bool = False, held: bool = False) -> State:
    return State(name, compact, Phase.WAITING, says, comes_back=comes_back, held=held)


def _running(name: str, compact: str, says: str, *, comes_back: bool = False) -> State:
    return State(name, compact, Phase.RUNNING, says, comes_back=comes_back)


def _over(name: str, compact: str, kind: ExitKind, blame: Blame | None, says: str) -> State:
    return State(name, compact, Phase.OVER, says, kind=kind, blame=blame)


_LOST = ExitKind.RUNNER_LOST

STATES: tuple[State, ...] = (
    _waiting("PENDING", "PD", "it waits for a node"),
    _waiting("CONFIGURING", "CF", "its node is being prepared"),
    _waiting("POWER_UP_NODE", "", "its node is being switched on"),
    _waiting("REQUEUED", "RQ", "it was put back into Slurm's queue", comes_back=True),
    _waiting("REQUEUE_FED", "RF", "the federation puts it back into a queue", comes_back=True),
    _waiting("REQUEUE_HOLD", "RH", "it was put back into Slurm's queue and is held there", comes_back=True, held=True),
    _waiting("SPECIAL_EXIT", "SE", "the cluster put it back into its queue and holds it", comes_back=True, held=True),
    _waiting("RESV_DEL_HOLD", "RD", "it is held because its reservation was deleted", held=True),
    _running("RUNNING", "R", "it runs"),
    _running("RESIZING", "RS", "it runs, and its size changes"),
    _running("SIGNALING", "SI", "it runs, and is sent a signal"),
    _running("EXPEDITING", "", "Slurm decides whether to start it again at once", comes_back=True),
    _running("SUSPENDED", "S", "it was suspended, and gave its processors to others", comes_back=True),
    _running("STOPPED", "ST", "it was stopped, and keeps its processors", comes_back=True),
    _running("COMPLETING", "CG", "it ends, and some of its processes may still be there"),
    _running("STAGE_OUT", "SO", "it ended, and its files are being moved out of the burst buffer"),
    _running("UPDATE_DB", "", "Slurm tells its database of it"),
    # Starting it here as well would run it twice.
    _running("REVOKED", "RV", "another cluster of the federation has it"),
    _over("COMPLETED", "CD", _LOST, Blame.JOB, "Slurm says that it completed, but it wrote no end"),
    _over("FAILED", "F", _LOST, Blame.JOB, "Slurm says that it failed"),
    _over("TIMEOUT", "TO", ExitKind.TIMEOUT, None, "Slurm ended it at its time limit"),
    _over("DEADLINE", "DL", ExitKind.TIMEOUT, None, "Slurm ended it at its deadline"),
    _over("OUT_OF_MEMORY", "OOM", ExitKind.MEMORY, None, "Slurm ended it because it used more memory than it had"),
    _over("CANCELLED", "CA", ExitKind.CANCELLED, None, "it was cancelled in Slurm"),
    _over("PREEMPTED", "PR", _LOST, Blame.RUNNER, "Slurm ended it to make room for another job (preemption)"),
    _over("NODE_FAIL", "NF", _LOST, Blame.RUNNER, "its node failed"),
    _over("BOOT_FAIL", "BF", _LOST, Blame.RUNNER, "its node could not be booted"),
    _over("LAUNCH_FAILED", "", _LOST, Blame.RUNNER, "Slurm could not start it on its node"),
    _over("RECONFIG_FAIL", "", _LOST, Blame.RUNNER, "its node could not be prepared"),
)

_BY_WORD: Mapping[str, State] = {word: state for state in STATES for word in (state.name, state.compact) if word}

_CANCELLED_BY = re.compile(r"CANCELLED by (\d+)", re.ASCII)


def parse(text: str) -> State:
    """The state that squeue, scontrol or sacct wrote, in its full or its compact form, such as `CANCELLED by 1000`."""
    words = text.split()
    state = _BY_WORD.get(words[0]) if words else None
    if state is None:
        said = f"the state '{_plain(text)}', which this version does not know" if words else "no state"
        return State(_plain(text), "", Phase.UNKNOWN, f"Slurm says {said}: it is taken as not over")
    if by := _CANCELLED_BY.fullmatch(" ".join(words)):
        return dataclasses.replace(state, says=f"{state.says} by the user with the id {by[1]}")
    return state


def because(state: State, reason: str) -> State:
    """A job that has FAILED, with what the reason beside the state adds; any other state as it is.

    The other states say themselves why the job ended, and keep a reason from before, when it waited.
    """
    if state.name != "FAILED":
        return state
    found = explain(reason)
    if found.code in _NO_REASON:
        return state
    kind, blame = _FAILURES.get(found.code, (ExitKind.START_FAILED, None) if found.stuck else (state.kind, state.blame))
    return dataclasses.replace(state, kind=kind, blame=blame, says=f"{state.says}: {found.says}")


# --- Why a job waits -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reason:
    """Why a job waits, as squeue shows it (`%r`)."""

    code: str
    """Slurm's word, without what follows it."""
    says: str
    """For people, with Slurm's own word; only that if it is not known here."""
    stuck: bool = False
    """It does not pass with time: somebody has to do something, here or at the cluster."""


_NO_REASON = frozenset({"", "None", "WaitingForScheduling"})

_NODE_AWAY = "a node that it needs is down, drained or reserved"
"""It may come back: nobody has to do anything to the job."""

_PASSING: Mapping[str, str] = {
    "": "Slurm has not looked at it yet",
    "None": "Slurm has not looked at it yet",
    "WaitingForScheduling": "Slurm has not looked at it yet",
    "Priority": "others have a higher priority",
    "Resources": "the nodes, processors or memory that it asks for are in use",
    "Dependency": "it depends on a job of Slurm that is not over",
    "BeginTime": "its time to begin has not come, or it was put back into the queue just now",
    "Licenses": "the licences that it asks for are in use",
    "Reservation": "its reservation has not begun",
    "ReqNodeNotAvail": _NODE_AWAY,
    "NodeDown": _NODE_AWAY,
    "Constraints": "no node that fits is free",
    "Cleaning": "its last run is being cleaned up",
    "Prolog": "its node is being prepared",
    "SchedDefer": "Slurm has put off starting it",
    "JobArrayTaskLimit": "as many of its array run as may run at once",
    "BurstBufferResources": "the burst buffer is in use",
    "BurstBufferStageIn": "its files are being moved into the burst buffer",
    "BlockMaxError": "its nodes had too many errors",
    "BlockFreeAction": "its nodes are being made free",
    "PowerNotAvail": "there is not enough electric power for it now",
    "PowerReserved": "the electric power that it needs is reserved",
    "FedJobLock": "the clusters of the federation agree on who starts it",
    "AssociationJobLimit": "its account has as many jobs as it may have",
    "AssociationResourceLimit": "its account uses as much as it may use",
    "QOSJobLimit": "its QOS has as many jobs as it may have",
    "QOSResourceLimit": "its QOS uses as much as it may use",
    "NonZeroExitCode": "its batch script ended with an exit code that is not 0",
    "SystemFailure": "Slurm, a filesystem or the network failed",
    "JobLaunchFailure": "its node could not start it; the path of its output or its user may not be there",
    "TimeLimit": "it reached its time limit",
    "InactiveLimit": "it did nothing for as long as Slurm allows",
    "OutOfMemory": "it used more memory than it had",
}

_STUCK: Mapping[str, str] = {
    "JobHeldUser": "somebody holds it (scontrol release lets it go)",
    "JobHeldAdmin": "an administrator of the cluster holds it",
    "JobHoldMaxRequeue": "it was put back into the queue too often, and Slurm holds it",
    "launch_failed_requeued_held": "its node could not start it, and Slurm holds it (scontrol release lets it go)",
    "job_requeued_in_held_state": "it was put back into the queue and is held (scontrol release lets it go)",
    "BadConstraints": "no node can ever have all that it asks for",
    "DependencyNeverSatisfied": "it depends on a job of Slurm that did not end as it should",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition is closed",
    "PartitionNodeLimit": "its partition has too few nodes for it, or they are down or drained",
    "PartitionTimeLimit": "it asks for more time than its partition gives",
    "PartitionConfig": "it asks for what its partition does not give",
    "FrontEndDown": "the cluster's front end is down",
    "InvalidAccount": "its account is not valid",
    "InvalidQOS": "its QOS is not valid",
    "AccountNotAllowed": "its account may not use its partition",
    "QOSNotAllowed": "its account or partition may not use its QOS",
    "QOSUsageThreshold": "its account has used too much for its QOS",
    "AssociationTimeLimit": "its account has used up its time",
    "QOSTimeLimit": "its QOS has used up its time",
    "AccountingPolicy": "it asks for more than its account or QOS may have",
    "MaxMemPerLimit": "it asks for more memory than a node or processor may give",
    "ReservationDeleted": "its reservation was deleted",
    "BurstBufferOperation": "its files could not be moved into or out of the burst buffer",
    "DeadLine": "it can no longer meet its deadline",
}

_FAMILIES: tuple[tuple[re.Pattern[str], str, bool], ...] = (
    (re.compile(r"AssocGrp\w*(?<!Run)Minutes(Limit)?"), "its account has used up what it had", True),
    (re.compile(r"QOSGrp\w*(?<!Run)Minutes(Limit)?"), "its QOS has used up what it had", True),
    (re.compile(r"AssocGrp\w+"), "its account uses as much as it may use at once", False),
    (re.compile(r"QOSGrp\w+"), "its QOS uses as much as it may use at once", False),
    (re.compile(r"AssocMax\w+Per(Job|Node)(Limit)?"), "it asks for more than its account may have in one job", True),
    (re.compile(r"QOSMax\w+Per(Job|Node)(Limit)?"), "it asks for more than its QOS gives one job", True),
    (re.compile(r"QOSMin\w+"), "it asks for less than its QOS demands", True),
    (
        re.compile(r"(AssocMax|QOSMax)\w+|Max\w+PerAccount"),
        "its user or account has all that it may have at once",
        False,
    ),
)
"""Limits of accounts (associations) and QOS: there are more than a hundred, and their names tell what they are."""

_FAILURES: Mapping[str, tuple[ExitKind, Blame | None]] = {
    "JobLaunchFailure": (ExitKind.START_FAILED, Blame.JOB),
    "SystemFailure": (ExitKind.RUNNER_LOST, Blame.RUNNER),
    "NodeDown": (ExitKind.RUNNER_LOST, Blame.RUNNER),
    "FrontEndDown": (ExitKind.RUNNER_LOST, Blame.RUNNER),
    "TimeLimit": (ExitKind.TIMEOUT, None),
    "InactiveLimit": (ExitKind.TIMEOUT, None),
    "DeadLine": (ExitKind.TIMEOUT, None),
    "OutOfMemory": (ExitKind.MEMORY, None),
}
"""What a job that has FAILED for such a reason ended of; for reasons that never pass: it could not be started."""

_SENTENCES: tuple[tuple[str, str], ...] = (
    ("Nodes_required_for_job_are_DOWN", "nodes that it could use are down, drained or reserved"),
)
"""Reasons that are whole sentences, by how they begin."""


def explain(text: str) -> Reason:
    """What a reason that squeue shows means, with or without its parentheses; one that is not known is passed on."""
    said = _plain(text.strip().removeprefix("(").removesuffix(")"))
    code = re.split(r"[,(:;]", said.replace(" ", "_"), maxsplit=1)[0]
    found = _meaning(code)
    if found is None:
        return Reason(code, said)
    says, stuck = found
    return Reason(code, f"{says} ({said})" if said else says, stuck)


def _meaning(code: str) -> tuple[str, bool] | None:
    if code in _PASSING:
        return _PASSING[code], False
    if code in _STUCK:
        return _STUCK[code], True
    for pattern, says, stuck in _FAMILIES:
        if pattern.fullmatch(code):
            return says, stuck
    return next(((says, False) for begin, says in _SENTENCES if code.startswith(begin)), None)


def _plain(text: str) -> str:
    """On one line, and not longer than a line of a page takes."""
    return " ".join(text.split())[:MAX_TEXT]
