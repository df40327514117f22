"""`queue` and `runner set | show`: what they say, what they refuse. In this process; one test with a real runner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from air_executor import AirExecutorClient, audit, cli, pauses, processes, runners, store
from air_executor.paths import Home
from air_executor.testing import running_runner, wait_for
from tests.unit.test_runners import info

ME = processes.user()


class Here:
    """Runs commands in this process."""

    def __init__(self, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self._capsys = home, capsys

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        assert cli.main(["--home", str(self.home.root), *words]) == code
        said = self._capsys.readouterr()
        return said.out, said.err

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json")[0])


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Here:
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    return Here(home, capsys)


def test_a_queue_is_paused_shown_and_resumed(here: Here) -> None:
    AirExecutorClient(here.home.root).create_job("a", [{"command": "true"}], queue="heavy")
    assert "no runner serves it" in here("queue", "list")[0] and "PAUSED" not in here("queue", "list")[0]
    out, err = here("queue", "pause", "heavy", "--why", "a move")
    pause = pauses.read(here.home, "heavy")
    assert pause is not None and err == ""
    assert out == f"the queue heavy is paused since {pause.at} by {ME}: a move\n"
    assert here("queue", "pause", "heavy")[0] == f"the queue heavy is already {pause}\n"
    (facts,) = here.json("queue", "list")
    assert (facts["name"], facts["waiting"], facts["served_by"]) == ("heavy", 1, 0)
    assert facts["paused"] == {"queue": "heavy", "at": pause.at, "by": ME, "why": "a move"}
    assert str(pause) in here("queue", "list")[0]
    assert (
        f"its queue is {pause}" in here("show", "a")[0] and here.json("show", "a")["paused"] == f"its queue is {pause}"
    )
    assert here("queue", "resume", "heavy", "--why", "moved")[0] == "the queue heavy is resumed\n"
    assert here("queue", "resume", "heavy")[0] == "the queue heavy was not paused\n"
    assert here.json("show", "a")["paused"] is None and here.json("queue", "list")[0]["paused"] is None
    said = [(each["what"], each["by"], each["why"]) for each in audit.latest(here.home, queue="heavy")]
    assert said == [("pause", ME, "a move"), ("resume", ME, "moved")]


def test_who_submits_to_a_paused_queue_is_told(here: Here) -> None:
    here("queue", "pause", "default", "--why", "a move")
    said = here("submit", "--name", "a", "--", "true")[1]
    assert "the job waits: the queue default is paused since" in said and "a move; resume it with: air-executor" in said
    assert "the job waits: the queue default is paused" in here("wait", "a", "--timeout", "0", code=124)[1]


def test_a_queue_that_nobody_knows_can_be_paused_ahead_and_a_typo_is_no_resume(here: Here) -> None:
    runners.write(here.home, info("r", queues=["default"]))
    out, err = here("queue", "pause", "later")
    assert out.startswith("the queue later is paused since ")
    assert "nobody knows the queue later yet" in err and err.endswith("known are default\n")
    assert here("queue", "resume", "latter", code=4)[1].endswith(f"there is no queue latter in {here.home.root}; "
                                                                 "paused: later\n")  # fmt: skip
    assert here.json("queue", "resume", "later") == {
        "queue": "later",
        "action": "resume",
        "changed": True,
        "paused": None,
    }


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["queue", "pause", "a/b"], 2, "the queue 'a/b' must start with"),
        (["queue", "resume", ""], 2, "the queue must be a text that is not empty"),
        (["queue", "pause", "a", "--why", "x" * 1001], 2, "at most 1000 characters"),
        (["runner", "set", "s1"], 2, "give slots, queues, or both"),
        (["runner", "set", "s1", "--slots", "0"], 2, "slots must be more than 0, not 0"),
        (["runner", "set", "s1", "--slots", "many"], 2, "slots must be a whole number, not 'many'"),
        (["runner", "set", "s1", "--queues", "a b"], 2, "queues: the queue 'a b'"),
        (["runner", "set", "s1", "--queues", ","], 2, "queues must name at least one queue"),
        (["runner", "set", "--slots", "1"], 2, "which runner? There are airflows, s1, s2; give one of them"),
        (["runner", "set", "x", "--slots", "1"], 4, "no runner x is running in"),
        (["runner", "set", "airflows", "--queues", "a"], 8, "belongs to Airflow's executor"),
        (["runner", "show", "x"], 4, "there is no runner x in"),
        (["runner", "show", "../x"], 2, "the runner '../x'"),
        (["runner", "drain", "s1", "--why", "x" * 1001], 2, "at most 1000 characters"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(here: Here, words: list[str], code: int, said: str) -> None:
    for name in ("airflows", "s1", "s2"):
        runners.write(here.home, info(name, embedded=name == "airflows"))
    out, err = here(*words, code=code)
    assert out == "" and said in err and len(err.splitlines()) == 1
    assert not here.home.paused.exists() and list(here.home.control.iterdir()) == []
    assert audit.latest(here.home) == []


def test_setting_says_how_long_it_lasts(here: Here) -> None:
    runners.write(here.home, info("r", embedded=True))
    said = here("runner", "set", "--slots", "1")[0]
    assert said.startswith("the runner r is asked to work with 1 slot, until the next start of a scheduler")
    runners.write(here.home, info("r"))
    said = here("runner", "set", "r", "--queues", "a,b", "--slots", "3")[0]
    assert said.startswith("the runner r is asked to work with 3 slots and the queues a, b, until it ends; flags")
    assert here.json("runner", "set", "--slots", "2") == {"id": "r", "action": "set", "slots": 2}


def test_a_runner_is_set_and_shown_with_its_history(here: Here) -> None:
    with running_runner(here.home, "--name", "r", "--slots", "4"):
        here("runner", "set", "--queues", "default,heavy", "--slots", "2", "--why", "a backlog")
        wait_for(lambda: runners.read(here.home, "r").slots == 2)
        shown = here("runner", "show")[0]
        assert "0 of 2 slots" in shown and "set: 2 slots, default,heavy" in shown and "a backlog" in shown
        here("runner", "stop", "--why", "enough")
    facts = here.json("runner", "show", "r")
    assert facts["runner"] is None
    assert [each["what"] for each in facts["events"]] == ["started", "set", "stop", "ended"]
    assert facts["events"][2]["by"] == ME and facts["events"][2]["why"] == "enough"
    assert here("runner", "show", "r")[0].startswith("the runner r is gone\n")
