"""`air-executor webhook`, in this process: what it shows, what it does, and what it never shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from air_executor import _files, cli, model, runners, store
from air_executor.model import JobState
from air_executor.paths import Home
from air_executor.webhooks import events, outbox
from air_executor.webhooks.sender import Sender, old_dead
from tests.receiver import SECRET, new, table
from tests.unit.test_runners import info


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    home.config.write_text(table(new(), "ops", 'pipelines = ["nightly"]', 'labels = { team = "data" }'))
    (home.root / "secret").write_text(SECRET)
    return home


def put(home: Home, name: str, *, dead: bool = False, **values: Any) -> str:
    job = model.Job(name, id=f"{name}.0123abcd", finished_at=model.now())
    event = events.of_job(home, "ops", job, JobState.FAILED)
    outbox.write(home, outbox.Entry("ops", events.file_stem(job), event, model.now(), dead=dead, **values))
    return str(event["id"])


def run(home: Home, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert cli.main(["--home", str(home.root), "webhook", *words]) == code
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err and "secret-part" not in said.out + said.err
    return said.out, said.err


def test_list_and_show(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(home, capsys, "list")
    assert "pipeline nightly, team=data, named" in out and "nobody sends at this moment" in err
    waits = put(home, "a", tries=2, error="HTTP 500", next_at="2026-01-31T10:00:00.000000Z")
    dead = put(home, "b", dead=True)
    out, _ = run(home, capsys, "list")
    assert waits in out and "HTTP 500" in out and dead in out
    said = json.loads(run(home, capsys, "list", "--dead", "--json")[0])
    assert [event["id"] for event in said["events"]] == [dead]
    assert (said["webhooks"][0]["waiting"], said["webhooks"][0]["dead"], said["sending"]) == (1, 1, False)
    assert run(home, capsys, "list", "--webhook", "other", "--json")[0].count('"id"') == 0
    shown = json.loads(run(home, capsys, "show", waits, "--json")[0])
    assert (shown["tries"], shown["body"]["job"]["name"]) == (2, "a")
    assert '"name": "b"' in run(home, capsys, "show", dead)[0]


def test_resend_and_drop(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [put(home, name, dead=True, tries=9) for name in "ab"]
    assert run(home, capsys, "resend", ids[0])[0] == f"{ids[0]} is sent again\n"
    assert outbox.find(home, ids[0]).tries == 0 and not outbox.find(home, ids[0]).dead
    assert json.loads(run(home, capsys, "drop", "--dead", "--json")[0]) == {"action": "drop", "ids": [ids[1]]}
    assert "no such event" in run(home, capsys, "resend", "--dead")[1]
    assert f"{ids[0]} is sent again" in run(home, capsys, "resend", "--webhook", "ops")[0]
    run(home, capsys, "drop", ids[0])
    assert "no such event" in run(home, capsys, "resend", "--webhook", "ops")[1]
    assert "there is no event" in run(home, capsys, "drop", ids[0], code=4)[1]


def test_all_that_waits_for_a_webhook_is_sent_again(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    waits = [put(home, name, tries=5, next_at="2099-01-31T10:00:00.000000Z") for name in "ab"]
    dead = put(home, "c", dead=True)
    out, err = run(home, capsys, "resend", "--webhook", "ops")
    assert out.splitlines() == [f"{each} is sent again" for each in waits] and "nobody sends at this moment" in err
    assert [outbox.find(home, each).next_at for each in waits] == [None, None]
    assert outbox.find(home, dead).dead


def test_who_will_send_is_said(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert "a runner does when it runs" in run(home, capsys, "list")[1]
    runners.write(home, info("r1"))
    assert "the runner r1 starts a process for it soon" in run(home, capsys, "list")[1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["resend"], 2, "give the ids of events, or --dead for all that were given up, or --webhook NAME"),
        (["resend", "ops/a.0123abcd,1", "--webhook", "ops"], 2, "--webhook says nothing beside ids"),
        (["resend", "--webhook", "opz"], 4, "did you mean ops?"),
        (["drop"], 2, "give the ids of events, or --dead"),
        (["drop", "--webhook", "ops"], 2, "give the ids of events, or --dead"),
        (["drop", "ops/a.0123abcd,1", "--dead"], 2, "give the ids of events, or --dead"),
        (["drop", "ops/a.0123abcd,1", "--webhook", "ops"], 2, "--webhook says nothing beside ids"),
        (["show", "ops/../secret"], 4, "there is no event"),
        (["test", "opz"], 4, "did you mean ops?"),
        (["test", "ops"], 1, "ops did not take it: 127.0.0.1 port "),
    ],
)
def test_what_is_refused(
    words: list[str], code: int, said: str, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in run(home, capsys, *words, code=code)[1]


def test_a_damaged_event_is_told(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    put(home, "a")
    path = outbox.path_of(home, "ops", "a.0123abcd,1")
    path.write_text("{")
    assert str(path) in run(home, capsys, "list")[1]
    assert str(path) in run(home, capsys, "show", "ops/a.0123abcd,1", code=7)[1]


def test_a_job_is_submitted_with_webhooks(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    def submit(*words: str) -> int:
        return cli.main(["--home", str(home.root), *words])

    assert submit("submit", "--name", "a", "--webhook", "ops", "--", "true") == 0
    assert store.read(home, "a").webhooks == ["ops"]
    assert submit("show", "a") == 0
    assert ["webhooks", "ops"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert submit("submit", "--webhook", "opz", "--", "true") == 2
    assert "there is no webhook opz" in capsys.readouterr().err
    tasks = home.root / "tasks.json"
    tasks.write_text(json.dumps({"job_name": "b", "tasks": [{"command": "true"}], "webhooks": ["ops"]}))
    assert submit("submit", "--file", str(tasks)) == 0
    assert store.read(home, "b").webhooks == ["ops"]
    (home.pipelines / "p.toml").write_text('webhooks = ["ops"]\n[[tasks]]\ncommand = "true"\n')
    assert submit("pipeline", "run", "p", "--name", "c") == 0
    assert store.read(home, "c").webhooks == ["ops"]
    assert submit("pipeline", "show", "p") == 0
    (home.pipelines / "q.toml").write_text('webhooks = ["a/b"]\n[[tasks]]\ncommand = "true"\n')
    assert submit("pipeline", "validate", "q") == 2
    assert "webhooks: the webhook 'a/b' must start with" in capsys.readouterr().out


def test_one_sends_at_a_time(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("air_executor.webhooks.sender.LOCK_WAIT", 0.0)
    _files.make_directory(home.webhooks)
    lock = _files.Lock(home.webhook_sender_lock)
    assert lock.acquire()
    assert not Sender(home).run()
    lock.release()


def test_what_was_given_up_long_ago_goes(home: Home) -> None:
    old, new_one = put(home, "a", dead=True), put(home, "b", dead=True)
    entry = outbox.find(home, old)
    outbox.write(home, replace(entry, tried_at="2020-01-31T10:00:00.000000Z"))
    now = model.parse_time(model.now()).timestamp()
    assert [each.id for each in old_dead(home, now)] == [old]
    assert outbox.find(home, new_one).dead
