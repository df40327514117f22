"""What Slurm's commands say, and with which environment they are called."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from air_executor.slurm.states import Phase
from air_runner.slurm import commands
from air_runner.slurm.commands import AwayError, BusyError, MissingError, RefusedError, Slurm, SlurmError

_NO_SUBMIT = "Batch job submission failed: "
_POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
AWAY = [
    [_NO_SUBMIT + "Unable to contact slurm controller (connect failure)"],
    ["slurm_load_jobs error: Unable to contact slurm controller (connect failure)"],
    ["Kill job error on job id 4: Unable to contact slurm controller (connect failure)"],
    [_NO_SUBMIT + "Socket timed out on send/recv operation"],
    [_NO_SUBMIT + "Zero Bytes were transmitted or received"],
    ["slurm_receive_msg: Zero Bytes were transmitted or received", "slurm_load_jobs error: "],
    ["slurm_load_jobs error: Slurm backup controller in standby mode"],
    ["If munged is up, restart with --num-threads=10", 'Munge encode failed: Failed to access "/run/munge/socket.2"'],
    [_NO_SUBMIT + "Protocol authentication error"],
    [_NO_SUBMIT + "Invalid authentication credential"],
    [_NO_SUBMIT + "Slurm temporarily unable to accept job, sleeping and retrying"],
    [_NO_SUBMIT + "Resource temporarily unavailable"],
    [_NO_SUBMIT + "Unexpected message received"],
    ["resolve_ctls_from_dns_srv: res_nsearch error: Unknown host", "Could not establish a configuration source"],
    ["Unable to process configuration file"],
    ["Problem talking to the database: Connection refused"],
]
BUSY = [
    ["AssocMaxSubmitJobLimit", _NO_SUBMIT + _POLICY],
    ["AssocGrpSubmitJobsLimit", _NO_SUBMIT + _POLICY],
    ["QOSMaxSubmitJobPerUserLimit", _NO_SUBMIT + _POLICY],
    ["QOSGrpSubmitJobsLimit", _NO_SUBMIT + _POLICY],
    [_NO_SUBMIT + "Required partition not available (inactive or drain)"],
]
REFUSED = [
    ["QOSMaxCpuPerJobLimit", _NO_SUBMIT + _POLICY],
    ["QOSMaxWallDurationPerJobLimit", _NO_SUBMIT + _POLICY],
    ["invalid partition specified: nope", _NO_SUBMIT + "Invalid partition name specified"],
    [_NO_SUBMIT + "Invalid account or account/partition combination specified"],
    [_NO_SUBMIT + "Invalid qos specification"],
    [_NO_SUBMIT + "Requested time limit is invalid (missing or exceeds some limit)"],
    ["Invalid --time specification"],
    ["Memory specification can not be satisfied", _NO_SUBMIT + "Requested node configuration is not available"],
    [_NO_SUBMIT + "Invalid generic resource (gres) specification"],
    [_NO_SUBMIT + "Invalid feature specification"],
    [_NO_SUBMIT + "Access/permission denied"],
    ["unrecognized option '--gresses=gpu'"],
    [],
]
SAID: list[tuple[type[SlurmError], list[str]]] = [
    *((AwayError, lines) for lines in AWAY),
    *((BusyError, lines) for lines in BUSY),
    *((RefusedError, lines) for lines in REFUSED),
]


@pytest.mark.parametrize(("kind", "lines"), SAID, ids=[f"{kind.__name__}-{''.join(said)[:40]}" for kind, said in SAID])
def test_what_they_say(kind: type[SlurmError], lines: list[str]) -> None:
    said = "".join(f"sbatch: error: {line}\n" for line in lines)
    assert type(commands.classify("sbatch", said, 1)) is kind


def test_an_error_is_one_line_without_repetitions() -> None:
    said = (
        "sbatch: error: invalid partition specified: nope\n\n" * 3 + "sbatch: fatal: Invalid partition name specified\n"
    )
    text = str(commands.classify("sbatch", said, 1))
    assert text == "sbatch: invalid partition specified: nope; Invalid partition name specified"
    said = 'sbatch: unrecognized option "--nope"\nTry "sbatch --help" for more information\n'
    assert str(commands.classify("sbatch", said, 1)) == 'sbatch: unrecognized option "--nope"'
    said = "sbatch: error: sbatch: error: no\nslurm_x: error: no\nsbatch: no\n"
    assert str(commands.classify("sbatch", said, 1)) == "sbatch: no"
    assert str(commands.classify("sbatch", "", 3)) == "sbatch: exit code 3"
    assert len(str(commands.classify("sbatch", "x" * 10_000, 1))) < 600


def test_rows() -> None:
    said = "\n".join(
        [
            "CLUSTER: other",
            "7|RUNNING|None|main|n1|job.0123456789abcdef",
            "8_3|PENDING|Priority|main,small||with|a|bar",
            "9_[0-4]|PENDING|Resources|main||array",
            "10+1|RUNNING|None|main|n[1-2]|het",
            "  11|NEVER_HEARD_OF|None|main|n1|new  ",
            "12|PENDING",
            "squeue: warning of some kind",
            "",
        ]
    )
    rows = commands.parse_rows(said)
    assert [(row.id, row.element, row.state.phase) for row in rows] == [
        ("7", None, Phase.RUNNING),
        ("8_3", 3, Phase.WAITING),
        ("9_[0-4]", None, Phase.WAITING),
        ("10+1", None, Phase.RUNNING),
        ("11", None, Phase.UNKNOWN),
    ]
    assert (rows[0].reason, rows[1].reason, rows[1].node, rows[1].name) == (None, "Priority", None, "with|a|bar")
    assert rows[4].name == "new"


def test_the_environment_of_commands() -> None:
    kept = {
        "PATH": "/bin",
        "SLURM_CONF": "/c",
        "SLURM_TIME_FORMAT": "x",
        "SBATCH_ACCOUNT": "a",
        "SBATCH_EXPORT": "NONE",
    }
    lost = ["SLURM_JOB_ID", "SLURM_JOBID", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_STEP_ID", "SLURM_ARRAY_TASK_ID"]
    lost += ["SLURM_MEM_PER_NODE", "SLURM_CPUS_ON_NODE", "SLURM_TASK_PID", "SLURM_NODELIST"]
    filters = [
        "SQUEUE_PARTITION",
        "SQUEUE_STATES",
        "SQUEUE_FORMAT",
        "SCANCEL_INTERACTIVE",
        "SCANCEL_STATE",
        "SACCT_FORMAT",
    ]
    losing = ["SBATCH_WAIT", "SBATCH_SIGNAL", "SBATCH_ARRAY_INX", "SBATCH_CLUSTERS", "SBATCH_ERROR", "SBATCH_INPUT"]
    assert commands.clean({**kept, **dict.fromkeys([*lost, *filters, *losing], "1")}) == kept


# --- Commands that are programs of a few lines ---


def install(place: Path, **programs: str) -> Slurm:
    """A Slurm whose commands are these shell scripts."""
    for name, script in programs.items():
        path = place / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Slurm(5.0, {"PATH": f"{place}:{os.environ['PATH']}"})


@pytest.mark.parametrize(
    ("script", "number"), [("echo 12", "12"), ("echo '12;cluster'", "12"), ("cat >&2; echo 5", "5")]
)
def test_the_number_of_a_submission(tmp_path: Path, script: str, number: str) -> None:
    assert install(tmp_path, sbatch=script).submit(["--x"], "#!/bin/sh\n") == number


def test_an_answer_that_is_no_number_is_none(tmp_path: Path) -> None:
    with pytest.raises(AwayError, match="'Submitted batch job 12'"):
        install(tmp_path, sbatch="echo Submitted batch job 12").submit([], "")


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    slurm = install(tmp_path, squeue="exec sleep 60")
    slurm._timeout = 0.1
    with pytest.raises(AwayError, match=r"squeue did not answer within 0\.1 s"):
        slurm.jobs()


def test_a_command_that_is_not_there() -> None:
    slurm = Slurm(1.0, {"PATH": "/nowhere"})
    assert not slurm.is_installed()
    with pytest.raises(MissingError, match=r"sbatch is not on the PATH of the runner.*slurm-client"):
        slurm.submit([], "")


def test_a_command_that_cannot_be_executed(tmp_path: Path) -> None:
    slurm = install(tmp_path, squeue="true")
    (tmp_path / "squeue").write_bytes(b"\x7fELF nothing")
    slurm._environ["PATH"] = str(tmp_path)
    with pytest.raises(AwayError, match="squeue cannot be started"):
        slurm.jobs()


def test_cancelling_what_has_ended_is_no_error(tmp_path: Path) -> None:
    said = "scancel: error: Kill job error on job id 4: Invalid job id specified"
    install(tmp_path, scancel=f"echo '{said}' >&2; exit 1").cancel(["4"])
    with pytest.raises(RefusedError, match="permission denied"):
        install(tmp_path, scancel="echo 'scancel: error: Access/permission denied' >&2; exit 1").cancel(["4"])


def test_accounts(tmp_path: Path) -> None:
    config = "echo 'AccountingStorageType   = accounting_storage/slurmdbd'"
    slurm = install(tmp_path, scontrol=config, sacct="printf '4|CANCELLED by 7\\n5|COMPLETED\\n9|FAILED\\nnonsense\\n'")
    assert slurm.past([]) == {}
    assert slurm.past(["4", "5"]) == {"4": "CANCELLED by 7", "5": "COMPLETED"}
    assert install(tmp_path, scontrol="echo 'AccountingStorageType = accounting_storage/none'").past(["4"]) == {}
    closed = "echo 'sacct: error: Slurm accounting storage is disabled' >&2; exit 1"
    assert install(tmp_path, scontrol=config, sacct=closed).past(["4"]) == {}
    with pytest.raises(AwayError):
        install(tmp_path, scontrol=config, sacct="echo 'sacct: error: Connection refused' >&2; exit 1").past(["4"])
