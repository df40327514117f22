"""What a job's record and Slurm's rows mean together; what is submitted how, and when. No I/O but a shell's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from air_executor import model
from air_executor.slurm import states
from air_executor.slurm.record import Record
from air_runner.slurm import decisions
from air_runner.slurm.commands import Row
from air_runner.slurm.decisions import Stage, Tracked
from air_runner.slurm.node import read_why


def row(
    number: str, state: str = "PENDING", reason: str | None = None, name: str = "s", node: str | None = None
) -> Row:
    return Row(number, states.parse(state), reason, "main", node, name)


@pytest.mark.parametrize(
    ("number", "element", "rows", "found"),
    [
        (None, None, [], None),
        (None, None, ["4 PENDING"], "4"),
        (None, None, ["3 CANCELLED", "4 RUNNING", "5 FAILED"], "4"),
        (None, None, ["3 CANCELLED"], "3"),
        (None, None, ["4_0 PENDING"], None),
        (None, 1, ["4_0 PENDING", "4_1 RUNNING"], "4_1"),
        (None, 0, ["4 PENDING"], None),
        ("4", None, ["3 RUNNING", "4 FAILED"], "4"),
        ("4", None, ["3 RUNNING"], None),
        ("4_1", 1, ["4_0 RUNNING", "4_1 FAILED", "5_1 RUNNING"], "4_1"),
        ("4_1", 1, ["5_1 RUNNING"], None),
    ],
)
def test_find(number: str | None, element: int | None, rows: list[str], found: str | None) -> None:
    answer = decisions.find(Record(1, "s", element=element, id=number), [row(*each.split()) for each in rows])
    assert (answer.id if answer else None) == found


def test_told_changes_nothing_without_news() -> None:
    record = decisions.told(Record(1, "s"), row("4", reason="Priority"), "now")
    assert record == Record(1, "s", id="4", state="PENDING", reason="Priority", partition="main", seen_at="now")
    assert decisions.told(record, row("4", reason="Priority"), "later") is record
    assert decisions.told(record, row("4", "RUNNING", node="n1"), "later").node == "n1"


def test_pauses_grow_to_a_limit() -> None:
    pauses = [decisions.pause(failures) for failures in range(1, 12)]
    assert pauses[:3] == [2.0, 4.0, 8.0]
    assert pauses[-1] == decisions.pause(10**9) == decisions.MAX_PAUSE
    assert decisions.pause(0) == decisions.pause(-1) == decisions.FIRST_PAUSE


def test_intervals_grow_until_there_is_news() -> None:
    interval, seen = decisions.FIRST_POLL, []
    for _ in range(10):
        interval = decisions.next_interval(interval, 15.0, news=False)
        seen.append(interval)
    assert seen == sorted(seen)
    assert seen[-1] == 15.0
    assert decisions.next_interval(15.0, 15.0, news=True) == decisions.FIRST_POLL
    assert decisions.next_interval(15.0, 0.5, news=True) == 0.5


def tracked(name: str, queue: str = "q", **options: object) -> Tracked:
    return Tracked(model.Job(name, queue=queue), options=options)


def test_batches() -> None:
    ready = [
        tracked("a", array=2),
        tracked("alone"),
        tracked("b", array=2),
        tracked("elsewhere", queue="r", array=2),
        tracked("c", array=2),
        tracked("more", array=2, cpus=4),
        tracked("flags", array=2, extra=["--x"]),
        tracked("flagged", extra=["--x"], array=2),
        tracked("single", array=1),
    ]
    names = [[each.job.name for each in batch] for batch in decisions.batches(ready)]
    assert names == [
        ["a", "b"], ["alone"], ["elsewhere"], ["c"], ["more"], ["flags", "flagged"], ["single"],
    ]  # fmt: skip
    many = [tracked(str(number), array=10**6) for number in range(2500)]
    assert [len(batch) for batch in decisions.batches(many)] == [1000, 1000, 500]
    assert decisions.batches([]) == []


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )


ODD = 'it\'s a "job" $HOME `id` \\ \n*'


def test_a_script_passes_all_words_as_they_are() -> None:
    done = run(decisions.script("x='a b'", ["printf", "<%s>", ODD, "--"], ["job-1"], ["/log"]))
    assert (done.stdout, done.stderr) == (f"<{ODD}><--><job-1>", "")


def test_the_script_of_an_array_chooses_the_job_and_its_log(tmp_path: Path) -> None:
    logs = [tmp_path / "it's $1 %a.log", tmp_path / "b.log"]
    script = decisions.script("echo set up", ["printf", "%s"], ["a", "b"], [str(log) for log in logs])
    assert [run(script, SLURM_ARRAY_TASK_ID=str(number)).stdout for number in (0, 1)] == ["", ""]
    assert [log.read_text() for log in logs] == ["set up\na", "set up\nb"]


@pytest.mark.parametrize(
    "setup",
    [
        "export FOUND=yes",
        "# a comment\nexport FOUND=yes  # and another",
        "if true; then\n  export FOUND=yes\nfi\n",
        "cat >/dev/null <<END\n$HOME\nEND\nexport FOUND=yes",
        "export FOUND=yes \\",
        "job=mine; export FOUND=yes",
    ],
)
def test_odd_lines_before_python(setup: str) -> None:
    done = run(decisions.script(setup, ["sh", "-c", 'echo "$FOUND $0"'], ["job-1"], [""]))
    assert (done.stdout, done.returncode) == ("yes job-1\n", 0), done.stderr


@pytest.mark.parametrize("setup", ["set -e; no-such-command; true", "no-such-command cuda", "no-such-command \\"])
def test_lines_that_fail_end_the_script_with_an_error(setup: str) -> None:
    done = run(decisions.script(setup, ["echo", "ran"], ["job-1"], [""]))
    assert (done.returncode, done.stdout) == (127, "")
    assert "no-such-command" in done.stderr


def test_setup_that_fails_says_so_last() -> None:
    assert run(decisions.script("false", ["true"], ["j"], [""])).stderr.endswith("setup failed with exit code 1\n")


def test_counts() -> None:
    def there(state: str | None, reason: str | None = None, number: str | None = "1") -> Tracked:
        return Tracked(model.Job("j"), Record(1, "s", id=number, state=state, reason=reason))

    over = there("FAILED")
    over.over = states.parse("FAILED")
    all_ = [there("RUNNING"), there("PENDING", "Priority"), there("PENDING", "Resources"), there(None), over]
    all_ += [there(None, number=None), Tracked(model.Job("j"))]
    assert decisions.count_states(all_) == ({"PENDING": 3, "RUNNING": 1}, {"Priority": 1, "Resources": 1})
    stages = [decisions.stage(each) for each in all_]
    assert stages == [Stage.THERE] * 4 + [Stage.OVER, Stage.UNSURE, Stage.TO_SUBMIT]


# --- Why Slurm ends what runs ---


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("JobId=4 JobState=COMPLETING Reason=TimeLimit TimeLimit=00:01:00", "timeout", "its time limit of 00:01:00"),
        ("JobId=4 JobState=TIMEOUT Reason=None", "timeout", "its time limit"),
        ("JobId=4 JobState=PREEMPTED Reason=None", "runner_lost", "preempted"),
        ("JobId=4 JobState=RUNNING Reason=None PreemptTime=2026-01-01T00:00:00", "runner_lost", "preempted"),
        ("JobId=4 JobState=CANCELLED Reason=None PreemptTime=None TimeLimit=01:00:00", "cancelled", "scancel"),
        ("", "cancelled", "Slurm ended its job 4"),
        ("slurm_load_jobs error: Unable to contact slurm controller", "cancelled", "Slurm ended its job 4"),
    ],
)
def test_why_slurm_ends_a_job(said: str, kind: str, words: str) -> None:
    outcome = read_why("4", said)
    assert outcome.kind == kind
    assert words in outcome.reason


# --- When jobs are submitted ---


def test_what_may_be_an_array_waits_a_moment_for_others() -> None:
    failed = tracked("failed", array=5)
    failed.failures = 2
    assert [decisions.first_pause(each) for each in (tracked("a"), tracked("b", array=5), failed)] == [0, 0.2, 4.0]
    first, second, late, alone = (
        tracked(name, **({"array": 5} if name != "alone" else {})) for name in ("1", "2", "late", "alone")
    )
    first.not_before, second.not_before, late.not_before, alone.not_before = 10.0, 10.19, 14.0, 10.1
    names = [
        [each.job.name for each in decisions.ready([first, second, late, alone], now)] for now in (9.9, 10.0, 10.15)
    ]
    assert names == [[], ["1", "2"], ["1", "2", "alone"]]
