"""What doctor makes of what Slurm says: judged in tables. A real Slurm is asked in tests/slurm/test_doctor.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from air_executor import __version__, _files, doctor, runners
from air_executor.doctor import airflow, slurm, slurmprobe
from air_executor.doctor.findings import Check, Level
from air_executor.doctor.slurm import Cluster, Partition
from air_executor.doctor.slurmprobe import Answer
from air_executor.paths import Home
from air_executor.queuetables import QueueSettings
from air_executor.settings import Settings, SlurmSettings
from air_executor.slurm import condition, words
from tests.unit.doctors import bad, healthy
from tests.unit.test_runners import info

SINFO = """\
main*|up|infinite|2|idle|n1,n2
main*|up|infinite|1|down*|n3
small|up|1-00:00:00|1|mix|n1
dead|up|infinite|2|drain|n4,n5
closed|inact|infinite|1|idle|n1
"""
PARTITIONS, HOSTS = slurm.read_partitions(SINFO)
CONFIG = {"MaxArraySize": "1001", "MaxJobCount": "10000", "MinJobAge": "300 sec"}
WELL = Cluster((), "slurm-wlm 22.05.8", "", CONFIG, PARTITIONS, HOSTS)


def queue(**asked: Any) -> Settings:
    return Settings(queues={"q": QueueSettings("slurm", slurm=asked), "here": QueueSettings()})


def test_what_sinfo_and_scontrol_say() -> None:
    assert PARTITIONS["main"] == Partition("main", True, True, None, 2)
    assert PARTITIONS["small"] == Partition("small", False, True, 86400.0, 1)
    assert (PARTITIONS["dead"].usable, PARTITIONS["closed"].up) == (0, False)
    assert {"n1", "n2", "n3", "n4", "n5"} == HOSTS
    assert slurm.read_config("Configuration data as of now\nMinJobAge               = 300 sec\n") == {
        "MinJobAge": "300 sec"
    }


@pytest.mark.parametrize(
    ("found", "chosen", "said"),
    [
        (WELL, queue(), None),
        (WELL, queue(partition="small", time="12:00:00", array=1000), None),
        (WELL, queue(partition="main,small"), None),
        (Cluster(("sbatch",)), queue(), "sbatch: not on the PATH"),
        (Cluster(trouble="scontrol did not answer"), queue(), "does not answer (scontrol did not answer)"),
        (dataclasses.replace(WELL, version="slurm 20.11.4"), queue(), "older than 22.05"),
        (dataclasses.replace(WELL, version="slurm 24.11.0"), queue(), None),
        (WELL, queue(partition="gpu"), "names the partition gpu, which Slurm does not have"),
        (dataclasses.replace(WELL, partitions={}), queue(), "names no partition, and Slurm has none by default"),
        (WELL, queue(partition="dead"), "no node that is up"),
        (WELL, queue(partition="closed"), "is not up"),
        (WELL, queue(partition="small", time="1-00:00:01"), "asks for 1-00:00:01, and the partition small gives"),
        (dataclasses.replace(WELL, config={"MaxArraySize": "101"}), queue(array=500), "up to 500 jobs as one array"),
        (dataclasses.replace(WELL, config={"MaxJobCount": "50"}), queue(), "room for 50 jobs"),
        (dataclasses.replace(WELL, config={"MinJobAge": "10 sec"}), queue(), "forgets a job 10 s after"),
        (dataclasses.replace(WELL, config={"MinJobAge": "0 sec"}), queue(), None),
    ],
)
def test_what_is_wrong_with_slurm(found: Cluster, chosen: Settings, said: str | None) -> None:
    findings = list(slurm.judge(found, chosen))
    wrong = bad(findings)
    assert len(wrong) == (said is not None), wrong
    assert said is None or (said in wrong[0].text and wrong[0].fix)
    assert findings, "also what is well is said"


def test_a_shorter_interval_suits_a_slurm_that_forgets_soon() -> None:
    found = dataclasses.replace(WELL, config={"MinJobAge": "10 sec"})
    assert not bad(slurm.judge(found, dataclasses.replace(queue(), slurm=SlurmSettings(poll=3.0))))


def test_where_the_home_is() -> None:
    assert slurm.judge_place("ext4", HOSTS, "login").level is Level.WARNING
    assert slurm.judge_place("nfs4", HOSTS, "login").level is Level.OK
    assert slurm.judge_place("ext4", frozenset({"login.example.org"}), "login").level is Level.OK


def test_the_api_must_be_reached_from_nodes(home: Home) -> None:
    [wrong] = slurm.judge_airflow(healthy(home), HOSTS, "login")
    assert wrong.level is Level.PROBLEM and "http://login:8080/execution/" in wrong.fix
    for url in ("http://login:8080/execution/", "http://10.0.0.7:8080/execution/"):
        assert not bad(slurm.judge_airflow(healthy(home, api=url), HOSTS, "login"))
    for url in ("http://127.0.0.1:8080/execution/", "http://[::1]:8080/execution/"):
        assert bad(slurm.judge_airflow(healthy(home, api=url), HOSTS, "login"))
    assert not list(slurm.judge_airflow(healthy(home), frozenset({"login"}), "login")), "all nodes are this host"
    assert not list(slurm.judge_airflow(healthy(home, options={}), HOSTS, "login")), "another executor"


SAID = {"host": "n1", "time": 100.0, "version": __version__, "error": "", "excluded": True}
ANSWER = Answer("7", said=SAID, sent=99.0, received=101.0, excluded=True)


@pytest.mark.parametrize(
    ("answer", "level", "said"),
    [
        (ANSWER, Level.OK, "n1 sees the home and its locks"),
        (Answer(refused="Invalid qos"), Level.PROBLEM, "does not take its jobs: Invalid qos"),
        (Answer("7", state="PENDING (Resources)"), Level.WARNING, "PENDING (Resources)"),
        (Answer("7", words="python: not found"), Level.PROBLEM, "its last words: python: not found"),
        (Answer("7"), Level.PROBLEM, "no node may see the home"),
        (dataclasses.replace(ANSWER, excluded=False), Level.PROBLEM, "each other's locks"),
        (dataclasses.replace(ANSWER, said={**SAID, "excluded": False}), Level.PROBLEM, "each other's locks"),
        (dataclasses.replace(ANSWER, said={**SAID, "lock_error": "No locks"}), Level.PROBLEM, "No locks"),
        (dataclasses.replace(ANSWER, said={**SAID, "error": "ImportError: x"}), Level.PROBLEM, "no Air-Executor"),
        (dataclasses.replace(ANSWER, said={**SAID, "version": "0.0.1"}), Level.WARNING, "has version 0.0.1"),
        (dataclasses.replace(ANSWER, said={**SAID, "time": 161.0}), Level.WARNING, "60 s ahead of"),
        (dataclasses.replace(ANSWER, said={**SAID, "time": 39.0}), Level.WARNING, "60 s behind"),
    ],
)
def test_what_came_of_a_probe(answer: Answer, level: Level, said: str) -> None:
    [found] = slurmprobe.judge("q", QueueSettings("slurm"), answer)
    assert found.level is level and said in found.text and bool(found.fix) is (level is not Level.OK)


def test_of_a_queue_that_has_trouble_no_probe_says_that_all_is_well(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = QueueSettings("slurm")
    monkeypatch.setattr(slurmprobe, "ask", lambda *_: ANSWER)
    found = list(slurmprobe.probe(home, {"long": table, "short": table}, {"long"}))
    assert [each.text.partition(":")[0] for each in found] == ["[queues.short]"]


def test_an_outage_is_told_once_and_briefly(home: Home) -> None:
    stars = "*" * 42
    said = f"Slurmctld(primary) at vm is DOWN\n{stars}\n** RESTORE SLURMCTLD DAEMON TO SERVICE **\n{stars}\n"
    assert words.ping(said) == "the controller at vm is down"
    assert words.ping(said + "Slurmctld(backup) at two is DOWN\n") == "the controllers at vm and two are down"
    assert words.ping("something else\n") == "something else"
    away = condition.Condition("r", "2026-01-01T00:00:00Z", trouble="squeue: connect failure")
    condition.write(home, away)
    assert not slurm.is_told(home), "that runner is gone"
    runners.write(home, info("r"))
    assert slurm.is_told(home)


def test_slurm_is_looked_at_where_it_is_used(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    monkeypatch.setattr(airflow.util, "find_spec", lambda name: None)
    levels = [finding.level for finding in doctor.check_slurm(home, lambda: healthy(home))]
    assert levels == [Level.OK]
    condition.write(home, condition.Condition("r", "2026-01-01T00:00:00Z"))
    assert next(finding.level for finding in doctor.check_slurm(home, lambda: healthy(home))) is Level.PROBLEM
    condition.remove(home, "r")
    _files.replace(home.config, b'[queues.q]\nlauncher = "slurm"\n')
    found = list(doctor.check_slurm(home, lambda: healthy(home), probe=True))
    assert next(finding.level for finding in found) is Level.PROBLEM and {each.check for each in found} == {Check.SLURM}
