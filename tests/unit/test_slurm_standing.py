"""How runners and Slurm get on, and how a job stands there: in words, in `status`, `show`, `list` and `logs`."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from typing import Any

import pytest

from air_executor import _files, cli, model, pauses, repair, runners, spool, status
from air_executor.cli import control
from air_executor.health import Verdict
from air_executor.paths import Home
from air_executor.slurm import condition, failing, pilots, record, standing
from air_executor.slurm.condition import Condition, Failing, Pilot, Refusal
from air_executor.testing import wait_for
from air_runner import ephemeral, metrics
from tests.unit.conftest import Submit, finish
from tests.unit.test_repair import GONE
from tests.unit.test_runners import ago, info

AT = "2026-01-02T03:04:05.000000Z"
WELL = Condition("r", AT, answered_at=AT, states={"PENDING": 3, "RUNNING": 2, "COMPLETING": 1, "NEWER": 1})
AWAY = dataclasses.replace(WELL, trouble="squeue did not answer within 30 s", trouble_since=AT)
STUCK = dataclasses.replace(WELL, reasons={"Resources": 1, "PartitionDown": 2})
RECORD = record.Record(1, "job.aaaaaaaabbbbbbbb", AT)
PENDING = dataclasses.replace(RECORD, id="12", state="PENDING", reason="Resources", partition="gpu", seen_at=AT)
JOB = model.Job("job")


def run(home: Home, *words: str) -> int:
    return cli.main(["--home", str(home.root), *words])


# --- Runners ---


def test_what_a_runner_noted_in_words() -> None:
    found = standing.describe(dataclasses.replace(STUCK, to_submit=4, unsure=1, held_on=1), alive=True)
    assert (found.to_submit, found.waiting, found.running, found.held_on) == (5, 3, 4, 1)
    assert [(wait.reason, wait.jobs, wait.stuck) for wait in found.waits] == [
        ("PartitionDown", 2, True),
        ("Resources", 1, False),
    ]
    assert "its partition is down (PartitionDown)" in found.waits[0].says
    (limited,) = standing.describe(dataclasses.replace(WELL, limits={"MaxJobs": 3}), alive=True).waits
    assert (limited.jobs, limited.stuck) == (3, False) and "no more for now (MaxJobs)" in limited.says


@pytest.mark.parametrize(
    ("noted", "alive", "answers", "sentence"),
    [
        (Condition("r", AT), True, None, "not asked yet"),
        (WELL, True, True, "yes"),
        (AWAY, True, False, "no"),
        (dataclasses.replace(AWAY, answered_at=None), True, False, "no"),
        (WELL, False, True, "the runner is gone"),
    ],
)
def test_whether_slurm_answers(noted: Condition, alive: bool, answers: bool | None, sentence: str) -> None:
    found = standing.describe(noted, alive=alive)
    assert (found.answers, found.sentence) == (answers, sentence)


def test_problems_are_of_runners_that_live() -> None:
    assert list(standing.problems([standing.describe(each, alive=False) for each in (WELL, AWAY, STUCK)])) == []
    assert list(standing.problems([standing.describe(WELL, alive=True)])) == []
    [away] = standing.problems([standing.describe(AWAY, alive=True)])
    assert f"since {AT} (squeue did not answer within 30 s): {standing.CONSEQUENCE}" in away.text
    [stuck] = standing.problems([standing.describe(STUCK, alive=True)])
    assert "2 jobs of the runner r will not start in Slurm by waiting: its partition is down" in stuck.text
    assert stuck.fix.startswith("squeue --me")


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"states": 1}', '{"reasons": {"a": "b"}}', '{"trouble": []}', '{"refusals": [{"x": 1}]}']
)
def test_a_damaged_condition_is_passed_over(home: Home, damage: str) -> None:
    condition.write(home, WELL)
    home.slurm_condition("bad").write_text(damage)
    assert [each.runner for each in condition.read_all(home)] == ["r"]


def test_status_is_degraded_while_slurm_is_away(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    runners.write(home, info("r"))
    condition.write(home, WELL)
    assert status.gather(home).verdict is Verdict.HEALTHY
    assert run(home, "status") == 0
    assert re.search(r"yes, \S+ ago", capsys.readouterr().out)
    pilot = Pilot("gpu-1", "gpu", "77", "RUNNING", "n7")
    refusals = tuple(Refusal(ago(60), f"job-{n}", "gpu", "invalid partition") for n in range(8))
    told = dataclasses.replace(AWAY, reasons=STUCK.reasons, held_on=1, pilots=(pilot,), refusals=refusals)
    condition.write(home, told)
    assert run(home, "status") == 1
    shown = capsys.readouterr().out
    for text in (
        "SLURM, OF RUNNER",
        "no, for",
        standing.CONSEQUENCE,
        standing.HELD_ON,
        "77",
        "n7",
        "invalid partition",
    ):
        assert text in shown, text
    assert "job-7" in shown and "job-2" not in shown, "only the last few are told"
    assert run(home, "status", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["slurm"][0]["waits"][0] | {"says": ""} == {
        "reason": "PartitionDown",
        "says": "",
        "jobs": 2,
        "stuck": True,
    }


def test_what_a_runner_left_in_slurm_goes_on(home: Home, submit: Submit) -> None:
    runners.write(home, info("dead", GONE))
    for number in range(3):
        job = submit(f"job-{number}")
        spool.claim(home, spool.marker_of(job), "dead")
        if number:
            record.write(home.job(job.name), RECORD, durable=False)
        found = status.gather(home)
        assert (found.runners[0].working, found.runners[0].in_slurm) == (number + 1, number)
    [said] = [each for each in found.problems if "is gone" in each]
    assert "left 1 job; the next one on" in said and "It also left 2 jobs in Slurm, which go on" in said
    only = dataclasses.replace(found.runners[0], working=1, in_slurm=1)
    [said] = [each for each in dataclasses.replace(found, runners=[only]).problems if "is gone" in each]
    assert "is gone and left 1 job in Slurm, which goes on; the next one takes over" in said
    assert standing.stay(home, 2).startswith("2 jobs stay in Slurm and go on; the next runner takes them over. Cancel")


@pytest.mark.parametrize("answers", [True, False])
def test_cancelling_says_so_if_it_is_over_a_moment_later(
    home: Home,
    submit: Submit,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answers: bool,
) -> None:
    monkeypatch.setattr(control, "MOMENT", 20.0 if answers else 0.0)
    job = submit()
    spool.claim(home, spool.marker_of(job), "r")

    def end() -> None:
        wait_for(lambda: repair.read_stop_request(home, job.name))
        repair.resolve(home, job.name, "cancelled", by="runner r", holder="r")

    runner = threading.Thread(target=end)
    if answers:
        runner.start()
    assert run(home, "cancel", job.name) == 0
    assert capsys.readouterr().out == ("job cancelled\n" if answers else "job is asked to stop\n")
    if answers:
        runner.join()


def test_a_runner_that_was_killed_is_told_apart(home: Home, submit: Submit, capsys: pytest.CaptureFixture[str]) -> None:
    runners.write(home, info("r"))
    runners.write(home, info("dead", GONE))
    condition.write(home, WELL)
    condition.write(home, dataclasses.replace(AWAY, runner="dead"))
    assert [each.runner for each in status.gather(home).slurm] == ["r"], "it left nothing"
    spool.claim(home, spool.marker_of(submit()), "dead")
    found = {each.runner: each.alive for each in status.gather(home).slurm}
    assert found == {"r": True, "dead": False}
    run(home, "status")
    assert "the runner is gone" in capsys.readouterr().out


def test_what_the_dead_left_of_slurm_is_forgotten_with_them(home: Home) -> None:
    runners.write(home, info("r"))
    runners.write(home, info("dead", GONE))
    for runner in ("r", "dead", "unknown"):
        condition.write(home, dataclasses.replace(WELL, runner=runner))
    runners.forget_dead(home, runners.observe(home))
    assert [each.runner for each in condition.read_all(home)] == ["r"]


def test_metrics() -> None:
    assert metrics.describe_slurm(None).numbers == {}
    found = metrics.describe_slurm(dataclasses.replace(AWAY, to_submit=2, unsure=1, polls=9, refused=4)).numbers
    assert found[metrics.SLURM_JOBS] == {("to_submit",): 3, ("pending",): 3, ("running",): 2} | {
        ("completing",): 1,
        ("newer",): 1,
    }
    assert (found[metrics.SLURM_POLLS], found[metrics.SLURM_REFUSALS]) == ({(): 9}, {(): 4})
    assert found[metrics.SLURM_ANSWERS] == {(): False}
    assert metrics.SLURM_ANSWERS not in metrics.describe_slurm(Condition("r", AT)).numbers, "it was not asked yet"


def test_the_same_refusal_is_one_row() -> None:
    said = [
        Refusal(ago(9), "pilot-a", "gpu", "Slurm does not take it: no; the next one in 2 s at the earliest"),
        Refusal(ago(8), "job", "gpu", "another reason"),
        Refusal(ago(7), "pilot-b", "gpu", "Slurm does not take it: no; the next one in 4 s at the earliest"),
        Refusal(ago(6), "pilot-c", "cpu", "Slurm does not take it: no; the next one in 2 s at the earliest"),
    ]
    assert [(each.job, count) for each, count in standing.group(said)] == [("pilot-c", 1), ("pilot-b", 2), ("job", 1)]


# --- Pilots, and commands that are not there ---

FAILING = Failing("gpu", 4, "Slurm does not take it: sbatch: Invalid partition", AT, refused=True)


@pytest.mark.parametrize(
    ("said", "alive", "found"),
    [
        ({"head": [FAILING]}, [info("head", queues=["gpu"])], ["gpu"]),
        ({"head": [FAILING]}, [], []),
        ({"head": [dataclasses.replace(FAILING, failures=1)]}, [info("head", queues=["gpu"])], []),
        ({"head": [FAILING]}, [info("head", queues=["gpu"]), info("pilot", queues=["gpu"])], []),
        ({"head": [FAILING]}, [info("head", queues=["gpu"]), info("pilot", queues=["x"])], ["gpu"]),
        ({"head": [FAILING], "two": [FAILING]}, [info("head", queues=["gpu"]), info("two", queues=["gpu"])], ["gpu"]),
    ],
)
def test_whose_pilots_fail_while_nobody_else_helps(
    said: dict[str, list[Failing]], alive: list[runners.RunnerInfo], found: list[str]
) -> None:
    assert list(failing.find(said, alive)) == found


def test_jobs_that_wait_for_pilots_in_vain_are_trouble(
    home: Home, submit: Submit, capsys: pytest.CaptureFixture[str]
) -> None:
    runners.write(home, info("r", queues=["gpu"]))
    condition.write(home, dataclasses.replace(WELL, failing=(FAILING,)))
    assert status.gather(home).verdict is Verdict.HEALTHY, "nothing waits"
    submit("job", queue="gpu")
    assert run(home, "status") == 1
    said = "its pilots have come to nothing 4 times since"
    shown = capsys.readouterr().out
    assert f"1 job waits in the queue gpu, and {said}" in shown and "correct [queues.gpu] in config.toml" in shown
    run(home, "show", "job", "--json")
    assert said in json.loads(capsys.readouterr().out)["waits"]
    pauses.pause(home, "gpu")
    assert said not in " ".join(status.gather(home).problems)


def test_a_queue_of_slurm_that_only_runners_without_its_commands_serve_is_trouble(home: Home) -> None:
    _files.replace(home.config, b'[queues.gpu]\nlauncher = "slurm"\n')
    runners.write(home, info("bare", queues=["gpu"]))
    runners.write(home, info("r"))
    [problem] = status.gather(home).problems
    assert "queue gpu (bare) found Slurm's commands when it started: nobody can submit its jobs" in problem
    runners.write(home, dataclasses.replace(info("able", queues=["gpu"]), slurm=True))
    assert status.gather(home).problems == []


# --- Jobs ---


@pytest.mark.parametrize(
    ("state", "said", "brief"),
    [
        (model.JobState.WORKING, "PENDING", "RUNNING"),
        (model.JobState.WORKING, "COMPLETING", "COMPLETING"),
        (model.JobState.COMPLETED, "PENDING", ""),
        (model.JobState.FAILED, "RUNNING", ""),
        (model.JobState.FAILED, "NODE_FAIL", "NODE_FAIL"),
        (model.JobState.COMPLETED, "COMPLETED", "COMPLETED"),
    ],
)
def test_what_the_job_wrote_is_newer_than_what_slurm_said(state: model.JobState, said: str, brief: str) -> None:
    job = dataclasses.replace(JOB, state=state)
    found = standing.of_job(job, dataclasses.replace(PENDING, state=said, reason="Resources"))
    assert found is not None and (found.brief, found.stuck) == (brief, False)
    said = f"{brief}{'' if job.state.terminal else f': {found.says}'}, " if brief else ""
    assert found.sentence == f"Slurm job 12, {said}partition gpu", "of an end, the job's own files say why"


def test_where_a_job_ran_is_known_without_asking_slurm() -> None:
    process = model.Process("login", "boot", 1, 1, "pilot-gpu-1", extra={"slurm_node": "n7", "slurm_job": "12"})
    job = dataclasses.replace(JOB, state=model.JobState.COMPLETED, runner=process)
    found = standing.of_job(job, dataclasses.replace(PENDING, state="COMPLETED"))
    assert found is not None and found.node == "n7"
    pilot = pilots.Record("pilot-gpu-1", "gpu", 1, id="13", node="n8")
    assert standing.describe_pilot(job, pilot) == "in pilot pilot-gpu-1 (Slurm job 13, node n8)"
    assert standing.describe_pilot(job, None) == "in pilot pilot-gpu-1 (Slurm job 12, node n7)"
    elsewhere = dataclasses.replace(job, runner=dataclasses.replace(process, runner="r", extra={}))
    found = standing.of_job(elsewhere, PENDING)
    assert found is not None and found.node == "login"
    assert standing.describe_pilot(elsewhere, None) is None and standing.describe_pilot(JOB, None) is None
    noted = ephemeral._place_in_slurm({"SLURMD_NODENAME": "n7", "SLURM_JOB_ID": "12"})
    assert (noted, ephemeral._place_in_slurm({})) == (process.extra, {})


@pytest.mark.parametrize(
    ("changes", "brief", "says", "stuck"),
    [
        ({}, "SUBMITTING", "has not said yet", False),
        ({"id": "12"}, "PENDING", "it waits for a node", False),
        ({"id": "12", "state": "PENDING", "reason": "Resources"}, "PENDING (Resources)", "are in use", False),
        ({"id": "12", "state": "PENDING", "reason": "JobHeldUser"}, "PENDING (JobHeldUser)", "somebody holds it", True),
        ({"id": "12_4", "state": "RUNNING", "node": "n1"}, "RUNNING", "it runs", False),
        ({"id": "12", "state": "FROZEN"}, "FROZEN", "does not know", False),
    ],
)
def test_how_a_job_stands(changes: dict[str, Any], brief: str, says: str, stuck: bool) -> None:
    found = standing.of_job(JOB, dataclasses.replace(RECORD, **changes))
    assert found is not None
    assert (found.brief, found.stuck) == (brief, stuck) and says in found.sentence
    assert (found.id or RECORD.submission) in found.sentence
    assert ("does not pass" in str(standing.waits(found, JOB))) is stuck
    assert standing.waits(found, dataclasses.replace(JOB, state=model.JobState.WORKING)) is None
    assert standing.waits(None, JOB) is None


def test_a_job_of_slurm_is_shown_as_such(home: Home, submit: Submit, capsys: pytest.CaptureFixture[str]) -> None:
    submit("elsewhere")
    submit("job", slurm={"partition": "gpu"})
    run(home, "list")
    assert "IN SLURM" not in capsys.readouterr().out
    record.write(home.job("job"), PENDING, durable=False)
    run(home, "list")
    assert "PENDING (Resources)" in capsys.readouterr().out
    run(home, "show", "job")
    shown = capsys.readouterr().out
    assert "Slurm job 12, PENDING: the nodes" in shown and "in Slurm: the nodes" in shown and "partition=gpu" in shown
    run(home, "show", "job", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["slurm"]["id"], found["slurm"]["stuck"]) == ("12", False) and found["waits"].startswith("in Slurm:")
    run(home, "show", "elsewhere", "--json")
    assert json.loads(capsys.readouterr().out)["slurm"] is None


def test_why_a_job_has_not_started(home: Home, submit: Submit) -> None:
    job = submit("job")
    condition.write(home, AWAY)
    assert standing.read_waits(home, job) is None, "no runner has it"
    spool.claim(home, spool.marker_of(job), "r")
    assert "Slurm has not answered since" in str(standing.read_waits(home, job))
    condition.write(home, WELL)
    assert standing.read_waits(home, job) == "it is to be submitted to Slurm"
    condition.write(home, dataclasses.replace(WELL, limits={"MaxJobs": 3}))
    assert str(standing.read_waits(home, job)).endswith("to Slurm; Slurm takes no more for now (MaxJobs)")
    record.write(home.job("job"), PENDING, durable=False)
    assert str(standing.read_waits(home, job)).startswith("in Slurm: the nodes")
    condition.remove(home, "r")
    assert str(standing.read_waits(home, job)).startswith("in Slurm: the nodes"), "the runner was killed"
    assert standing.read_waits(home, dataclasses.replace(job, state=model.JobState.CANCELLED)) is None


def test_a_job_that_is_over_and_silent_says_why(home: Home, submit: Submit, capsys: pytest.CaptureFixture[str]) -> None:
    submit("job")
    finish(home, "job", model.JobState.FAILED, "sbatch: Invalid partition name specified")
    for words in ((), ("--slurm",)):
        assert run(home, "logs", "job", *words) == 0
        assert "is failed and wrote nothing: sbatch: Invalid partition" in capsys.readouterr().err


def test_logs_of_the_node(home: Home, submit: Submit, capsys: pytest.CaptureFixture[str]) -> None:
    submit("job")
    run(home, "logs", "job", "--slurm")
    assert "has written nothing yet" in capsys.readouterr().err
    element = dataclasses.replace(PENDING, element=3)
    record.write(home.job("job"), element, durable=False)
    home.job("job").slurm_log.write_text("no such python\n")
    home.slurm_array(element.submission).mkdir(parents=True)
    (home.slurm_array(element.submission) / "3.log").write_text("CANCELLED DUE TO TIME LIMIT\n")
    for words in ((), ("--slurm",)):  # without: no task has written anything
        run(home, "logs", "job", *words)
        said = capsys.readouterr()
        assert "node | no such python\nslurm | CANCELLED DUE TO TIME LIMIT\n" in said.out
        assert ("--slurm" in said.err) is (words == ())
    finish(home, "job")
    run(home, "logs", "job", "--slurm", "-f", "--json")
    assert '"task": "slurm"' in capsys.readouterr().out
    home.job("job").log("task-1").write_text("of the task\n")
    run(home, "logs", "job")
    assert capsys.readouterr().out == "of the task\n"
    assert run(home, "logs", "job", "task-1", "--slurm") == 2
