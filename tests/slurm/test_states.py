"""No word of the installed Slurm is missing in the tables: a newer one that has more fails here."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from air_executor.slurm import states
from air_executor.slurm.states import Phase
from air_executor.testing import wait_for
from tests.slurm.cluster import Cluster

ASK_LIBRARY = """
import ctypes, json, sys
library = ctypes.CDLL(sys.argv[1])
def say(function, number):
    getattr(library, function).restype = ctypes.c_char_p
    return getattr(library, function)(ctypes.c_uint32(number)).decode()
numbers = [*range(256), *(1 << bit for bit in range(8, 32))]
pairs = [(say("job_state_string", number), say("job_state_string_compact", number)) for number in numbers]
print(json.dumps({"states": pairs, "reasons": [say("job_reason_string", number) for number in range(500)]}))
"""
"""Base states have one byte, flags one bit of the others; a number that it does not know is `?`, or itself."""


@pytest.fixture(scope="module")
def words() -> dict[str, list[list[str]]]:
    """What Slurm's own library calls states and reasons."""
    squeue = subprocess.run(["sh", "-c", "ldd $(command -v squeue)"], capture_output=True, text=True, check=True).stdout
    library = re.search(r"libslurmfull\S* => (\S+)", squeue)
    assert library is not None, squeue
    asked = [sys.executable, "-c", ASK_LIBRARY, library[1]]
    return json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)  # type: ignore[no-any-return]


def test_every_state_that_squeue_names(cluster: Cluster) -> None:
    refused = cluster.run("squeue", "--states=nonsense", code=1).stderr
    listed = re.search(r"Valid job states include: (\S+)", refused)
    assert listed is not None, refused
    names = listed[1].split(",")
    assert len(names) > 20
    assert [name for name in names if states.parse(name).phase is Phase.UNKNOWN] == []


def test_squeue_takes_the_compact_names(cluster: Cluster) -> None:
    compact = [state.compact for state in states.STATES if state.compact]
    cluster.run("squeue", f"--states={','.join(compact)}")


def test_every_state_of_the_library(words: dict[str, list[list[str]]]) -> None:
    pairs = {(full, compact) for full, compact in words["states"] if full != "?"}
    assert len(pairs) > 20
    assert pairs - {(state.name, state.compact) for state in states.STATES} == set()


def test_every_reason_of_the_library(words: dict[str, list[str]]) -> None:
    reasons = [reason for reason in words["reasons"] if not reason.isdecimal()]
    assert len(reasons) > 150
    assert [reason for reason in reasons if states.explain(reason).says == reason] == []


def test_states_of_real_jobs(cluster: Cluster) -> None:
    """What squeue says of jobs that wait for ever, of one that waits, and of one that was cancelled."""
    held = cluster.submit("true", "--hold")
    large = cluster.submit("true", "--cpus-per-task=400")
    late = cluster.submit("true", "--begin=now+1hour")
    cluster.run("scancel", gone := cluster.submit("true", "--hold"))
    found = {row.id: row for row in cluster.squeue()}
    phases = {job: states.parse(found[job].state).phase for job in (held, large, late, gone)}
    assert phases == {held: Phase.WAITING, large: Phase.WAITING, late: Phase.WAITING, gone: Phase.OVER}
    assert [states.explain(found[job].reason).stuck for job in (held, large)] == [True, True]

    def reason_of_late() -> states.Reason:
        return states.explain(next(row.reason for row in cluster.squeue() if row.id == late))

    wait_for(lambda: reason_of_late().code == "BeginTime", what="the reason for which the job waits")
    assert not reason_of_late().stuck
    cluster.run("scancel", held, large, late)
