"""What was submitted to Slurm, and how a runner and Slurm get on: files, whole, damaged or of another version."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from air_executor.paths import Home
from air_executor.slurm import condition, record
from air_executor.slurm.condition import Condition, Pilot, Refusal
from air_executor.slurm.record import Record
from tests.unit.conftest import Submit

FULL = Record(2, "job.0123456789abcdef", "2026-01-01T00:00:00Z", 4, "12_4", "PENDING", "Priority", "main", "n1", "then")


def test_a_record_is_read_as_it_was_written(home: Home, submit: Submit) -> None:
    paths = home.job(submit().name)
    assert not record.exists(paths)
    assert record.read(paths, 1) is None
    record.write(paths, FULL, durable=True)
    assert record.exists(paths)
    assert record.read(paths, 2) == FULL
    assert record.read(paths, 1) is None  # of another attempt
    assert record.read(paths, 3) is None


SOUND = {"attempt": 1, "submission": "job.0123456789abcdef"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00" * 40,
        json.dumps(SOUND)[:-5],
        *(
            json.dumps({**SOUND, **damage})
            for damage in (
                {"attempt": "1"},
                {"attempt": None},
                {"submission": None},
                {"submission": 5},
                {"id": 12},
                {"state": ["PENDING"]},
                {"reason": {}},
                {"element": "4"},
                {"node": 1},
            )
        ),
        json.dumps({"attempt": 1}),
        json.dumps({"submission": "x"}),
    ],
)
def test_a_damaged_record_is_none(home: Home, submit: Submit, content: str) -> None:
    paths = home.job(submit().name)
    paths.slurm.write_text(content)
    assert record.read(paths, 1) is None
    assert record.exists(paths)


def test_a_record_of_a_newer_version(home: Home, submit: Submit) -> None:
    paths = home.job(submit().name)
    paths.slurm.write_text(json.dumps({**SOUND, "schema": 1, "of_tomorrow": {"a": 1}}))
    assert record.read(paths, 1) == Record(1, "job.0123456789abcdef")


def test_what_is_no_file_is_no_record(home: Home, submit: Submit) -> None:
    paths = home.job(submit().name)
    paths.slurm.mkdir()
    assert record.read(paths, 1) is None
    record.write(paths, FULL, durable=False)
    assert record.read(paths, 2) == FULL


def test_where() -> None:
    assert FULL.where == "the Slurm job 12_4"
    assert Record(1, "job.x").where == "the Slurm job named job.x"


# --- The home's id ---

ASK = (
    "import sys; from air_executor.paths import Home; from air_executor.slurm import record; from pathlib import Path\n"
)
ASK += "sys.stdin.read(); print(record.home_id(Home(Path(sys.argv[1]))))"


def test_the_id_is_made_once(home: Home) -> None:
    """By twenty at once, of several processes."""
    asked = [sys.executable, "-c", ASK, str(home.root)]
    others = [subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    with ThreadPoolExecutor(20) as pool:
        for other in others:
            assert other.stdin is not None
            other.stdin.close()
            other.stdin = None
        found = {*pool.map(lambda _: record.home_id(home), range(20))}
    found |= {other.communicate(timeout=30)[0].strip() for other in others}
    assert len(found) == 1
    assert [path.name for path in home.slurm.iterdir()] == ["id"]


@pytest.mark.parametrize("content", [b"", b"0123", b"not-an-id", b"\xff" * 8, b"0123456789abcdef"])
def test_a_damaged_id_is_made_anew(home: Home, content: bytes) -> None:
    home.slurm.mkdir()
    home.slurm_id.write_bytes(content)
    made = record.home_id(home)
    assert len(made) == record.HOME_ID_LENGTH
    assert record.home_id(home) == made


def test_submissions_are_told_from_those_of_other_homes() -> None:
    own, other = "01234567", "89abcdef"
    name = record.name_submission("a.job-1", own)
    assert name != record.name_submission("a.job-1", own)
    assert record.parse_submission(name, own) == "a.job-1"
    assert record.parse_submission(name, other) is None
    foreign = [
        "a.job-1",
        "",
        f"job.{own}",
        f"job.{own}0123456",
        f"job.{own}0123456g",
        f".{own}01234567",
        f"job{own}01234567",
    ]
    assert [record.parse_submission(each, own) for each in foreign] == [None] * len(foreign)
    dotted = record.name_submission(f"job.{other}01234567", own)  # a job that is called as a submission is
    assert record.parse_submission(dotted, own) == f"job.{other}01234567"


# --- How a runner and Slurm get on ---

TOLD = Condition(
    "r1", "now", "then", "sbatch: no", "long", 1, 2, 3, {"PENDING": 4}, {"Priority": 4},
    (Refusal("t", "job", "q", "why"),), 9, (Pilot("p", "q", "5", "RUNNING", "n1"),), 7,
)  # fmt: skip


def test_a_condition_is_read_as_it_was_written(home: Home) -> None:
    assert list(condition.read_all(home)) == []
    condition.write(home, TOLD)
    condition.write(home, Condition("r0", "now"))
    assert list(condition.read_all(home)) == [Condition("r0", "now"), TOLD]
    condition.remove(home, "r1")
    condition.remove(home, "r1")
    assert [each.runner for each in condition.read_all(home)] == ["r0"]


def test_a_condition_of_a_newer_version(home: Home) -> None:
    condition.write(home, TOLD)
    path = home.slurm_condition("r1")
    content: dict[str, Any] = json.loads(path.read_text())
    for each in (content, content["refusals"][0], content["pilots"][0]):
        each["of_tomorrow"] = [1]
    path.write_text(json.dumps(content))
    assert list(condition.read_all(home)) == [TOLD]


@pytest.mark.parametrize(
    "damage",
    [
        {"states": []},
        {"states": {"PENDING": "many"}},
        {"reasons": None},
        {"refusals": 5},
        {"refusals": ["x"]},
        {"refusals": [{"at": "t"}]},
        {"pilots": {"a": 1}},
        {"polls": "many"},
    ],
)
def test_damaged_conditions_hide_no_others(home: Home, damage: dict[str, Any]) -> None:
    condition.write(home, TOLD)
    sound = json.loads(home.slurm_condition("r1").read_text())
    home.slurm_condition("r0").write_text(json.dumps({**sound, **damage}))
    home.slurm_condition("r2").write_text("{")
    home.slurm_condition("r3").mkdir()
    (home.slurm_conditions / "odd name.json").write_text("{}")
    (home.slurm_conditions / ".r1.json.tmp").write_text("{}")
    assert list(condition.read_all(home)) == [TOLD]
