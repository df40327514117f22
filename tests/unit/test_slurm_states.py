"""What each word of Slurm means here. That none is missing is looked at with the installed Slurm, in tests/slurm."""

from __future__ import annotations

from collections import Counter

import pytest

from air_executor.model import Blame, ExitKind
from air_executor.slurm import states
from air_executor.slurm.states import Phase

LOST, JOB, RUNNER = ExitKind.RUNNER_LOST, Blame.JOB, Blame.RUNNER

NOT_OVER = [
    # name, compact, phase, comes back, held
    ("PENDING", "PD", Phase.WAITING, False, False),
    ("CONFIGURING", "CF", Phase.WAITING, False, False),
    ("REQUEUED", "RQ", Phase.WAITING, True, False),
    ("REQUEUE_FED", "RF", Phase.WAITING, True, False),
    ("REQUEUE_HOLD", "RH", Phase.WAITING, True, True),
    ("SPECIAL_EXIT", "SE", Phase.WAITING, True, True),
    ("RESV_DEL_HOLD", "RD", Phase.WAITING, False, True),
    ("RUNNING", "R", Phase.RUNNING, False, False),
    ("RESIZING", "RS", Phase.RUNNING, False, False),
    ("SIGNALING", "SI", Phase.RUNNING, False, False),
    ("COMPLETING", "CG", Phase.RUNNING, False, False),
    ("STAGE_OUT", "SO", Phase.RUNNING, False, False),
    ("REVOKED", "RV", Phase.RUNNING, False, False),
    ("SUSPENDED", "S", Phase.RUNNING, True, False),
    ("STOPPED", "ST", Phase.RUNNING, True, False),
]
OVER = [
    ("COMPLETED", "CD", LOST, JOB, "it wrote no end"),
    ("FAILED", "F", LOST, JOB, "it failed"),
    ("TIMEOUT", "TO", ExitKind.TIMEOUT, None, "Slurm ended it at its time limit"),
    ("DEADLINE", "DL", ExitKind.TIMEOUT, None, "at its deadline"),
    ("OUT_OF_MEMORY", "OOM", ExitKind.MEMORY, None, "more memory"),
    ("CANCELLED", "CA", ExitKind.CANCELLED, None, "cancelled in Slurm"),
    ("PREEMPTED", "PR", LOST, RUNNER, "preemption"),
    ("NODE_FAIL", "NF", LOST, RUNNER, "its node failed"),
    ("BOOT_FAIL", "BF", LOST, RUNNER, "booted"),
    ("LAUNCH_FAILED", "", LOST, RUNNER, "could not start it"),
    ("RECONFIG_FAIL", "", LOST, RUNNER, "prepared"),
]


@pytest.mark.parametrize(("name", "compact", "phase", "comes_back", "held"), NOT_OVER)
def test_not_over(name: str, compact: str, phase: Phase, comes_back: bool, held: bool) -> None:
    state = states.parse(name)
    assert states.parse(f" {compact}\n") is state
    assert (state.phase, state.comes_back, state.held, state.over) == (phase, comes_back, held, False)
    assert (state.kind, state.blame) == (None, None)


@pytest.mark.parametrize(("name", "compact", "kind", "blame", "says"), OVER)
def test_over(name: str, compact: str, kind: ExitKind, blame: Blame | None, says: str) -> None:
    state = states.parse(name)
    assert not compact or states.parse(compact) is state
    assert (state.over, state.comes_back, state.held) == (True, False, False)
    assert (state.kind, state.blame) == (kind, blame)
    assert says in state.says


def test_no_word_means_two_states() -> None:
    words = Counter(word for state in states.STATES for word in (state.name, state.compact) if word)
    assert [word for word, count in words.items() if count > 1] == []
    assert all(state.says for state in states.STATES)


def test_cancelled_by_somebody() -> None:
    state = states.parse("CANCELLED by 1000")
    assert (state.name, state.kind, state.over) == ("CANCELLED", ExitKind.CANCELLED, True)
    assert state.says == "it was cancelled in Slurm by the user with the id 1000"


@pytest.mark.parametrize("text", ["HIBERNATING", "completed", "X", "RUNNING+", "PD,R"])
def test_unknown_is_not_over_and_said(text: str) -> None:
    state = states.parse(text)
    assert (state.phase, state.over, state.kind) == (Phase.UNKNOWN, False, None)
    assert f"'{text}'" in state.says


def test_no_state_and_odd_states() -> None:
    assert states.parse("").phase is states.parse(" \n").phase is Phase.UNKNOWN
    long = states.parse("ODD\n" + "x" * 9000)
    assert len(long.says) < 2 * states.MAX_TEXT
    assert "\n" not in long.says


@pytest.mark.parametrize(
    ("reason", "kind", "blame", "says"),
    [
        ("", LOST, JOB, "Slurm says that it failed"),
        ("None", LOST, JOB, "Slurm says that it failed"),
        ("NonZeroExitCode", LOST, JOB, "an exit code that is not 0"),
        ("SomethingNew", LOST, JOB, "it failed: SomethingNew"),
        ("JobLaunchFailure", ExitKind.START_FAILED, JOB, "could not start it"),
        ("(SystemFailure)", LOST, RUNNER, "filesystem or the network"),
        ("NodeDown", LOST, RUNNER, "down"),
        ("TimeLimit", ExitKind.TIMEOUT, None, "time limit"),
        ("OutOfMemory", ExitKind.MEMORY, None, "memory"),
        ("BadConstraints", ExitKind.START_FAILED, None, "no node can ever"),
    ],
)
def test_failed_because(reason: str, kind: ExitKind, blame: Blame | None, says: str) -> None:
    state = states.because(states.parse("F"), reason)
    assert (state.name, state.over, state.kind, state.blame) == ("FAILED", True, kind, blame)
    assert says in state.says


@pytest.mark.parametrize("name", ["CANCELLED", "TIMEOUT", "NODE_FAIL", "PENDING", "RUNNING"])
def test_reasons_of_others_are_old(name: str) -> None:
    assert states.because(states.parse(name), "BadConstraints") is states.parse(name)


STUCK = [
    "JobHeldUser",
    "JobHeldAdmin",
    "launch_failed_requeued_held",
    "(launch failed requeued held)",
    "job requeued in held state",
    "BadConstraints",
    "DependencyNeverSatisfied",
    "PartitionDown",
    "PartitionInactive",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "PartitionConfig",
    "InvalidAccount",
    "InvalidQOS",
    "QOSNotAllowed",
    "ReservationDeleted",
    "AssocGrpCPUMinutesLimit",
    "QOSGrpGRESMinutes",
    "AssocMaxWallDurationPerJobLimit",
    "AssocMaxCpuPerNode",
    "QOSMaxCpuMinutesPerJobLimit",
    "QOSMinGRES",
]
PASSING = [
    "",
    "None",
    "Priority",
    "Resources",
    "Dependency",
    "BeginTime",
    "Licenses",
    "Cleaning",
    "JobArrayTaskLimit",
    "ReqNodeNotAvail",
    "ReqNodeNotAvail, UnavailableNodes:",
    "ReqNodeNotAvail, UnavailableNodes:n1",  # which may come back
    "(ReqNodeNotAvail,_UnavailableNodes:n[1-3])",
    "NodeDown",
    "ReqNodeNotAvail, May be reserved for other job",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
    "AssocGrpCpuLimit",
    "AssocGrpCPURunMinutesLimit",
    "AssocMaxJobsLimit",
    "QOSMaxJobsPerUserLimit",
    "QOSMaxSubmitJobPerUserLimit",
    "MaxCpuPerAccount",
]


@pytest.mark.parametrize("reason", STUCK)
def test_reasons_that_need_somebody(reason: str) -> None:
    found = states.explain(reason)
    assert found.stuck
    assert found.says.endswith(f"({reason.strip('()')})")


@pytest.mark.parametrize("reason", PASSING)
def test_reasons_that_pass(reason: str) -> None:
    found = states.explain(reason)
    assert not found.stuck
    assert len(found.says) > len(reason) + 5


def test_unknown_reasons_are_passed_on() -> None:
    assert states.explain("(Waiting for the\tmoon)") == states.Reason("Waiting_for_the_moon", "Waiting for the moon")
    assert len(states.explain("x" * 9000).says) == states.MAX_TEXT
