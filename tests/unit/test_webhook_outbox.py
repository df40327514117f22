"""The outbox: what is in it whoever dies when, and what people can do about it. Real files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from air_executor import AirExecutorClient, held, model, repair, store
from air_executor.errors import CorruptFileError, InvalidJobError, JobBusyError, NotFoundError
from air_executor.model import ExitKind, JobState
from air_executor.paths import Home
from air_executor.webhooks import events, outbox, routes
from air_executor.webhooks.outbox import Entry

TABLE = '[webhooks.ops]\nurl = "https://example.org"\nsecret_file = "s"\n'
DONE = model.Exit(ExitKind.SUCCESS, "completed", code=0)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    store.ensure_home(home)
    home.config.write_text(TABLE)
    return home


@pytest.fixture
def client(home: Home) -> AirExecutorClient:
    return AirExecutorClient(home.root)


def submit(client: AirExecutorClient, name: str = "a", **options: Any) -> None:
    client.create_job(name, [{"command": "true"}], **{"webhooks": ["ops"], **options})


def finish(home: Home, name: str = "a", state: JobState = JobState.COMPLETED, outcome: model.Exit = DONE) -> None:
    with held.HeldJob.acquire(home, name) as job:
        if job.job.state is JobState.WAITING:
            job.start(model.Process("host", "boot", 1, 1, "r"), by="test")
        job.finish(state, outcome, by="test")


def entries(home: Home, *, dead: bool = False) -> list[Entry]:
    return [entry for entry in outbox.read_all(home, dead=dead) if isinstance(entry, Entry)]


class Death(BaseException):
    """In place of a `kill -9`: nothing after it is done."""


def die(*_: Any, **__: Any) -> None:
    raise Death


def test_an_end_leaves_an_entry(home: Home, client: AirExecutorClient) -> None:
    submit(client)
    finish(home)
    (entry,) = entries(home)
    job = client.get_job("a")
    assert (entry.id, entry.tries, entry.error, entry.dead) == (f"ops/{job.id},1", 0, None, False)
    assert (entry.job_id, entry.attempt, entry.at) == (job.id, 1, job.finished_at)
    assert entry.event["job"]["state"] == "completed"
    assert outbox.is_over(home, entry)
    path = outbox.path_of(home, "ops", entry.stem)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_nobody_is_told_of_other_jobs(home: Home, client: AirExecutorClient) -> None:
    submit(client, webhooks=[])
    finish(home)
    assert not home.webhooks.exists()


def test_without_a_configuration_there_is_one_look(
    home: Home, client: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.config.unlink()
    looked: list[object] = []
    real = os.path.lexists
    monkeypatch.setattr(outbox.os.path, "lexists", lambda path: looked.append(path) or real(path))
    monkeypatch.setattr(routes, "of_home", die)
    assert not outbox.prepare(home, model.Job("a"), JobState.COMPLETED)
    assert looked == [home.config]


@pytest.mark.parametrize("point", ["_write_state", "settle"])
def test_who_dies_as_he_writes_an_end_loses_nothing(
    point: str, home: Home, client: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(client)
    with held.HeldJob.acquire(home, "a") as job:
        job.start(model.Process("host", "boot", 1, 1, "r"), by="test")
    with monkeypatch.context() as patched, pytest.raises(Death):
        patched.setattr(held.HeldJob, point, die)
        finish(home)
    (entry,) = entries(home)
    over = point == "settle"
    assert outbox.is_over(home, entry) is over
    repair.resolve(home, "a", "its ephemeral runner is gone", by="test", outcome=None if over else FAILED)
    (entry,) = entries(home)
    assert outbox.is_over(home, entry)
    assert entry.event["job"]["state"] == client.get_job("a").state == ("completed" if over else "failed")


FAILED = model.Exit(ExitKind.SIGNAL, "killed", signal=9)


def test_an_end_that_never_came_to_be_is_not_told(
    home: Home, client: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.config.write_text(TABLE + 'states = ["completed"]\n')
    submit(client)
    with held.HeldJob.acquire(home, "a") as job:
        job.start(model.Process("host", "boot", 1, 1, "r"), by="test")
    with monkeypatch.context() as patched, pytest.raises(Death):
        patched.setattr(held.HeldJob, "_write_state", die)
        finish(home)
    assert len(entries(home)) == 1
    repair.resolve(home, "a", "its ephemeral runner is gone", by="test", outcome=FAILED)
    assert client.get_job("a").state is JobState.FAILED
    assert entries(home) == []


def test_damage_in_the_place_of_an_entry_keeps_no_job_from_its_end(home: Home, client: AirExecutorClient) -> None:
    submit(client)
    outbox.path_of(home, "ops", f"{client.get_job('a').id},1").mkdir(parents=True)
    finish(home)
    assert client.get_job("a").state is JobState.COMPLETED


def test_nobody_changes_an_entry_while_another_does(home: Home, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LOCK_WAIT", 0.0)
    with outbox._alone(home), pytest.raises(JobBusyError, match="try again"):
        outbox.remove(home, entry)
    assert entries(home) == [entry]


def test_an_attempt_that_begins_anew_takes_no_entry_away(
    home: Home, client: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(client)
    with held.HeldJob.acquire(home, "a") as job, monkeypatch.context() as patched, pytest.raises(Death):
        job.start(model.Process("host", "boot", 1, 1, "r"), by="test")
        patched.setattr(held.HeldJob, "settle", die)
        job.finish(JobState.COMPLETED, DONE, by="test")
    client.retry("a")
    (first,) = entries(home)
    assert outbox.is_over(home, first) and first.attempt == 1
    finish(home)
    assert [entry.attempt for entry in entries(home)] == [1, 2]


def test_a_repeated_settlement_tells_nothing_twice(home: Home, client: AirExecutorClient) -> None:
    submit(client)
    finish(home)
    (entry,) = entries(home)
    outbox.remove(home, entry)
    assert repair.resolve(home, "a", "gone", by="test") is repair.Verdict.SETTLE
    assert entries(home) == []


def test_an_end_waits_for_room_on_the_disk(
    home: Home, client: AirExecutorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(client)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(outbox, "write", full)
        finish(home)
    assert client.get_job("a").state is JobState.WORKING
    finish(home)
    assert len(entries(home)) == 1


def test_a_damaged_directory_keeps_no_job_from_its_end(
    home: Home, client: AirExecutorClient, caplog: pytest.LogCaptureFixture
) -> None:
    submit(client)
    home.webhooks.write_text("a file where a directory should be")
    finish(home)
    assert client.get_job("a").state is JobState.COMPLETED
    assert "the webhook ops will not be told of the end of a" in caplog.text


def test_a_damaged_job_is_told_as_far_as_it_is_known(home: Home, client: AirExecutorClient) -> None:
    home.config.write_text(TABLE + "all_jobs = true\n")
    submit(client, webhooks=[])
    home.job("a").state.write_text("{")
    assert repair.resolve(home, "a", "gone", by="test") is repair.Verdict.FAIL
    (entry,) = entries(home)
    assert entry.event["job"]["exit"]["kind"] == "damaged"
    assert outbox.is_over(home, entry)


def test_a_waiting_job_that_is_cancelled_is_told(home: Home, client: AirExecutorClient) -> None:
    submit(client)
    client.cancel("a", by="me")
    (entry,) = entries(home)
    assert entry.event["event"] == "job.cancelled"


def test_an_unknown_webhook_is_refused(home: Home, client: AirExecutorClient) -> None:
    with pytest.raises(InvalidJobError, match=r"there is no webhook opz: .*did you mean ops\?"):
        submit(client, webhooks=["opz"])
    assert not home.job("a").root.exists()


def test_a_mistake_in_the_configuration_is_told_once(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.config.write_text("[webhooks.ops]\nurl = 1\n")
    for _ in range(3):
        assert routes.of_home(home) == {}
    assert len(caplog.messages) == 1 and "ops] url must be a text" in caplog.text


def test_a_name_of_the_longest_kind_has_room(home: Home, client: AirExecutorClient) -> None:
    name = "n" * 200
    submit(client, name)
    finish(home, name)
    (entry,) = entries(home)
    assert outbox.find(home, entry.id) == entry


# --- The configuration as it is kept ---


def test_routes_are_kept_and_follow_the_configuration(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first = routes.of_home(home)
    assert list(first) == ["ops"]
    with monkeypatch.context() as patched:
        patched.setattr("air_executor.settings.webhooks", die)
        assert routes.of_home(home) == first, "it was read again though it had not changed"
    home.config.write_text(TABLE + 'states = ["failed"]\n')
    assert routes.of_home(home)["ops"]["states"] == ["failed"]
    home.webhook_routes.write_text("damaged")
    assert routes.of_home(home)["ops"]["states"] == ["failed"]
    home.config.unlink()
    assert routes.of_home(home) == {}


def test_while_the_configuration_has_a_mistake_what_was_valid_counts(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    before = routes.of_home(home)
    home.config.write_text("[webhooks.ops]\nurl = 3\n")
    assert routes.of_home(home) == before
    assert "going by what was valid before" in caplog.text


# --- What people do ---


@pytest.fixture
def entry(home: Home) -> Entry:
    job = model.Job("a", id="a.0123abcd", finished_at=model.now())
    entry = Entry(
        "ops", events.file_stem(job), events.of_job(home, "ops", job, JobState.FAILED), model.now(), 3, error="x"
    )
    outbox.write(home, entry)
    return entry


def test_what_is_given_up_can_be_sent_again(home: Home, entry: Entry) -> None:
    outbox.give_up(home, entry)
    assert entries(home) == []
    (dead,) = entries(home, dead=True)
    assert (dead.id, dead.dead, dead.tries, dead.error) == (entry.id, True, 3, "x")
    outbox.resend(home, outbox.find(home, entry.id))
    (alive,) = entries(home)
    assert (alive.id, alive.tries, alive.next_at, alive.event) == (entry.id, 0, None, entry.event)
    assert entries(home, dead=True) == []


def test_what_was_dropped_does_not_come_back(home: Home, entry: Entry) -> None:
    assert outbox.remove(home, entry)
    assert not outbox.remove(home, entry)
    outbox.note(home, entry)
    outbox.give_up(home, entry)
    assert entries(home) == entries(home, dead=True) == []
    with pytest.raises(NotFoundError, match="not there any more"):
        outbox.resend(home, entry)


@pytest.mark.parametrize("event_id", ["", "ops", "ops/..", "../ops/a.0123abcd,1", "ops/a.0123abcd,2", "ops/a,1"])
def test_there_is_no_such_event(event_id: str, home: Home, entry: Entry) -> None:
    with pytest.raises(NotFoundError, match="there is no event"):
        outbox.find(home, event_id)


Spoil = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: [content],
        lambda content: {**content, "event": "x"},
        lambda content: {**content, "at": "yesterday"},
        lambda content: {**content, "next_at": 3},
        lambda content: {**content, "tries": -1},
        lambda content: {key: value for key, value in content.items() if key != "event"},
    ],
)
def test_a_damaged_entry_is_told_and_hides_no_other(spoil: Spoil, home: Home, entry: Entry) -> None:
    path = outbox.path_of(home, "ops", entry.stem)
    sound = path.read_text()
    path.with_name("b.0123abcd,1.json").write_text(sound)
    path.write_text(json.dumps(spoil(json.loads(sound))))
    (path.parent / "no entry").write_text("")
    found = list(outbox.read_all(home, dead=False))
    assert [type(each) for each in found] == [CorruptFileError, Entry]
